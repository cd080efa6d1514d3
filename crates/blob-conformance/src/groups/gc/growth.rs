//! Hash sequences that are not complete, and that grow.

use blob_gc::GcStore;
use blob_traits::{BaoBatchWriter, EntryStatus, Import, MapEntryMut, MapMut, Store, Sweep, WriteTags};

use super::{assert_gone, assert_kept, import, samples, sequence, sweep, sweep_after, tag_seq};
use crate::{GROUP, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_partial_hashseq_root_present_children_kept,
    gc_partial_hashseq_that_grows_between_mark_and_sweep_keeps_new_children,
    gc_hashseq_that_is_completed_between_mark_and_sweep_keeps_new_children,
    gc_missing_hashseq_that_arrives_between_mark_and_sweep_keeps_children,
    gc_hashseq_replaced_between_mark_and_sweep_keeps_children,
}

/// Hashes in a chunk group.
const PER_GROUP: usize = (GROUP / 32) as usize;

/// A sequence of four chunk groups with a blob in each.
fn four_groups() -> (Vec<Sample>, Sample) {
    let children = samples(4);
    let fill = |number: usize| Sample::of(number.to_le_bytes().to_vec()).hash;
    let hashes = (0..4 * PER_GROUP).map(|at| match children.get(at / PER_GROUP) {
        Some(child) if at % PER_GROUP == 7 => child.hash,
        _ => fill(at),
    });
    let list = sequence(hashes);
    (children, list)
}

async fn gc_partial_hashseq_root_present_children_kept<S: GcStore + Import + MapMut + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (children, list) = four_groups();
    import(&store, &children).await?;
    list.write(&store, &(group_ranges(0..1) | group_ranges(2..3))).await?;
    tag_seq(&store, "seq", &list).await?;
    sweep(&store).await?;
    assert_kept(&store, children.iter().step_by(2)).await?;
    assert_gone(&store, children.iter().skip(1).step_by(2)).await?;
    assert_eq!(store.entry_status(&list.hash).await?, EntryStatus::Partial);
    Ok(())
}

async fn gc_partial_hashseq_that_grows_between_mark_and_sweep_keeps_new_children<
    S: GcStore + Import + MapMut + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (children, list) = four_groups();
    import(&store, &children).await?;
    list.write(&store, &group_ranges(0..1)).await?;
    tag_seq(&store, "seq", &list).await?;
    // A writer from before the round: nothing is pinned in it.
    let entry = store.get_or_create(list.hash, list.size()).await?;
    let items = list.items(&group_ranges(1..3));
    let write = async || {
        let mut writer = entry.batch_writer().await?;
        Ok(writer.write_batch(list.size(), items).await?)
    };
    sweep_after(&store, write).await??;
    assert_kept(&store, children.iter().take(3)).await?;
    assert_gone(&store, children.iter().skip(3)).await
}

async fn gc_hashseq_that_is_completed_between_mark_and_sweep_keeps_new_children<
    S: GcStore + Import + MapMut + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (children, list) = four_groups();
    import(&store, &children).await?;
    list.write(&store, &group_ranges(0..1)).await?;
    tag_seq(&store, "seq", &list).await?;
    let entry = store.get_or_create(list.hash, list.size()).await?;
    let complete = async || {
        list.write(&store, &group_ranges(1..4)).await?;
        Ok(store.insert_complete(entry).await?)
    };
    sweep_after(&store, complete).await??;
    assert_kept(&store, children.iter().chain([&list])).await
}

/// A tag may be set before what it names is there.
async fn gc_missing_hashseq_that_arrives_between_mark_and_sweep_keeps_children<
    S: GcStore + Import + MapMut + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (children, list) = four_groups();
    import(&store, &children).await?;
    tag_seq(&store, "seq", &list).await?;
    // As raw: that it is kept as a sequence was said before.
    sweep_after(&store, async || import(&store, [&list]).await).await??;
    assert_kept(&store, children.iter().chain([&list])).await
}

async fn gc_hashseq_replaced_between_mark_and_sweep_keeps_children<
    S: GcStore + Import + MapMut + WriteTags,
>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (children, list) = four_groups();
    let (first, rest) = children.split_at(1);
    import(&store, &children).await?;
    let other = sequence(first.iter().map(|child| child.hash));
    import(&store, [&other]).await?;
    tag_seq(&store, "seq", &other).await?;
    let replace = async || {
        list.write(&store, &group_ranges(0..4)).await?;
        tag_seq(&store, "seq", &list).await
    };
    sweep_after(&store, replace).await??;
    assert_kept(&store, rest).await
}
