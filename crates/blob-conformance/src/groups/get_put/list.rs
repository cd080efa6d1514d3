//! Listing blobs, and storing each once.

use std::{collections::BTreeSet, fs, io, path::Path};

use blob_traits::{
    BlobFormat, Delete, EntryStatus, Error, Hash, Import, ImportExt, ImportMode, ListBlobs, Map, MapMut,
    Progress, Result, Store, collect,
};
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::history::{History, steps};
use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "get_put", for S: Store;
    dedup_same_bytes_twice_one_entry,
    dedup_same_bytes_twice_takes_space_once [needs Files],
    dedup_across_import_paths_bytes_stream_file_identical_hash,
    blobs_lists_exactly_complete_entries,
    blobs_iterator_is_snapshot_under_concurrent_insert_delete,
    blobs_listed_during_changes_are_those_of_one_moment,
    blobs_lists_more_than_a_page_in_order,
}

async fn listed<S: ListBlobs>(store: &S) -> Result<Vec<Hash>> {
    collect(store.blobs().await?).await
}

/// Imports many blobs at once, and returns their hashes in order.
async fn import_all<S: Map + Import>(
    store: &S,
    samples: impl Iterator<Item = Sample>,
) -> Result<Vec<Hash>, Failure> {
    let mut importing = JoinSet::new();
    let mut hashes = BTreeSet::new();
    for sample in samples {
        let store = store.clone();
        hashes.insert(sample.hash);
        importing.spawn(async move { sample.import(&store).await.map(drop) });
    }
    while let Some(ended) = importing.join_next().await {
        ended??;
    }
    Ok(hashes.into_iter().collect())
}

async fn dedup_same_bytes_twice_one_entry<S: Map + ListBlobs + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut expected = BTreeSet::new();
    for sample in trial.ways().into_iter().map(Sample::new) {
        let first = sample.import(&store).await?;
        let second = sample.import(&store).await?;
        assert_eq!((first.hash(), second.hash()), (sample.hash, sample.hash));
        expected.insert(sample.hash);
        assert_eq!(listed(&store).await?, expected.iter().copied().collect::<Vec<_>>());
    }
    Ok(())
}

async fn dedup_same_bytes_twice_takes_space_once<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(1 << 20);
    let _first = sample.import(&store).await?;
    let before = space_below(trial.home().dir())?;
    assert!(before >= sample.size());
    let _second = sample.import(&store).await?;
    let source = stream::iter([Ok(sample.data.clone())]);
    let _third = store.import_stream(source, BlobFormat::Raw, Progress::none()).await?;
    let growth = space_below(trial.home().dir())?.saturating_sub(before);
    assert!(growth < sample.size() / 4, "{growth} bytes more");
    Ok(())
}

/// How many bytes the files below a directory have together.
fn space_below(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        total += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => space_below(&entry.path())?,
            Ok(metadata) => metadata.len(),
            // It was a temporary file.
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(e),
        };
    }
    Ok(total)
}

async fn dedup_across_import_paths_bytes_stream_file_identical_hash<S: Map + Import + ListBlobs + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sizes = trial.ways();
    let wanted = (prop::sample::select(sizes), any::<u64>(), 1..70_000_usize);
    trial
        .for_all(5, wanted, async |(size, number, piece)| {
            let sample = Sample::numbered(size, number);
            let path = trial.user_file("source", &sample.data)?;
            let pieces: Vec<_> =
                sample.data.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let raw = BlobFormat::Raw;
            let from_bytes = sample.import(&store).await?;
            let (from_stream, n) = store.import_stream(stream::iter(pieces), raw, Progress::none()).await?;
            let (from_file, m) = store.import_file(path, ImportMode::Copy, raw, Progress::none()).await?;
            assert_eq!((n, m), (sample.size(), sample.size()));
            for pinned in [from_bytes, from_stream, from_file] {
                assert_eq!(pinned.hash(), sample.hash);
            }
            assert_eq!(listed(&store).await?, [sample.hash]);
            Ok(store.delete(vec![sample.hash]).await?)
        })
        .await
}

async fn blobs_lists_exactly_complete_entries<S: MapMut + ListBlobs + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    trial
        .for_all(8, steps(), async |steps| {
            let mut history = History::new();
            for step in steps {
                history.apply(&store, step).await?;
                assert_eq!(listed(&store).await?, history.those(EntryStatus::Complete));
                let partial = collect(store.partial_blobs().await?).await?;
                assert_eq!(partial, history.those(EntryStatus::Partial));
            }
            history.end(&store).await
        })
        .await
}

async fn blobs_iterator_is_snapshot_under_concurrent_insert_delete<S: Map + ListBlobs + Import + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let before = import_all(&store, (0..40).map(|number| Sample::numbered(1000, number))).await?;
    let mut listing = store.blobs().await?;
    let changing = tokio::spawn({
        let (store, doomed) = (store.clone(), before.clone());
        async move {
            for (hash, number) in doomed.into_iter().zip(100..) {
                Sample::numbered(1000, number).import(&store).await?;
                store.delete(vec![hash]).await?;
            }
            Ok::<(), Error>(())
        }
    });
    let mut found = Vec::new();
    while let Some(hash) = listing.next().await {
        found.push(hash?);
        tokio::task::yield_now().await;
    }
    changing.await??;
    assert_eq!(found, before);
    let after: BTreeSet<_> = (100..140).map(|number| Sample::numbered(1000, number).hash).collect();
    assert_eq!(listed(&store).await?, after.into_iter().collect::<Vec<_>>());
    Ok(())
}

/// One blob comes, then the one before it goes: at each moment there are one or two neighbours.
async fn blobs_listed_during_changes_are_those_of_one_moment<S: Map + ListBlobs + Import + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let hashes: Vec<_> = (0..16).map(|number| Sample::numbered(1000, number).hash).collect();
    Sample::numbered(1000, 0).import(&store).await?;
    let changing = tokio::spawn({
        let (store, hashes) = (store.clone(), hashes.clone());
        async move {
            for (hash, number) in hashes.into_iter().zip(1..16) {
                Sample::numbered(1000, number).import(&store).await?;
                store.delete(vec![hash]).await?;
            }
            Ok::<(), Error>(())
        }
    });
    let position = |hash: &Hash| hashes.iter().position(|known| known == hash);
    while !changing.is_finished() {
        let found = listed(&store).await?;
        let at: Vec<_> = found.iter().filter_map(position).collect();
        let is_one_moment = match *at {
            [_] => true,
            [a, b] => a.abs_diff(b) == 1,
            _ => false,
        };
        assert!(is_one_moment && at.len() == found.len(), "{at:?}");
        tokio::task::yield_now().await;
    }
    changing.await??;
    Ok(())
}

/// More than a store would read in one go, and some of the last ones change meanwhile.
async fn blobs_lists_more_than_a_page_in_order<S: Map + ListBlobs + Import + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let before = import_all(&store, (0..1100).map(|number| Sample::numbered(10, number))).await?;
    let mut listing = store.blobs().await?;
    let first = listing.next().await.transpose()?;
    assert_eq!(first.as_ref(), before.first());
    store.delete(before.iter().rev().step_by(2).copied().collect()).await?;
    let _more = import_all(&store, (5000..5020).map(|number| Sample::numbered(10, number))).await?;
    let rest = collect(listing).await?;
    assert_eq!(rest, before.get(1..).unwrap_or_default());
    Ok(())
}
