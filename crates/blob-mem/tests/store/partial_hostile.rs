//! Batches that do not fit: refused as a whole, with nothing changed.

use bao_tree::io::{BaoContentItem, Leaf, Parent};
use blob_mem::{MemOptions, MemStore};
use blob_traits::{Error, InvalidBatch, MapEntryMut, prelude::*};
use bytes::Bytes;
use proptest::prelude::*;

use crate::sample::{Sample, chunks, error_of, present, write};

fn leaf(offset: u64, len: usize) -> BaoContentItem {
    Leaf { offset, data: Bytes::from(vec![0xaa; len]) }.into()
}

fn parent(number: u64) -> BaoContentItem {
    let node = serde_json::from_str(&number.to_string()).unwrap();
    let hash = bao_tree::blake3::Hash::from_bytes([0xaa; 32]);
    Parent { node, pair: (hash, hash) }.into()
}

/// Puts a bad item behind good ones and checks that the good ones do not come in either.
async fn refused(size: usize, bad: BaoContentItem) -> InvalidBatch {
    let sample = Sample::new(size);
    let store = MemStore::with_options(MemOptions { max_blob_size: u64::MAX });
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(sample.size(), sample.items(&chunks(0..1))).await.unwrap();
    let mut batch = sample.items(&chunks(1..20));
    batch.push(bad);
    let error = error_of(writer.write_batch(sample.size(), batch).await);
    assert_eq!(present(&store, sample.hash).await, chunks(0..1));
    // nothing is left behind that shows later: the rest of the batch alone is taken
    let good = sample.items(&chunks(1..20));
    writer.write_batch(sample.size(), good).await.unwrap();
    assert_eq!(present(&store, sample.hash).await, chunks(0..20));
    assert_eq!(store.read_range(sample.hash, 0..20_480).await.unwrap(), sample.data.slice(..20_480));
    match error {
        Error::InvalidBatch { hash, reason } if hash == sample.hash => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn leaf_beyond_the_size_is_refused() {
    for (offset, len) in [(99_328, 673), (100_352, 1), (1 << 62, 64), (u64::MAX, 1), (u64::MAX - 1023, 1024)]
    {
        let expected = InvalidBatch::LeafBeyondSize { offset, len: len as u64 };
        assert_eq!(refused(100_000, leaf(offset, len)).await, expected);
    }
}

#[tokio::test]
async fn leaf_that_is_not_made_of_chunks_is_refused() {
    for (offset, len) in [(30_000, 1024), (30_720, 1000), (30_720, 1025), (30_720, 0)] {
        let expected = InvalidBatch::LeafMisaligned { offset, len: len as u64 };
        assert_eq!(refused(100_000, leaf(offset, len)).await, expected);
    }
}

#[tokio::test]
async fn parent_outside_the_tree_is_refused() {
    for node in [97, 98, 111, 127, 1 << 40, u64::MAX >> 1, u64::MAX - 1, u64::MAX] {
        assert_eq!(refused(100_000, parent(node)).await, InvalidBatch::ParentOutsideTree { node });
    }
}

#[tokio::test]
async fn items_out_of_order_are_refused() {
    assert_eq!(refused(100_000, leaf(0, 1024)).await, InvalidBatch::OutOfOrder);
    assert_eq!(refused(100_000, leaf(19 * 1024, 1024)).await, InvalidBatch::OutOfOrder);
    assert_eq!(refused(100_000, parent(63)).await, InvalidBatch::OutOfOrder);
}

/// The end of the last chunk of the largest blob is past all numbers.
#[tokio::test]
async fn last_chunk_of_the_largest_blob_leaves_the_first_alone() {
    let store = MemStore::with_options(MemOptions { max_blob_size: u64::MAX });
    let hash = Sample::new(1).hash;
    let mut items: Vec<_> = (0..50).rev().map(|level| parent(((1 << level) - 1) << 4 | 15)).collect();
    items.push(leaf(0, 1024));
    write(&store, hash, u64::MAX, items).await.unwrap();
    write(&store, hash, u64::MAX, vec![leaf(u64::MAX - 1023, 1023)]).await.unwrap();
    assert_eq!(store.read_range(hash, 0..1024).await.unwrap(), vec![0xaa; 1024]);
}

fn item() -> impl Strategy<Value = BaoContentItem> {
    prop_oneof![
        any::<u64>().prop_map(parent),
        (0..130_u64).prop_map(parent),
        (any::<u64>(), 0..3000_usize).prop_map(|(offset, len)| leaf(offset, len)),
        (0..120_u64, 0..4_usize).prop_map(|(start, len)| leaf(start * 1024, len * 1024)),
    ]
}

proptest! {
    #[test]
    fn any_batch_is_taken_or_changes_nothing(
        claim in prop_oneof![0..120_000_u64, any::<u64>(), Just(u64::MAX)],
        batches in prop::collection::vec(prop::collection::vec(item(), 0..5), 0..5),
    ) {
        futures_lite::future::block_on(async {
            let sample = Sample::new(100);
            let store = MemStore::with_options(MemOptions { max_blob_size: u64::MAX });
            let entry = store.get_or_create(sample.hash, claim).await.unwrap();
            let mut writer = entry.batch_writer().await.unwrap();
            let mut reader = entry.data_reader().await.unwrap();
            for batch in batches {
                let before = present(&store, sample.hash).await;
                if writer.write_batch(claim, batch).await.is_err() {
                    prop_assert_eq!(present(&store, sample.hash).await, before);
                }
                let _ = reader.read_range(0, 1 << 20).await;
                let _ = store.insert_complete(entry.clone()).await;
                if entry.is_complete() {
                    prop_assert_eq!(store.read_to_bytes(sample.hash).await.unwrap().len() as u64, claim);
                }
            }
            Ok(())
        })?;
    }
}
