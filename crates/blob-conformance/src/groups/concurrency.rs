//! Many tasks at once.

use std::time::Duration;

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobFormat, BlobStatus, Delete, EntryStatus, Error, Import, ImportExt, ListBlobs, Map, MapEntry, MapExt,
    MapMut, Progress, ReadBlob, Result, Store, TempTags, WriteTags, collect,
};
use bytes::Bytes;
use futures_lite::stream;
use tokio::{
    sync::watch,
    task::{JoinSet, yield_now},
};

use crate::{Failure, Outcome, ProcessLimit, Sample, Trial, case::group, group_ranges};

/// Nothing here takes so long, unless it hangs.
const PATIENCE: Duration = Duration::from_mins(1);

group! {
    "concurrency", for S: Store;
    readers_while_insert_complete_promotes,
    delete_vs_reimport_same_hash,
    delete_vs_partial_write_same_hash,
    sync_entry_status_from_inside_runtime_no_deadlock,
    many_open_entries_exceeding_fd_limit_works [needs Files],
    drop_store_while_ops_running_no_hang_no_panic,
    drop_store_while_handles_live_no_hang_no_panic,
    one_blob_imported_and_read_by_many_at_once,
}

/// Waits for all tasks, but not for ever.
async fn join(mut tasks: JoinSet<Result<()>>) -> Outcome {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await.map_err(|_| "it hangs")?
}

/// Reads until the blob is complete. What is missing may be refused, but nothing wrong may be read.
async fn read_until_complete<S: Map>(
    store: S,
    entry: impl MapEntry,
    sample: Sample,
    mut is_complete: watch::Receiver<bool>,
) -> Result<()> {
    let mut early = entry.data_reader().await?;
    loop {
        let is_over = *is_complete.borrow_and_update();
        let fresh = store.existing(sample.hash).await?.data_reader().await?.read_range(0, usize::MAX).await;
        for group in 0..sample.n_groups() {
            let (start, len) = (group * crate::GROUP, 16 << 10);
            match early.read_range(start, len).await.map_err(Error::from) {
                Ok(bytes) => assert!(bytes == sample.slice(start, crate::GROUP), "wrong bytes"),
                Err(Error::Incomplete { .. }) if !is_over => {}
                Err(other) => return Err(other),
            }
        }
        match fresh.map_err(Error::from) {
            Ok(bytes) => assert!(bytes == sample.data, "wrong bytes"),
            Err(Error::Incomplete { .. }) if !is_over => {}
            Err(other) => return Err(other),
        }
        if is_over {
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
            return Ok(());
        }
        yield_now().await;
    }
}

async fn readers_while_insert_complete_promotes<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in [100_000, trial.large().min(1 << 20)].map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let (complete, is_complete) = watch::channel(false);
        let mut readers = JoinSet::new();
        for _ in 0..3 {
            let (store, entry, sample) = (store.clone(), entry.clone(), sample.clone());
            readers.spawn(read_until_complete(store, entry, sample, is_complete.clone()));
        }
        for group in (0..sample.n_groups()).rev() {
            // Few steps, so that a large blob takes no longer.
            if group < 8 || group == sample.n_groups() - 1 {
                sample.write(&store, &group_ranges(group..group + 1)).await?;
                yield_now().await;
            }
        }
        sample.write(&store, &ChunkRanges::all()).await?;
        store.insert_complete(entry).await?;
        complete.send(true)?;
        join(readers).await?;
    }
    Ok(())
}

/// The blob is there as a whole or not at all, and what comes last counts.
async fn delete_vs_reimport_same_hash<S: Map + BlobStatus + ListBlobs + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().filter(|size| *size < 1 << 20).map(Sample::new) {
        for _ in 0..3 {
            let mut tasks = JoinSet::new();
            for task in 0..6 {
                let (store, sample) = (store.clone(), sample.clone());
                tasks.spawn(async move {
                    for round in 0..4 {
                        match (task + round) % 3 {
                            0 => store.delete(vec![sample.hash]).await?,
                            1 => drop(sample.import(&store).await?),
                            _ => check_whole_or_gone(&store, &sample).await?,
                        }
                    }
                    Ok(())
                });
            }
            join(tasks).await?;
            check_whole_or_gone(&store, &sample).await?;
            assert!(collect(store.partial_blobs().await?).await?.is_empty());
            let _pinned = sample.import(&store).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
            store.delete(vec![sample.hash]).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
        }
    }
    Ok(())
}

async fn check_whole_or_gone<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Result<()> {
    assert_ne!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    match store.read_to_bytes(sample.hash).await {
        Ok(bytes) => assert!(bytes == sample.data, "wrong bytes"),
        Err(Error::NotFound { .. }) => {}
        Err(other) => return Err(other),
    }
    Ok(())
}

/// A download whose blob is deleted under it either says so or has begun anew: it never ends in a complete blob that
/// lacks bytes.
async fn delete_vs_partial_write_same_hash<S: MapMut + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large().min(300_000));
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let (store, sample) = (store.clone(), sample.clone());
        tasks.spawn(async move {
            for round in 0..6 {
                if (task + round) % 4 == 0 {
                    store.delete(vec![sample.hash]).await?;
                    continue;
                }
                match download(&store, &sample).await {
                    Ok(())
                    | Err(Error::NotFound { .. } | Error::Incomplete { .. } | Error::SizeUnverified { .. }) =>
                        {}
                    Err(other) => return Err(other),
                }
                if store.entry_status(&sample.hash).await? == EntryStatus::Complete {
                    match store.read_verified(sample.hash, 0..u64::MAX).await {
                        Ok(bytes) => assert!(bytes == sample.data, "wrong bytes"),
                        // It was deleted, or begun anew, in between.
                        Err(Error::NotFound { .. } | Error::Incomplete { .. }) => {}
                        Err(other) => return Err(other),
                    }
                }
            }
            Ok(())
        });
    }
    join(tasks).await?;
    download(&store, &sample).await?;
    assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
    Ok(())
}

async fn download<S: MapMut>(store: &S, sample: &Sample) -> Result<()> {
    let middle = sample.n_groups() / 2;
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    sample.write(store, &group_ranges(middle..sample.n_groups())).await?;
    yield_now().await;
    sample.write(store, &group_ranges(0..middle)).await?;
    store.insert_complete(entry).await
}

async fn sync_entry_status_from_inside_runtime_no_deadlock<S: MapMut + BlobStatus + Import + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..6 {
                let sample = Sample::numbered(70_000, task * 100 + round);
                assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::NotFound);
                sample.write(&store, &group_ranges(0..1)).await?;
                assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::Partial);
                sample.import(&store).await?;
                assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::Complete);
                store.delete(vec![sample.hash]).await?;
                assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::NotFound);
            }
            Ok(())
        });
    }
    join(tasks).await
}

async fn many_open_entries_exceeding_fd_limit_works<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    if !trial.is_alone(ProcessLimit::OpenFiles(64))? {
        return Ok(());
    }
    let samples: Vec<_> = (0..100).map(|number| Sample::numbered(100_000, number)).collect();
    let (mut entries, mut readers) = (Vec::new(), Vec::new());
    for sample in &samples {
        sample.import(&store).await?;
        let entry = store.existing(sample.hash).await?;
        readers.push(entry.data_reader().await?);
        entries.push(entry);
    }
    for (reader, sample) in readers.iter_mut().zip(&samples) {
        assert_eq!(reader.read_range(50_000, 100).await?, sample.slice(50_000, 100));
    }
    for (entry, sample) in entries.iter().zip(&samples) {
        entry.outboard().await?;
        assert_eq!(entry.data_reader().await?.read_range(0, usize::MAX).await?, sample.data);
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
    }
    Ok(())
}

/// Calls of all kinds, one after the other, for as long as the store takes them.
async fn work<S: MapMut + Import + WriteTags + ListBlobs + Delete>(store: S, task: u64) -> Result<()> {
    for round in 0..8 {
        let sample = Sample::numbered(100_000, task * 100 + round);
        let pieces = sample.data.chunks(30_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let pieces: Vec<_> = pieces.collect();
        let (tag, _) = store.import_stream(stream::iter(pieces), BlobFormat::Raw, Progress::none()).await?;
        store.create_tag(tag.hash_and_format()).await?;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
        download(&store, &Sample::numbered(70_000, task * 100 + round)).await?;
        collect(store.blobs().await?).await?;
        store.delete(vec![sample.hash]).await?;
    }
    Ok(())
}

async fn drop_store_while_ops_running_no_hang_no_panic<
    S: MapMut + Import + WriteTags + ListBlobs + Delete,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        tasks.spawn(work(store.clone(), task));
    }
    let mut cut_off: Vec<_> = (6..12).map(|task| tokio::spawn(work(store.clone(), task))).collect();
    trial.abandon(store);
    for (task, n_yields) in cut_off.iter_mut().zip([0, 1, 3, 10, 30, 100]) {
        for _ in 0..n_yields {
            yield_now().await;
        }
        task.abort();
    }
    for task in cut_off {
        match tokio::time::timeout(PATIENCE, task).await.map_err(|_| "it hangs")? {
            Ok(done) => done?,
            Err(ended) => assert!(ended.is_cancelled(), "{ended}"),
        }
    }
    // Those that have a store of their own go on to the end.
    join(tasks).await?;
    trial.open(trial.home()).await?;
    Ok(())
}

/// Without its store a handle may refuse to read, but does not read anything wrong.
async fn drop_store_while_handles_live_no_hang_no_panic<S: MapMut + Import + ListBlobs + TempTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (whole, part) = (Sample::new(trial.large()), Sample::numbered(100_000, 1));
    let tag = whole.import(&store).await?;
    let entry = store.existing(whole.hash).await?;
    let mut reader = entry.data_reader().await?;
    part.write(&store, &group_ranges(0..2)).await?;
    let writing = store.get_or_create(part.hash, part.size()).await?;
    let listing = store.blobs().await?;
    trial.abandon(store);
    let reads = async {
        let late = match entry.data_reader().await {
            Ok(mut late) => late.read_range(0, 1000).await,
            Err(e) => Err(e),
        };
        for read in [reader.read_range(0, 1000).await, late] {
            assert!(read.is_err() || read.is_ok_and(|bytes| bytes == whole.slice(0, 1000)), "wrong bytes");
        }
        if let Ok(listed) = collect(listing).await {
            assert_eq!(listed, [whole.hash]);
        }
        Ok::<(), Failure>(())
    };
    tokio::time::timeout(PATIENCE, reads).await.map_err(|_| "it hangs")??;
    drop((tag, entry, reader, writing));
    trial.open(trial.home()).await?;
    Ok(())
}

async fn one_blob_imported_and_read_by_many_at_once<S: Map + BlobStatus + ListBlobs + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().filter(|size| *size < 1 << 20).map(Sample::new) {
        let mut tasks = JoinSet::new();
        for _ in 0..40 {
            let (store, sample) = (store.clone(), sample.clone());
            tasks.spawn(async move {
                let tag = sample.import(&store).await?;
                // Acknowledged to this one, whoever stored it.
                assert_eq!(store.entry_status(&tag.hash()).await?, EntryStatus::Complete);
                assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
                Ok(())
            });
        }
        join(tasks).await?;
        assert!(collect(store.blobs().await?).await?.contains(&sample.hash));
    }
    Ok(())
}
