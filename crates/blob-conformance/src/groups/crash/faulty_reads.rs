//! Faults while reading, and what goes on while nothing can be written.

use blob_traits::{
    BaoBatchWriter, EntryStatus, Error, ExportMode, HashAndFormat, MapEntryMut, Progress, Result, Store,
    bao_tree::ChunkRanges, collect,
};
use bytes::Bytes;

use super::sweep::{EIO, ENOSPC};
use crate::{
    Fault, Lasts, Operations, Outcome, Sample, Trial, case::group, error_of, group_ranges,
    ledger::everything_verifies,
};

group! {
    "crash", for S: Store;
    eio_at_every_op_once_and_sticky_reading [needs Faults],
    eio_at_every_op_once_and_sticky_export_bao [needs Faults],
    eio_while_reading_a_partial_blob_is_not_taken_for_missing [needs Faults],
    what_is_stored_is_read_while_nothing_can_be_written [needs Faults],
    failed_sync_of_a_writer_is_reported [needs Faults],
    failed_export_leaves_nothing_beside_the_target [needs Faults],
}

/// No read takes more operations than this.
const MOST: u64 = 30;

/// Lets operation 1, 2, 3, ... of each read fail: it says so or is right, and is right afterwards.
async fn reads_fail_or_are_right<S: Store>(
    trial: &Trial<S>,
    samples: &[Sample],
    read: impl AsyncFn(&Sample) -> Result<Bytes>,
    right: impl Fn(&Sample) -> Bytes,
) -> Outcome {
    let faults = trial.faults()?;
    for sample in samples {
        let right = right(sample);
        for lasts in [Lasts::Once, Lasts::UntilDisarmed] {
            for at in 1..=MOST {
                faults.arm(Fault { at, what: Operations::Reads, lasts, errno: EIO });
                let done = read(sample).await;
                faults.disarm();
                match done {
                    Ok(bytes) => assert!(bytes == right, "wrong bytes when read {at} fails"),
                    Err(Error::Io { .. }) if faults.has_fired() => {}
                    Err(other) => return Err(format!("{other:?} when read {at} fails").into()),
                }
                assert!(read(sample).await? == right, "wrong bytes after read {at} has failed");
                if !faults.has_fired() {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Blobs of each way, durable.
async fn filled<S: Store>(trial: &Trial<S>, store: &S) -> Result<Vec<Sample>> {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        sample.import(store).await?;
    }
    store.sync().await?;
    Ok(samples)
}

async fn eio_at_every_op_once_and_sticky_reading<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let samples = filled(trial, &store).await?;
    let read = async |sample: &Sample| store.read_to_bytes(sample.hash).await;
    reads_fail_or_are_right(trial, &samples, read, |sample| sample.data.clone()).await
}

async fn eio_at_every_op_once_and_sticky_export_bao<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let samples = filled(trial, &store).await?;
    let ranges = group_ranges(0..3);
    let read =
        async |sample: &Sample| Ok(store.export_bao(sample.hash, ranges.clone(), Vec::new()).await?.into());
    reads_fail_or_are_right(trial, &samples, read, |sample| sample.encode(&ranges)).await
}

async fn eio_while_reading_a_partial_blob_is_not_taken_for_missing<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = [Sample::new(100_000), Sample::new(trial.large() + 100_000)];
    let two = group_ranges(0..2);
    for sample in &samples {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&two)).await?;
        writer.sync().await?;
    }
    let read = async |sample: &Sample| {
        assert_eq!(store.present_ranges(&sample.hash).await?, Some(two.clone()));
        store.read_range(sample.hash, 0..30_000).await
    };
    reads_fail_or_are_right(trial, &samples, read, |sample| sample.slice(0, 30_000)).await
}

/// A full disk is no reason to serve nothing.
async fn what_is_stored_is_read_while_nothing_can_be_written<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (faults, samples) = (trial.faults()?, filled(trial, &store).await?);
    let tag = store.create_tag(HashAndFormat::raw(samples.first().ok_or("none")?.hash)).await?;
    let fault = Fault { at: 1, what: Operations::Writes, lasts: Lasts::UntilDisarmed, errno: ENOSPC };
    faults.arm(fault);
    let new = Sample::numbered(trial.large(), 1);
    let refused = new.import(&store).await;
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    for sample in &samples {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    everything_verifies(&store).await?;
    assert_eq!(collect(store.tags(..).await?).await?.len(), 1);
    assert!(store.get_tag(&tag).await?.is_some());
    assert_eq!(store.entry_status(&new.hash).await?, EntryStatus::NotFound);
    faults.disarm();
    Ok(())
}

/// The first sync after a write is the one that the system tells of the failure; the first of a blob, and a later one.
async fn failed_sync_of_a_writer_is_reported<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let faults = trial.faults()?;
    for (number, synced) in [(1, group_ranges(0..0)), (2, group_ranges(0..1))] {
        let sample = Sample::numbered(100_000, number);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        if !synced.is_empty() {
            writer.write_batch(sample.size(), sample.items(&synced)).await?;
            writer.sync().await?;
        }
        writer.write_batch(sample.size(), sample.items(&group_ranges(1..2))).await?;
        faults.arm(Fault { at: 1, what: Operations::Syncs, lasts: Lasts::Once, errno: EIO });
        let failed = writer.sync().await;
        faults.disarm();
        assert!(faults.has_fired(), "it did not sync anything");
        assert!(matches!(error_of(failed), Error::Io { .. }));
        drop((writer, entry));
        let present = store.present_ranges(&sample.hash).await?.unwrap_or_else(ChunkRanges::empty);
        assert!(synced.is_subset(&present), "what was durable is gone");
        // What was refused is written again, and then it holds.
        let (all, stream) = (ChunkRanges::all(), sample.encode(&ChunkRanges::all()));
        store.import_bao(sample.hash, sample.size(), all, stream).await?;
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

/// One operation fails, so that the store can clear away what it began.
async fn failed_export_leaves_nothing_beside_the_target<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let (faults, samples) = (trial.faults()?, filled(trial, &store).await?);
    for sample in samples {
        for (what, errno) in [(Operations::Writes, ENOSPC), (Operations::Syncs, EIO)] {
            for at in 1..=MOST {
                faults.arm(Fault { at, what, lasts: Lasts::Once, errno });
                let target = trial.user(&format!("{at}"));
                let done =
                    store.export(sample.hash, target.clone(), ExportMode::Copy, Progress::none()).await;
                faults.disarm();
                if done.is_ok() || target.exists() {
                    assert!(std::fs::read(&target)? == sample.data, "half a file");
                    std::fs::remove_file(&target)?;
                }
                assert_eq!(trial.user_names()?, Vec::<String>::new(), "when operation {at} fails");
                if !faults.has_fired() {
                    done?;
                    break;
                }
            }
        }
    }
    Ok(())
}
