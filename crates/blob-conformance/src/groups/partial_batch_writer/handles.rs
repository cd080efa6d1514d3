//! Beginning partial blobs, and finding them again.

use bao_tree::{
    ChunkRanges,
    io::{BaoContentItem, Leaf},
};
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobStatus, EntryStatus, Hash, Import, ListBlobs, MapEntry, MapEntryMut,
    MapExt, MapMut, Store, collect,
};
use bytes::Bytes;

use super::{check_complete, check_present, present};
use crate::{Outcome, Sample, Trial, case::group, chunks, write_items};

group! {
    "partial_batch_writer", for S: Store;
    get_or_create_then_status_partial,
    get_or_create_on_partial_returns_the_same_entry,
    get_mut_returns_what_was_begun,
    get_or_create_on_complete_returns_complete_entry_no_downgrade,
    writes_to_a_complete_blob_succeed_and_change_nothing,
    get_or_create_zero_size_completes_only_for_empty_hash,
}

async fn get_or_create_then_status_partial<S: MapMut + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in [1].into_iter().chain(trial.ways()).map(Sample::new) {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
        assert_eq!(store.present_ranges(&sample.hash).await?, None);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        assert_eq!(entry.hash(), sample.hash);
        assert!(!entry.is_complete());
        assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::Partial);
        assert_eq!(store.present_ranges(&sample.hash).await?, Some(ChunkRanges::empty()));
        assert!(collect(store.partial_blobs().await?).await?.contains(&sample.hash));
        assert!(!collect(store.blobs().await?).await?.contains(&sample.hash));
    }
    Ok(())
}

async fn get_or_create_on_partial_returns_the_same_entry<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let first = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = first.batch_writer().await?;
    writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
    let second = store.get_or_create(sample.hash, sample.size()).await?;
    check_present(&store, &sample, &chunks(0..16)).await?;
    second.batch_writer().await?.write_batch(sample.size(), sample.items(&chunks(32..48))).await?;
    writer.write_batch(sample.size(), sample.items(&chunks(96..98))).await?;
    assert_eq!(second.size(), BaoBlobSize::Verified(sample.size()));
    check_present(&store, &sample, &(chunks(0..16) | chunks(32..48) | chunks(96..98))).await
}

async fn get_mut_returns_what_was_begun<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    assert!(store.get_mut(&sample.hash).await?.is_none());
    sample.write(&store, &chunks(0..16)).await?;
    let entry = store.get_mut(&sample.hash).await?.ok_or("it was begun")?;
    assert_eq!((entry.hash(), entry.size()), (sample.hash, BaoBlobSize::Unverified(sample.size())));
    entry.batch_writer().await?.write_batch(sample.size(), sample.items(&chunks(16..32))).await?;
    check_present(&store, &sample, &chunks(0..32)).await
}

async fn get_or_create_on_complete_returns_complete_entry_no_downgrade<S>(
    trial: &Trial<S>,
    store: S,
) -> Outcome
where
    S: MapMut + BlobStatus + ListBlobs + Import,
{
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        for claim in [0, 1, sample.size(), sample.size() + 1, 1 << 40] {
            let entry = store.get_or_create(sample.hash, claim).await?;
            assert!(entry.is_complete());
            assert_eq!(entry.size(), BaoBlobSize::Verified(sample.size()));
            store.insert_complete(entry).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        }
        assert!(collect(store.partial_blobs().await?).await?.is_empty());
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn writes_to_a_complete_blob_succeed_and_change_nothing<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Import,
{
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        let len = usize::try_from(sample.size().min(1024))?;
        let wrong = BaoContentItem::Leaf(Leaf { offset: 0, data: Bytes::from(vec![0xaa; len]) });
        writer.write_batch(sample.size(), vec![wrong]).await?;
        writer.sync().await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

/// Nothing but the empty blob has no bytes, whatever is claimed and written.
async fn get_or_create_zero_size_completes_only_for_empty_hash<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let entry = store.get_or_create(Hash::EMPTY, 0).await?;
    assert!(entry.is_complete());
    store.insert_complete(entry).await?;
    assert_eq!(store.read_to_bytes(Hash::EMPTY).await?, "");

    let sample = Sample::new(1000);
    let entry = store.get_or_create(sample.hash, 0).await?;
    // Whether the writer sees through this, or the promotion does, is the store's affair.
    let _ = write_items(&store, sample.hash, 0, Sample::new(0).all_items()).await;
    assert!(store.insert_complete(entry).await.is_err());
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    assert!(!store.existing(sample.hash).await?.is_complete());
    assert!(present(&store, sample.hash).await?.is_empty());
    sample.write(&store, &ChunkRanges::all()).await?;
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    store.insert_complete(entry).await?;
    check_complete(&store, &sample).await
}
