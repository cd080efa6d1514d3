//! Partial blobs outlive the process.

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobStatus, EntryStatus, Error, Lifecycle, ListBlobs, MapEntry, MapEntryMut,
    MapExt, MapMut, MapMutExt, Store, collect,
};
use proptest::prelude::*;

use super::{answered, check_complete, check_present, check_reads, present, whole};
use crate::{Outcome, Sample, Trial, case::group, chunks};

const CRASHES: &str = "needs the crash simulator";

group! {
    "partial_batch_writer", for S: Store;
    partial_survives_sync_and_reopen [needs Persistence],
    partial_survives_shutdown_without_sync [needs Persistence],
    synced_partial_survives_the_end_of_the_process [needs Persistence Durability],
    latest_claim_survives_reopen [needs Persistence],
    verified_size_survives_reopen [needs Persistence],
    partial_without_sync_after_powercut_has_subset_only_valid [pending CRASHES],
    partial_resume_after_reopen_completes_same_hash [needs Persistence],
}

async fn partial_survives_sync_and_reopen<S>(trial: &Trial<S>, mut store: S) -> Outcome
where
    S: MapMut + BlobStatus + ListBlobs + Clone,
{
    for (size, part) in [(10_000, chunks(3..5)), (300_000, chunks(16..50) | chunks(100..101))] {
        let sample = Sample::new(size);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&part)).await?;
        writer.sync().await?;
        drop((entry, writer));
        for _ in 0..2 {
            store = trial.reopen(store).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
            assert!(collect(store.partial_blobs().await?).await?.contains(&sample.hash));
            assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Unverified(sample.size()));
            check_present(&store, &sample, &part).await?;
        }
    }
    Ok(())
}

async fn partial_survives_shutdown_without_sync<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let part = answered(&chunks(0..48), &sample);
        sample.write(&store, &part).await?;
        store = trial.reopen(store).await?;
        assert_eq!(present(&store, sample.hash).await?, part);
        let end = (48 * 1024).min(sample.size());
        assert_eq!(store.read_verified(sample.hash, 0..end).await?, sample.slice(0, end));
    }
    Ok(())
}

/// The writer's sync is enough, and so is the store's. What came after it need not have stayed, but is right.
async fn synced_partial_survives_the_end_of_the_process<S>(trial: &Trial<S>, mut store: S) -> Outcome
where
    S: MapMut + BlobStatus + Lifecycle,
{
    for number in 0..4 {
        let sample = Sample::numbered(200_000, number);
        let synced = chunks(16..48) | chunks(195..196);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&synced)).await?;
        if number % 2 == 0 {
            writer.sync().await?;
        } else {
            store.sync().await?;
        }
        writer.write_batch(sample.size(), sample.items(&chunks(64..80))).await?;
        drop((entry, writer));
        store = trial.crash_and_reopen(store).await?;
        let there = present(&store, sample.hash).await?;
        assert!(synced.is_subset(&there), "{there:?}");
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Verified(200_000));
        check_reads(&store, &sample, &there).await?;
    }
    Ok(())
}

async fn latest_claim_survives_reopen<S: MapMut + BlobStatus>(trial: &Trial<S>, mut store: S) -> Outcome {
    let sample = Sample::new(99_081);
    sample.write(&store, &chunks(0..16)).await?;
    for claim in [99_080, 131_072, 1 << 40, 99_081] {
        drop(store.get_or_create(sample.hash, claim).await?);
        store = trial.reopen(store).await?;
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Unverified(claim));
    }
    sample.write(&store, &ChunkRanges::all()).await?;
    store.insert_complete(store.get_or_create(sample.hash, sample.size()).await?).await?;
    check_complete(&store, &sample).await
}

async fn verified_size_survives_reopen<S: MapMut + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(99_081);
    sample.write(&store, &chunks(96..97)).await?;
    let store = trial.reopen(store).await?;
    assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Verified(99_081));
    let refused = store.get_or_create(sample.hash, 99_080).await.map(drop);
    assert!(
        matches!(refused, Err(Error::SizeConflict { claimed: 99_080, current: 99_081, .. })),
        "{refused:?}"
    );
    check_present(&store, &sample, &chunks(96..97)).await
}

/// Parts arrive one after the other, and after each the store is opened again.
async fn partial_resume_after_reopen_completes_same_hash<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Lifecycle,
{
    let mut store = Some(store);
    let mut number = 0;
    let part = (0..200_u64, 1..80_u64).prop_map(|(start, len)| chunks(start..start + len));
    let parts = prop::collection::vec(part, 1..4);
    trial
        .for_all(3, (1..200_000_usize, parts, any::<bool>()), async |(size, parts, with_sync)| {
            number += 1;
            let sample = Sample::numbered(size, number);
            let mut open = match store.take() {
                Some(open) => open,
                // After a failure: that one's store is gone.
                None => trial.open(trial.home()).await?,
            };
            let mut expected = ChunkRanges::empty();
            for part in parts {
                sample.write(&open, &part).await?;
                expected |= answered(&part, &sample);
                if with_sync {
                    open.sync().await?;
                }
                open = trial.reopen(open).await?;
                assert_eq!(present(&open, sample.hash).await?, expected);
            }
            check_reads(&open, &sample, &expected).await?;
            let rest = whole(&sample) - expected;
            if rest.is_empty() {
                let entry = open.get_or_create(sample.hash, sample.size()).await?;
                open.insert_complete(entry).await?;
            } else {
                open.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await?;
            }
            check_complete(&open, &sample).await?;
            store = Some(open);
            Ok(())
        })
        .await
}
