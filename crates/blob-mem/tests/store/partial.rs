use bao_tree::{ChunkRanges, io::BaoContentItem, io::fsm::Outboard};
use blob_mem::MemStore;
use blob_traits::{
    BLOCK_SIZE, BaoBlobSize, EntryStatus, Error, FallibleProgressBatchWriter, MapEntryMut, PartialTree,
    collect, prelude::*,
};
use bytes::Bytes;
use proptest::prelude::*;

use crate::sample::{BOUNDARY_SIZES, Sample, chunks, error_of, present, status, write};

fn is_leaf(item: &BaoContentItem) -> bool {
    matches!(item, BaoContentItem::Leaf(_))
}

#[tokio::test]
async fn status_goes_from_absent_over_partial_to_complete() {
    let store = MemStore::new();
    let sample = Sample::new(50_000);
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
    assert!(!entry.is_complete());
    entry.batch_writer().await.unwrap().write_batch(sample.size(), sample.all_items()).await.unwrap();
    assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
    store.insert_complete(entry.clone()).await.unwrap();
    assert_eq!(store.entry_status(&sample.hash).await.unwrap(), EntryStatus::Complete);
    store.insert_complete(entry).await.unwrap();
}

#[tokio::test]
async fn blob_in_pieces_becomes_the_same_as_one_that_was_imported() {
    for size in BOUNDARY_SIZES.into_iter().filter(|size| *size > 0) {
        let sample = Sample::new(size);
        let store = MemStore::new();
        let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        for item in sample.all_items() {
            writer.write_batch(sample.size(), vec![item]).await.unwrap();
        }
        writer.sync().await.unwrap();
        assert_eq!(present(&store, sample.hash).await, PartialTree::all_ranges(sample.size()));
        store.insert_complete(entry.clone()).await.unwrap();
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        let mut outboard = entry.outboard().await.unwrap();
        for node in bao_tree::BaoTree::new(sample.size(), BLOCK_SIZE).pre_order_nodes_iter() {
            let expected = bao_tree::io::sync::Outboard::load(&sample.outboard, node).unwrap();
            assert_eq!(outboard.load(node).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn present_range_is_read_and_an_absent_one_is_an_error() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let ranges = chunks(0..16) | chunks(40..50);
    write(&store, sample.hash, sample.size(), sample.items(&ranges)).await.unwrap();
    let entry = store.existing(sample.hash).await.unwrap();
    let mut reader = entry.data_reader().await.unwrap();
    for range in [0..16_384, 1000..1001, 40 * 1024 + 7..50 * 1024] {
        let found = reader.read_range(range.start as u64, range.len()).await.unwrap();
        assert_eq!(found, sample.data.slice(range));
    }
    assert!(reader.read_range(5, 0).await.unwrap().is_empty());
    assert!(reader.read_range(100_000, 10).await.unwrap().is_empty());
    let error = error_of(reader.read_range(10, 16_384).await);
    assert!(matches!(error, Error::Incomplete { first_missing: 16_384, n_missing: 1, n_chunks: 98, .. }));
    let error = error_of(reader.read_range(0, usize::MAX).await);
    assert!(matches!(error, Error::Incomplete { first_missing: 16_384, n_missing: 72, .. }));
    let error = error_of(reader.read_range(39 * 1024 + 5, 10).await);
    assert!(matches!(error, Error::Incomplete { first_missing: 39_941, n_missing: 1, .. }));
}

#[tokio::test]
async fn size_is_unverified_until_the_last_chunk_came() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(sample.size(), sample.items(&chunks(0..97))).await.unwrap();
    assert_eq!(entry.size(), BaoBlobSize::Unverified(100_000));
    let error = store.insert_complete(entry.clone()).await.unwrap_err();
    assert!(matches!(error, Error::SizeUnverified { hash } if hash == sample.hash));
    writer.write_batch(sample.size(), sample.items(&chunks(97..98))).await.unwrap();
    assert_eq!(entry.size(), BaoBlobSize::Verified(100_000));
    store.insert_complete(entry.clone()).await.unwrap();
}

#[tokio::test]
async fn blob_with_missing_ranges_is_not_completed() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(sample.size(), sample.items(&(chunks(0..20) | chunks(30..98)))).await.unwrap();
    let error = store.insert_complete(entry.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { first_missing: 20_480, n_missing: 10, n_chunks: 98, .. }));
    assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
}

#[tokio::test]
async fn two_writers_meet_in_one_entry() {
    let store = MemStore::new();
    let sample = Sample::new(200_000);
    let first = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let second = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writers = (first.batch_writer().await.unwrap(), second.batch_writer().await.unwrap());
    for (i, item) in sample.all_items().into_iter().enumerate() {
        let batch = vec![item];
        if i % 2 == 0 {
            writers.0.write_batch(sample.size(), batch).await.unwrap();
        } else {
            writers.1.write_batch(sample.size(), batch).await.unwrap();
        }
    }
    assert_eq!(collect(store.partial_blobs().await.unwrap()).await.unwrap(), [sample.hash]);
    store.insert_complete(first.clone()).await.unwrap();
    store.insert_complete(second.clone()).await.unwrap();
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
}

#[tokio::test]
async fn leaves_before_their_parents_are_not_shown() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let (leaves, parents): (Vec<_>, Vec<_>) = sample.all_items().into_iter().partition(is_leaf);
    write(&store, sample.hash, sample.size(), leaves).await.unwrap();
    assert!(present(&store, sample.hash).await.is_empty());
    let entry = store.existing(sample.hash).await.unwrap();
    assert!(error_of(entry.data_reader().await.unwrap().read_range(0, 1).await).code() == "incomplete");
    write(&store, sample.hash, sample.size(), parents).await.unwrap();
    assert_eq!(present(&store, sample.hash).await, chunks(0..98));
}

#[tokio::test]
async fn parents_without_leaves_show_nothing() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let parents = sample.all_items().into_iter().filter(|item| !is_leaf(item)).collect();
    write(&store, sample.hash, sample.size(), parents).await.unwrap();
    assert!(present(&store, sample.hash).await.is_empty());
    assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
}

#[tokio::test]
async fn empty_batch_changes_nothing() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    write(&store, sample.hash, sample.size(), Vec::new()).await.unwrap();
    assert!(present(&store, sample.hash).await.is_empty());
}

#[tokio::test]
async fn complete_blob_stays_complete_whatever_is_claimed() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    store.import_bytes(sample.data.clone(), blob_traits::BlobFormat::Raw).await.unwrap();
    for claim in [0, 1, 100_000, u64::MAX] {
        let entry = store.get_or_create(sample.hash, claim).await.unwrap();
        assert!(entry.is_complete());
        assert_eq!(entry.size(), BaoBlobSize::Verified(100_000));
        store.insert_complete(entry).await.unwrap();
    }
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
}

#[tokio::test]
async fn reader_of_a_partial_blob_reads_on_when_it_is_complete() {
    let store = MemStore::new();
    let sample = Sample::new(3 << 20);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut reader = entry.data_reader().await.unwrap();
    let mut outboard = entry.outboard().await.unwrap();
    write(&store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
    store.insert_complete(entry.clone()).await.unwrap();
    assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
    for node in outboard.tree().pre_order_nodes_iter() {
        let expected = bao_tree::io::sync::Outboard::load(&sample.outboard, node).unwrap();
        assert_eq!(outboard.load(node).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn absent_parents_are_zeros_that_never_verify() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut outboard = entry.outboard().await.unwrap();
    let zeros = ([0; 32].into(), [0; 32].into());
    for node in outboard.tree().pre_order_nodes_iter() {
        let expected = bao_tree::io::sync::Outboard::load(&sample.outboard, node).unwrap().map(|_| zeros);
        assert_eq!(outboard.load(node).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn every_leaf_of_a_batch_is_reported() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(0));
    let sum = seen.clone();
    let mut writer = FallibleProgressBatchWriter::new(entry.batch_writer().await.unwrap(), move |_, len| {
        *sum.lock().unwrap() += len;
        Ok(())
    });
    writer.write_batch(sample.size(), sample.all_items()).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), 100_000);
}

/// A small piece of a large network buffer must not keep the buffer.
#[tokio::test]
async fn written_leaf_is_a_copy() {
    let store = MemStore::new();
    let sample = Sample::new(1000);
    write(&store, sample.hash, 1000, sample.all_items()).await.unwrap();
    let leaf: Bytes = store.read_to_bytes(sample.hash).await.unwrap();
    assert!(!sample.data.as_ptr_range().contains(&leaf.as_ptr()));
    assert_eq!(leaf, sample.data);
}

fn ranges(n_chunks: u64) -> impl Strategy<Value = Vec<ChunkRanges>> {
    let range = (0..n_chunks, 1..40_u64).prop_map(|(start, len)| chunks(start..start + len));
    prop::collection::vec(range, 1..8)
}

proptest! {
    /// Random parts arrive one after the other, each split at a random place: what is present is what arrived.
    #[test]
    fn parts_in_any_order_add_up(size in 1..150_000_usize, parts in ranges(150), cut in any::<prop::sample::Index>()) {
        futures_lite::future::block_on(async {
            let sample = Sample::new(size);
            let n_chunks = sample.size().div_ceil(1024);
            let store = MemStore::new();
            let mut expected = ChunkRanges::empty();
            for part in parts {
                // a request beyond the end is answered with the last chunk
                let part = if part.is_disjoint(&chunks(0..n_chunks)) { chunks(n_chunks - 1..n_chunks) } else { part };
                let mut items = sample.items(&part);
                let rest = items.split_off(cut.index(items.len()));
                write(&store, sample.hash, sample.size(), items).await.unwrap();
                write(&store, sample.hash, sample.size(), rest).await.unwrap();
                expected |= part & chunks(0..n_chunks);
                prop_assert_eq!(present(&store, sample.hash).await, expected.clone());
            }
            let entry = store.get_mut(&sample.hash).await.unwrap().unwrap();
            let mut reader = entry.data_reader().await.unwrap();
            for chunk in 0..n_chunks {
                let range = usize::try_from(chunk * 1024).unwrap()..size.min(usize::try_from(chunk * 1024 + 1024).unwrap());
                match reader.read_range(chunk * 1024, 1024).await {
                    Ok(bytes) => prop_assert_eq!(bytes, sample.data.slice(range)),
                    Err(_) => prop_assert!(!expected.contains(&bao_tree::ChunkNum(chunk))),
                }
            }
            let whole = expected == chunks(0..n_chunks);
            prop_assert_eq!(store.insert_complete(entry).await.is_ok(), whole);
            if whole {
                prop_assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
            }
            Ok(())
        })?;
    }
}
