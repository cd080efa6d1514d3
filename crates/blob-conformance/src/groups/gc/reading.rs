//! Hash sequences that cannot be read, that are none, and that are huge.

use blob_gc::{Event, GcError, GcMarkEvent, GcOptions, GcStore, UnreadableSequences, collect};
use blob_traits::{
    BlobFormat, EntryStatus, Hash, Import, ImportExt, MapMut, Progress, Store, Sweep, WriteTags,
};
use bytes::Bytes;

use super::{all, assert_gone, assert_kept, import, samples, sequence, sweep, sweep_after, tag_seq};
use crate::{Fault, Lasts, Operations, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_mark_read_error_aborts_sweep_nothing_deleted [needs Faults],
    gc_partial_hashseq_read_error_aborts_sweep_nothing_deleted [needs Faults],
    gc_malformed_hashseq_len_not_multiple_of_32_aborts_or_protects,
    gc_malformed_hashseq_reached_while_sweeping_ends_the_round,
    gc_hashseq_with_many_children_in_little_memory,
    gc_hashseq_10m_children_bounded_memory [deep],
}

const EIO: i32 = 5;

async fn gc_mark_read_error_aborts_sweep_nothing_deleted<S: GcStore + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(3);
    let list = long_list(&children, trial.large());
    import(&store, children.iter().chain([&list])).await?;
    tag_seq(&store, "seq", &list).await?;
    fail_each_read(trial, &store, children.iter().chain([&list])).await
}

/// What is there of a partial sequence has to be read, too; a moment's failure does not take it away.
async fn gc_partial_hashseq_read_error_aborts_sweep_nothing_deleted<
    S: GcStore + Import + MapMut + WriteTags,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(3);
    let list = long_list(&children, trial.large());
    import(&store, &children).await?;
    // The last chunk group is missing.
    list.write(&store, &group_ranges(0..list.n_groups() - 1)).await?;
    tag_seq(&store, "seq", &list).await?;
    assert_eq!(store.entry_status(&list.hash).await?, EntryStatus::Partial);
    fail_each_read(trial, &store, &children).await
}

/// A sequence of some bytes with the children among its first.
fn long_list(children: &[Sample], n_bytes: usize) -> Sample {
    let fill = |number: usize| Sample::of(number.to_le_bytes().to_vec()).hash;
    let known = children.iter().map(|child| child.hash);
    sequence(known.chain((0..n_bytes / 32).map(fill)))
}

/// Collects again and again while reads fail, until marking has ended. What fails may end the round, or be made good by
/// the store; it never takes away what is live.
async fn fail_each_read<'a, S: GcStore + Import>(
    trial: &Trial<S>,
    store: &S,
    live: impl IntoIterator<Item = &'a Sample> + Clone,
) -> Outcome {
    let garbage = Sample::numbered(100, 99);
    let mut n_failed = 0;
    for (at, lasts) in
        [1, 2, 3, 5, 10].into_iter().flat_map(|at| [(at, Lasts::Once), (at, Lasts::UntilDisarmed)])
    {
        import(store, [&garbage]).await?;
        let faults = trial.faults()?;
        let disarm = faults.clone();
        let progress = Progress::from_fn(move |event| {
            if matches!(event, Event::Mark(GcMarkEvent::Marked { .. })) {
                disarm.disarm();
            }
            Ok(())
        });
        faults.arm(Fault { at, what: Operations::Reads, lasts, errno: EIO });
        let collected = collect(store, all(), progress).await;
        faults.disarm();
        assert_kept(store, live.clone()).await?;
        match collected {
            Ok(_) => assert_gone(store, [&garbage]).await?,
            Err(_) => assert_kept(store, [&garbage]).await?,
        }
        n_failed += u32::from(collected.is_err());
    }
    assert!(n_failed > 0, "no read has failed, or nobody has cared");
    Ok(())
}

async fn gc_malformed_hashseq_len_not_multiple_of_32_aborts_or_protects<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(2);
    let mut bytes: Vec<u8> = children.iter().flat_map(|child| *child.hash.as_bytes()).collect();
    bytes.push(1);
    let (list, garbage) = (Sample::of(bytes), Sample::new(200));
    import(&store, children.iter().chain([&list, &garbage])).await?;
    tag_seq(&store, "seq", &list).await?;
    let refused = sweep(&store).await;
    assert!(matches!(refused, Err(GcError::MalformedSequence { hash, size: 65 }) if hash == list.hash));
    assert_kept(&store, children.iter().chain([&list, &garbage])).await?;

    let mut options = GcOptions::default();
    options.unreadable = UnreadableSequences::KeepWhatCanBeRead;
    collect(&store, options, Progress::none()).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    assert_gone(&store, [&garbage]).await
}

async fn gc_malformed_hashseq_reached_while_sweeping_ends_the_round<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (malformed, garbage) = (Sample::new(33), Sample::new(200));
    import(&store, [&malformed, &garbage]).await?;
    let collected = sweep_after(&store, async || tag_seq(&store, "seq", &malformed).await).await?;
    assert!(matches!(collected, Err(GcError::MalformedSequence { .. })));
    assert_kept(&store, [&malformed, &garbage]).await
}

async fn gc_hashseq_with_many_children_in_little_memory<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    const N_FILL: usize = 20_000;
    let (children, garbage) = (samples(20), (100..120).map(|n| Sample::numbered(100, n)).collect::<Vec<_>>());
    let list = long_list(&children, N_FILL * 32);
    import(&store, children.iter().chain(&garbage).chain([&list])).await?;
    tag_seq(&store, "seq", &list).await?;
    let mut options = all();
    options.max_memory = N_FILL * 2;
    let report = collect(&store, options, Progress::none()).await?;
    assert_kept(&store, children.iter().chain([&list])).await?;
    assert_gone(&store, &garbage).await?;
    // 16 bytes for each would be 8 times as much.
    assert!(report.n_passes >= 8, "{} passes", report.n_passes);
    assert_eq!(report.n_live, N_FILL as u64 + 21);
    assert_eq!((report.n_seen, report.n_sequences), (41, 1));
    Ok(())
}

/// 320 MB of hashes, marked with 16 MiB.
async fn gc_hashseq_10m_children_bounded_memory<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    const N: u64 = 10_000_000;
    const PER_PIECE: u64 = 10_000;
    let (child, garbage) = (Sample::new(100), Sample::new(200));
    import(&store, [&child, &garbage]).await?;
    let last = child.hash;
    let pieces = futures_lite::stream::iter((0..N / PER_PIECE).map(move |piece| {
        let numbers = piece * PER_PIECE + 1..(piece + 1) * PER_PIECE + 1;
        let hash = |n: u64| if n == N { last } else { Hash::new(n.to_le_bytes()) };
        Ok(Bytes::from(numbers.flat_map(|n| *hash(n).as_bytes()).collect::<Vec<_>>()))
    }));
    let (pinned, size) = store.import_stream(pieces, BlobFormat::HashSeq, Progress::none()).await?;
    assert_eq!(size, N * 32);
    let mut options = GcOptions::default();
    options.max_memory = 16 << 20;
    let report = collect(&store, options, Progress::none()).await?;
    drop(pinned);
    assert_eq!(report.n_live, N + 1);
    assert_kept(&store, [&child]).await?;
    assert_gone(&store, [&garbage]).await
}
