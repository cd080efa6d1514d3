//! Blobs that arrive in parts: what they leave behind, and what becomes of them when they are deleted meanwhile.

use std::{fs, path::Path};

use blob_traits::{
    BaoBatchWriter, BlobStatus, CheckMode, Delete, EntryStatus, Error, Import, ListBlobs, Map, MapEntry,
    MapEntryMut, MapExt, MapMut, Store, collect,
};

use crate::{
    GROUP, Outcome, Sample, Trial, case::group, chunks, group_ranges, groups::consistency_check::troubles,
};

group! {
    "seen_in_the_wild", for S: Store;
    partial_blob_that_is_imported_is_partial_no_more,
    partial_blob_that_becomes_complete_leaves_no_files_behind [needs Files Persistence],
    every_file_is_accounted_for_after_collection_and_compaction [needs Files Persistence],
    deletion_during_a_download_never_ends_in_complete_without_bytes,
    deletion_at_any_moment_of_a_download_never_ends_in_complete_without_bytes,
    entry_that_was_never_written_is_not_promoted,
    complete_entry_handed_out_for_writing_stays_complete,
}

async fn partial_blob_that_is_imported_is_partial_no_more<S: MapMut + Import + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut hashes = Vec::new();
    for sample in trial.ways().into_iter().map(|size| Sample::new(size.max(20_000))) {
        sample.write(&store, &group_ranges(0..1)).await?;
        assert_eq!(collect(store.partial_blobs().await?).await?, [sample.hash]);
        let _pinned = sample.import(&store).await?;
        assert!(collect(store.partial_blobs().await?).await?.is_empty());
        hashes.push(sample.hash);
    }
    hashes.sort();
    hashes.dedup();
    assert_eq!(collect(store.blobs().await?).await?, hashes);
    Ok(())
}

/// How many bytes the files below a directory have.
fn bytes_below(dir: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        sum +=
            if entry.file_type()?.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

/// Compared with a store that has never had a part of a blob.
async fn partial_blob_that_becomes_complete_leaves_no_files_behind<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = [Sample::new(trial.large()), Sample::new(trial.large() + 1)];
    let other_home = trial.other_home("whole at once");
    let other = trial.open(&other_home).await?;
    for sample in &samples {
        drop(sample.import(&other).await?);
    }
    other.shutdown().await?;
    drop(other);
    let [imported, in_one_batch] = &samples;
    imported.write(&store, &group_ranges(0..imported.n_groups() - 1)).await?;
    store.sync().await?;
    drop(imported.import(&store).await?);
    in_one_batch.write(&store, &chunks(0..in_one_batch.n_chunks())).await?;
    let entry = store.get_or_create(in_one_batch.hash, in_one_batch.size()).await?;
    store.insert_complete(entry).await?;
    // Work that was put off gets its chance.
    let store = trial.reopen(store).await?;
    store.shutdown().await?;
    let (found, expected) = (bytes_below(trial.home().dir())?, bytes_below(other_home.dir())?);
    let most = expected + in_one_batch.size() / 2;
    assert!(found < most, "{found} bytes, where {expected} are enough");
    Ok(())
}

/// Whatever is said to be there is there.
async fn check_honest<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    if store.entry_status(&sample.hash).await? == EntryStatus::Complete {
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    let present = store.present_ranges(&sample.hash).await?.unwrap_or_default();
    for group in 0..sample.n_groups() {
        let (from, end) = (group * GROUP, chunks(0..sample.n_chunks()));
        if present.is_superset(&(group_ranges(group..group + 1) & end)) {
            let read = store.read_range(sample.hash, from..from + GROUP).await?;
            assert!(read == sample.slice(from, GROUP), "wrong bytes at {from}");
        }
    }
    Ok(())
}

/// Downloads in pieces, deletes before piece `deleted_at`, and goes on through the handle that it has.
async fn download_deleted_at<S: MapMut + BlobStatus + Delete>(
    store: &S,
    sample: &Sample,
    deleted_at: u64,
) -> Outcome {
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    let n_pieces = 4;
    let width = sample.n_groups().div_ceil(n_pieces);
    for piece in 0..n_pieces {
        if piece == deleted_at {
            store.delete(vec![sample.hash]).await?;
        }
        let part = group_ranges(piece * width..((piece + 1) * width).min(sample.n_groups()));
        // It may be refused; what it may not do is lie.
        let _ = writer.write_batch(sample.size(), sample.items(&part)).await;
    }
    if deleted_at == n_pieces {
        store.delete(vec![sample.hash]).await?;
    }
    let _ = writer.sync().await;
    let promoted = store.insert_complete(entry).await;
    check_honest(store, sample).await?;
    let is_complete = store.entry_status(&sample.hash).await? == EntryStatus::Complete;
    assert!(promoted.is_err() || is_complete, "it was acknowledged, and the blob is not complete");
    Ok(())
}

async fn deletion_during_a_download_never_ends_in_complete_without_bytes<S: MapMut + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in [100_000, trial.large().min(1_500_000)].map(Sample::new) {
        for deleted_at in 0..5 {
            download_deleted_at(&store, &sample, deleted_at).await?;
            // The next download finds nothing in its way.
            sample.write(&store, &chunks(0..sample.n_chunks())).await?;
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            store.insert_complete(entry).await?;
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

async fn deletion_at_any_moment_of_a_download_never_ends_in_complete_without_bytes<S>(
    trial: &Trial<S>,
    store: S,
) -> Outcome
where
    S: MapMut + BlobStatus + Delete,
{
    let mut dice = trial.dice();
    for number in 0..12 {
        let sample = Sample::numbered(100_000, number);
        let deleting = tokio::spawn({
            let (store, n_yields) = (store.clone(), dice.below(40));
            async move {
                for _ in 0..n_yields {
                    tokio::task::yield_now().await;
                }
                store.delete(vec![sample.hash]).await
            }
        });
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        for group in 0..sample.n_groups() {
            let _ = writer.write_batch(sample.size(), sample.items(&group_ranges(group..group + 1))).await;
        }
        let promoted = store.insert_complete(entry).await;
        assert!(
            matches!(
                promoted,
                Ok(())
                    | Err(Error::NotFound { .. } | Error::Incomplete { .. } | Error::SizeUnverified { .. })
            ),
            "{promoted:?}"
        );
        deleting.await??;
        check_honest(&store, &sample).await?;
    }
    Ok(())
}

async fn entry_that_was_never_written_is_not_promoted<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (size, with_parents) in trial.ways().into_iter().flat_map(|size| [(size, false), (size, true)]) {
        let sample = Sample::new(size);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        if with_parents {
            let mut parents = sample.all_items();
            parents.retain(|item| matches!(item, bao_tree::io::BaoContentItem::Parent(_)));
            entry.batch_writer().await?.write_batch(sample.size(), parents).await?;
        }
        let refused = store.insert_complete(entry).await;
        let is_typed = matches!(refused, Err(Error::Incomplete { .. } | Error::SizeUnverified { .. }));
        assert!(is_typed, "{size} {refused:?}");
        assert_ne!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        assert!(store.read_to_bytes(sample.hash).await.is_err());
    }
    Ok(())
}

async fn complete_entry_handed_out_for_writing_stays_complete<S: MapMut + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let existing = store.get_mut(&sample.hash).await?.ok_or("it is gone")?;
        let same = store.get_or_create(sample.hash, sample.size()).await?;
        let other = store.get_or_create(sample.hash, sample.size() + 5000).await?;
        for entry in [existing, same, other] {
            assert!(entry.is_complete());
            assert_eq!(entry.size().value(), sample.size());
            let mut writer = entry.batch_writer().await?;
            writer.write_batch(sample.size(), sample.items(&group_ranges(0..1))).await?;
            writer.sync().await?;
            drop(writer);
            store.insert_complete(entry).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        }
    }
    Ok(())
}

/// Whatever was begun, completed, replaced and deleted: each file that is there afterwards is somebody's.
async fn every_file_is_accounted_for_after_collection_and_compaction<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut samples = Vec::new();
    for size in trial.ways() {
        for number in 0..6 {
            let sample = Sample::numbered(size.max(40_000), number);
            sample.write(&store, &group_ranges(0..1)).await?;
            if number % 3 == 1 {
                drop(sample.import(&store).await?);
            } else if number % 3 == 2 {
                sample.write(&store, &chunks(0..sample.n_chunks())).await?;
                let entry = store.get_or_create(sample.hash, sample.size()).await?;
                store.insert_complete(entry).await?;
            }
            samples.push(sample);
        }
    }
    assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    store.delete(samples.iter().step_by(2).map(|sample| sample.hash).collect()).await?;
    for _ in 0..2 {
        assert_eq!(troubles(&store, CheckMode::Report).await?, []);
        store.sync().await?;
    }
    let store = trial.reopen(store).await?;
    assert_eq!(troubles(&store, CheckMode::Repair).await?, []);
    store.delete(samples.iter().map(|sample| sample.hash).collect()).await?;
    let store = trial.reopen(store).await?;
    assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    let n_bytes: u64 = samples.iter().map(Sample::size).sum();
    let left = trial.home().stored_bytes();
    assert!(left < n_bytes + (4 << 20), "{left} bytes are left of {n_bytes}");
    Ok(())
}
