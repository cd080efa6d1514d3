//! A disk that fails for a while, and files that cannot be read.

use std::fs;

use bao_tree::ChunkNum;
use blob_traits::{
    BaoBatchWriter, BlobFormat, BlobStatus, EntryStatus, Error, Import, ImportExt, ImportMode, Map,
    MapEntryMut, MapExt, MapMut, Progress, Result, Store,
};
use rustix::io::Errno;

use crate::{Failure, Fault, GROUP, Lasts, Operations, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "seen_in_the_wild", for S: Store;
    entry_can_be_written_again_once_the_disk_has_recovered [needs Faults],
    failed_sync_never_makes_a_blob_complete_without_bytes [needs Faults],
    unreadable_range_of_a_stored_blob_does_not_count_as_valid [needs Faults Persistence],
    unreadable_range_of_a_referenced_file_does_not_count_as_valid,
}

/// No download takes so many operations.
const MANY: u64 = 60;

/// Writes a blob in two batches through one handle and promotes it.
async fn download<S: MapMut>(store: &S, entry: &S::EntryMut, sample: &Sample) -> Result<()> {
    let mut writer = entry.batch_writer().await?;
    let half = sample.n_groups().div_ceil(2);
    for part in [0..half, half..sample.n_groups()] {
        writer.write_batch(sample.size(), sample.items(&group_ranges(part))).await?;
        writer.sync().await?;
    }
    drop(writer);
    store.insert_complete(entry.clone()).await
}

/// Downloads under a fault and without it; tells whether the fault has struck, and how both ended.
async fn download_under<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: &S,
    sample: &Sample,
    (at, what): (u64, Operations),
) -> Result<(bool, Result<()>), Failure> {
    let faults = trial.faults()?;
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    faults.arm(Fault { at, what, lasts: Lasts::Once, errno: Errno::IO.raw_os_error() });
    let first = download(store, &entry, sample).await;
    // Who does not look at the error promotes what he has.
    let blindly = store.insert_complete(entry.clone()).await;
    faults.disarm();
    let is_complete = store.entry_status(&sample.hash).await? == EntryStatus::Complete;
    assert!(is_complete || (first.is_err() && blindly.is_err()), "{at}: acknowledged, and not complete");
    if is_complete {
        let read = store.read_verified(sample.hash, 0..u64::MAX).await;
        assert!(read.as_ref().is_ok_and(|read| *read == sample.data), "{at}: {:?}", read.err());
    }
    drop(entry);
    // A handle from before the failure may have been given up with what it had written.
    let again =
        async { download(store, &store.get_or_create(sample.hash, sample.size()).await?, sample).await };
    Ok((faults.has_fired(), again.await))
}

/// Seen the other way round, too: what the failed write should have brought was missing from a complete blob.
async fn entry_can_be_written_again_once_the_disk_has_recovered<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for at in 1..MANY {
        let sample = Sample::numbered(100_000, at);
        let (has_fired, again) = download_under(trial, &store, &sample, (at, Operations::Writes)).await?;
        assert!(again.is_ok(), "{at}: {again:?}");
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        if !has_fired {
            return Ok(());
        }
    }
    Err("there is no end of operations".into())
}

async fn failed_sync_never_makes_a_blob_complete_without_bytes<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for at in 1..MANY {
        let sample = Sample::numbered(100_000, at);
        let (has_fired, again) = download_under(trial, &store, &sample, (at, Operations::Syncs)).await?;
        match again {
            // A store that acknowledges before it syncs may refuse to go on.
            Err(Error::Failed { .. }) if has_fired => {
                trial.abandon(store);
                return Ok(());
            }
            again => again?,
        }
        if !has_fired {
            return Ok(());
        }
    }
    Err("there is no end of operations".into())
}

/// Whatever is said to be valid can be read under the very same fault.
async fn unreadable_range_of_a_stored_blob_does_not_count_as_valid<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    drop(sample.import(&store).await?);
    let store = trial.reopen(store).await?;
    let faults = trial.faults()?;
    let what = Operations::Reads;
    faults.arm(Fault { at: 1, what, lasts: Lasts::UntilDisarmed, errno: Errno::IO.raw_os_error() });
    let valid = store.verified_ranges(sample.hash).await.ok().flatten().unwrap_or_default();
    for group in 0..sample.n_groups() {
        let (from, chunk) = (group * GROUP, ChunkNum(group * 16));
        let read = store.read_range(sample.hash, from..from + GROUP).await;
        let is_there = read.as_ref().is_ok_and(|read| *read == sample.slice(from, GROUP));
        assert!(is_there || !valid.contains(&chunk), "{:?}", read.err());
    }
    faults.disarm();
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

async fn unreadable_range_of_a_referenced_file_does_not_count_as_valid<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let path = trial.user_file("file", &sample.data)?;
    let refer = ImportMode::TryReference;
    let _pinned = store.import_file(path.clone(), refer, BlobFormat::Raw, Progress::none()).await?;
    let cut = sample.size() / 2;
    fs::File::options().write(true).open(path)?.set_len(cut)?;
    let valid = store.verified_ranges(sample.hash).await.ok().flatten().unwrap_or_default();
    for chunk in (0..sample.n_chunks()).filter(|chunk| valid.contains(&ChunkNum(*chunk))) {
        let read = store.read_range(sample.hash, chunk * 1024..(chunk + 1) * 1024).await;
        assert!(
            read.as_ref().is_ok_and(|read| *read == sample.slice(chunk * 1024, 1024)),
            "{:?}",
            read.err()
        );
    }
    Ok(())
}
