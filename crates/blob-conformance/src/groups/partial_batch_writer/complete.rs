//! From partial to complete.

use bao_tree::io::{BaoContentItem, Leaf, fsm::Outboard, sync};
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobStatus, Delete, EntryStatus, Error, Hash, Import, ListBlobs, MapEntry,
    MapEntryMut, MapExt, MapMut, ReadBlob, Store, collect,
};
use bytes::Bytes;

use super::{check_complete, check_present, whole};
use crate::{Outcome, Sample, Trial, case::group, chunks};

group! {
    "partial_batch_writer", for S: Store;
    size_unverified_until_last_chunk_then_verified,
    insert_complete_with_all_data_promotes,
    insert_complete_with_missing_ranges_is_refused,
    insert_complete_with_missing_parents_is_refused,
    insert_complete_with_unverified_size_is_refused,
    insert_complete_of_what_was_never_written_is_refused,
    insert_complete_twice_is_idempotent,
    insert_complete_keeps_readers_of_partial_alive,
    insert_complete_after_delete_is_refused,
    insert_complete_after_import_of_the_same_blob,
}

async fn size_unverified_until_last_chunk_then_verified<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in [20_000].into_iter().chain(trial.ways()).map(Sample::new) {
        let last = sample.n_chunks() - 1;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        if last > 0 {
            let before = if sample.size() > 1 << 20 { chunks(last - 40..last) } else { chunks(0..last) };
            sample.write(&store, &before).await?;
        }
        assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Unverified(sample.size()));
        sample.write(&store, &chunks(last..last + 1)).await?;
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Verified(sample.size()));
        assert!(!store.existing(sample.hash).await?.is_complete());
    }
    Ok(())
}

async fn insert_complete_with_all_data_promotes<S: MapMut + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sizes = trial.sizes().into_iter().filter(|size| (1..=1 << 20).contains(size));
    for (i, sample) in sizes.chain([trial.large()]).map(Sample::new).enumerate() {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.all_items()).await?;
        if i % 2 == 0 {
            writer.sync().await?;
        }
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        assert_eq!(collect(store.partial_blobs().await?).await?, [sample.hash]);
        store.insert_complete(entry).await?;
        check_complete(&store, &sample).await?;
        assert!(collect(store.partial_blobs().await?).await?.is_empty());
        assert!(collect(store.blobs().await?).await?.contains(&sample.hash));
    }
    Ok(())
}

async fn insert_complete_with_missing_ranges_is_refused<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for is_synced in [false, true] {
        let sample = Sample::numbered(100_001, is_synced.into());
        let there = chunks(0..20) | chunks(30..98);
        sample.write(&store, &there).await?;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        if is_synced {
            entry.batch_writer().await?.sync().await?;
        }
        let refused = store.insert_complete(entry.clone()).await;
        let Err(Error::Incomplete { hash, first_missing, n_missing, n_chunks }) = refused else {
            return Err(format!("{refused:?}").into());
        };
        assert_eq!((hash, first_missing, n_missing, n_chunks), (sample.hash, 20 * 1024, 10, 98));
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        check_present(&store, &sample, &there).await?;
        sample.write(&store, &chunks(20..30)).await?;
        store.insert_complete(entry).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

/// All bytes are there, and one pair of hashes is not: nobody could verify what is below it.
async fn insert_complete_with_missing_parents_is_refused<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let mut items = sample.all_items();
    let last = items.iter().rposition(|item| matches!(item, BaoContentItem::Parent(_)));
    let withheld = items.remove(last.ok_or("it has parents")?);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(sample.size(), items).await?;
    let refused = store.insert_complete(entry.clone()).await;
    assert!(matches!(refused, Err(Error::Incomplete { .. } | Error::SizeUnverified { .. })), "{refused:?}");
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    writer.write_batch(sample.size(), vec![withheld]).await?;
    store.insert_complete(entry).await?;
    check_complete(&store, &sample).await
}

async fn insert_complete_with_unverified_size_is_refused<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for size in [20_000, 100_000] {
        let sample = Sample::new(size);
        let last = sample.n_chunks() - 1;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        sample.write(&store, &chunks(0..last)).await?;
        let refused = store.insert_complete(entry).await;
        assert!(matches!(refused, Err(Error::SizeUnverified { hash }) if hash == sample.hash), "{refused:?}");
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        check_present(&store, &sample, &chunks(0..last)).await?;
    }
    Ok(())
}

async fn insert_complete_of_what_was_never_written_is_refused<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for claim in [0, 1, 1024, 100_000] {
        let hash = Hash::new(format!("never written, of {claim} bytes"));
        let entry = store.get_or_create(hash, claim).await?;
        let refused = store.insert_complete(entry).await;
        assert!(matches!(refused, Err(Error::SizeUnverified { .. })), "{refused:?}");
        assert_eq!(store.entry_status(&hash).await?, EntryStatus::Partial);
    }
    Ok(())
}

async fn insert_complete_twice_is_idempotent<S: MapMut + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let first = store.get_or_create(sample.hash, sample.size()).await?;
        let second = store.get_or_create(sample.hash, sample.size()).await?;
        sample.write(&store, &whole(&sample)).await?;
        for entry in [&first, &second, &first] {
            store.insert_complete(entry.clone()).await?;
        }
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn insert_complete_keeps_readers_of_partial_alive<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        let (mut reader, mut outboard) = (entry.data_reader().await?, entry.outboard().await?);
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        assert_eq!(reader.read_range(0, 500).await?, sample.slice(0, 500));
        writer.write_batch(sample.size(), sample.all_items()).await?;
        store.insert_complete(entry.clone()).await?;
        assert_eq!(reader.read_range(0, usize::MAX).await?, sample.data);
        for node in outboard.tree().pre_order_nodes_iter() {
            assert_eq!(outboard.load(node).await?, sync::Outboard::load(&sample.outboard, node)?);
        }
        let wrong = Leaf { offset: 0, data: Bytes::from(vec![0xaa; sample.data.len().min(1024)]) };
        writer.write_batch(sample.size(), vec![wrong.into()]).await?;
        assert_eq!(reader.read_range(0, 1024).await?, sample.slice(0, 1024));
        assert_eq!(entry.data_reader().await?.read_range(0, usize::MAX).await?, sample.data);
    }
    Ok(())
}

/// A download that goes on while its blob is deleted does not end in a complete blob without bytes.
async fn insert_complete_after_delete_is_refused<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Delete,
{
    for sample in trial.ways().into_iter().map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.all_items()).await?;
        store.delete(vec![sample.hash]).await?;
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
        // Writing may be refused or come to nothing.
        let _ = writer.write_batch(sample.size(), sample.items(&chunks(0..1))).await;
        let refused = store.insert_complete(entry).await;
        assert!(matches!(refused, Err(Error::NotFound { hash }) if hash == sample.hash), "{refused:?}");
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
        assert!(store.get(&sample.hash).await?.is_none());
    }
    Ok(())
}

async fn insert_complete_after_import_of_the_same_blob<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Import + ListBlobs,
{
    for sample in trial.ways().into_iter().map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        let _pinned = sample.import(&store).await?;
        check_complete(&store, &sample).await?;
        writer.write_batch(sample.size(), sample.items(&chunks(16..32))).await?;
        store.insert_complete(entry).await?;
        check_complete(&store, &sample).await?;
        assert!(collect(store.partial_blobs().await?).await?.is_empty());
    }
    Ok(())
}
