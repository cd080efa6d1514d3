//! What a round keeps, and what it deletes.

use blob_gc::{GcStore, collect_protecting};
use blob_traits::{HashAndFormat, Import, MapMut, Progress, Store, Sweep, WriteTags};

use super::{all, assert_gone, assert_kept, import, samples, sequence, sweep, tag_raw, tag_seq};
use crate::{Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_deletes_untagged_complete,
    gc_deletes_untagged_partial,
    gc_keeps_tagged_raw_but_not_its_content_as_hashseq,
    gc_keeps_hashseq_and_children,
    gc_hashseq_children_not_recursed_nested,
    gc_raw_and_hashseq_tag_same_hash_children_kept,
    gc_protected_cb_hash_also_hashseq_tag_children_kept,
    gc_protection_of_a_hash_sequence_covers_its_children,
    gc_child_of_a_is_also_hashseq_root_children_kept,
    gc_tag_to_a_missing_blob_is_counted_and_no_error,
    gc_what_was_collected_can_be_imported_again,
    tag_delete_then_gc_frees,
    tag_overwritten_then_gc_frees_the_old_root,
}

async fn gc_deletes_untagged_complete<S: GcStore + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let live = Sample::numbered(2000, 1);
    import(&store, [&live]).await?;
    tag_raw(&store, "live", &live).await?;
    let garbage: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &garbage).await?;
    let report = sweep(&store).await?;
    assert_gone(&store, &garbage).await?;
    assert_kept(&store, [&live]).await?;
    let swept = report.swept;
    assert_eq!((swept.n_complete, swept.n_partial), (garbage.len() as u64, 0));
    assert_eq!(swept.logical_bytes, garbage.iter().map(Sample::size).sum::<u64>());
    assert_eq!((report.n_roots, report.n_live, report.n_put_off), (1, 1, 0));
    Ok(())
}

async fn gc_deletes_untagged_partial<S: GcStore + MapMut + WriteTags>(trial: &Trial<S>, store: S) -> Outcome {
    let live = Sample::numbered(100_000, 1);
    live.write(&store, &group_ranges(1..2)).await?;
    tag_raw(&store, "live", &live).await?;
    let garbage = [Sample::new(100_000), Sample::numbered(trial.large(), 3)];
    for sample in &garbage {
        sample.write(&store, &group_ranges(0..2)).await?;
    }
    let begun = Sample::numbered(5000, 2);
    store.get_or_create(begun.hash, begun.size()).await?;
    let report = sweep(&store).await?;
    assert_gone(&store, garbage.iter().chain([&begun])).await?;
    assert_eq!((report.swept.n_complete, report.swept.n_partial), (0, 3));
    let present = store.present_ranges(&live.hash).await?;
    assert_eq!(present, Some(group_ranges(1..2)));
    Ok(())
}

async fn gc_keeps_tagged_raw_but_not_its_content_as_hashseq<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(3);
    let list = sequence(children.iter().map(|child| child.hash));
    import(&store, children.iter().chain([&list])).await?;
    tag_raw(&store, "raw", &list).await?;
    sweep(&store).await?;
    assert_kept(&store, [&list]).await?;
    assert_gone(&store, &children).await
}

/// Small and large children, and a sequence of several chunk groups that also lists what is not there.
async fn gc_keeps_hashseq_and_children<S: GcStore + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut children = samples(10);
    children.extend(trial.ways().into_iter().map(Sample::new));
    let missing = (0..5000_u64).map(|i| Sample::of(i.to_le_bytes().to_vec()).hash);
    let (before, after) = children.split_at(children.len() / 2);
    let known = |part: &[Sample]| part.iter().map(|child| child.hash).collect::<Vec<_>>();
    let hashes = known(before).into_iter().chain(missing).chain(known(after));
    let list = sequence(hashes);
    let garbage = Sample::numbered(100, 77);
    import(&store, children.iter().chain([&list, &garbage])).await?;
    tag_seq(&store, "seq", &list).await?;
    let report = sweep(&store).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    assert_gone(&store, [&garbage]).await?;
    assert_eq!((report.n_sequences, report.n_live), (1, children.len() as u64 + 5001));
    Ok(())
}

async fn gc_hashseq_children_not_recursed_nested<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let leaf = Sample::new(100);
    let inner = sequence([leaf.hash]);
    let outer = sequence([inner.hash]);
    import(&store, [&leaf, &inner, &outer]).await?;
    tag_seq(&store, "outer", &outer).await?;
    sweep(&store).await?;
    assert_kept(&store, [&inner, &outer]).await?;
    assert_gone(&store, [&leaf]).await
}

/// In both orders of the names, so that neither the first nor the last tag of a hash decides.
async fn gc_raw_and_hashseq_tag_same_hash_children_kept<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(4);
    let (left, right) = children.split_at(2);
    let [one, other] = [left, right].map(|part| sequence(part.iter().map(|child| child.hash)));
    import(&store, children.iter().chain([&one, &other])).await?;
    tag_raw(&store, "a", &one).await?;
    tag_seq(&store, "b", &one).await?;
    tag_seq(&store, "c", &other).await?;
    tag_raw(&store, "d", &other).await?;
    sweep(&store).await?;
    assert_kept(&store, children.iter().chain([&one, &other])).await
}

async fn gc_protected_cb_hash_also_hashseq_tag_children_kept<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(100);
    let list = sequence([child.hash]);
    import(&store, [&child, &list]).await?;
    tag_seq(&store, "seq", &list).await?;
    let protected = vec![HashAndFormat::raw(list.hash)];
    collect_protecting(&store, all(), Progress::none(), async || Ok(protected)).await?;
    assert_kept(&store, [&child, &list]).await
}

async fn gc_protection_of_a_hash_sequence_covers_its_children<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(2);
    let list = sequence(children.iter().map(|child| child.hash));
    let garbage = Sample::new(200);
    import(&store, children.iter().chain([&list, &garbage])).await?;
    // A tag of the other format does not take the protection away.
    tag_raw(&store, "raw", &list).await?;
    let protected = vec![HashAndFormat::hash_seq(list.hash)];
    collect_protecting(&store, all(), Progress::none(), async || Ok(protected)).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    assert_gone(&store, [&garbage]).await
}

async fn gc_child_of_a_is_also_hashseq_root_children_kept<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let leaf = Sample::new(100);
    let inner = sequence([leaf.hash]);
    let outer = sequence([inner.hash]);
    import(&store, [&leaf, &inner, &outer]).await?;
    tag_seq(&store, "a", &outer).await?;
    tag_seq(&store, "b", &inner).await?;
    sweep(&store).await?;
    assert_kept(&store, [&leaf, &inner, &outer]).await
}

async fn gc_tag_to_a_missing_blob_is_counted_and_no_error<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let garbage = Sample::new(100);
    import(&store, [&garbage]).await?;
    tag_raw(&store, "raw", &Sample::new(200)).await?;
    tag_seq(&store, "seq", &Sample::new(320)).await?;
    let report = sweep(&store).await?;
    assert_eq!((report.n_roots, report.n_missing), (2, 2));
    assert_gone(&store, [&garbage]).await
}

async fn gc_what_was_collected_can_be_imported_again<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let garbage: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for _ in 0..2 {
        import(&store, &garbage).await?;
        assert_kept(&store, &garbage).await?;
        sweep(&store).await?;
        assert_gone(&store, &garbage).await?;
    }
    Ok(())
}

async fn tag_delete_then_gc_frees<S: GcStore + Import + WriteTags>(_: &Trial<S>, store: S) -> Outcome {
    let children = samples(2);
    let list = sequence(children.iter().map(|child| child.hash));
    import(&store, children.iter().chain([&list])).await?;
    tag_seq(&store, "seq", &list).await?;
    sweep(&store).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    store.set_tag("seq".into(), None).await?;
    sweep(&store).await?;
    assert_gone(&store, children.iter().chain([&list])).await
}

async fn tag_overwritten_then_gc_frees_the_old_root<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [old, new] = [1, 2].map(|number| Sample::numbered(100, number));
    import(&store, [&old, &new]).await?;
    tag_raw(&store, "tag", &old).await?;
    tag_raw(&store, "tag", &new).await?;
    sweep(&store).await?;
    assert_kept(&store, [&new]).await?;
    assert_gone(&store, [&old]).await
}
