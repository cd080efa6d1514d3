//! Batches that do not fit: refused as a whole, with nothing changed.

use bao_tree::io::{BaoContentItem, Leaf, Parent};
use blob_traits::{Error, InvalidBatch, MapEntryMut, prelude::*};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    home::Home,
    sample::{Sample, chunks, error_of, present, write},
};

fn leaf(offset: u64, len: usize) -> BaoContentItem {
    Leaf { offset, data: Bytes::from(vec![0xaa; len]) }.into()
}

fn parent(number: u64) -> BaoContentItem {
    let node = serde_json::from_str(&number.to_string()).unwrap();
    let hash = bao_tree::blake3::Hash::from_bytes([0xaa; 32]);
    Parent { node, pair: (hash, hash) }.into()
}

fn home(on_disk: bool) -> Home {
    Home::with(|options| {
        options.max_blob_size = u64::MAX;
        options.partial_memory_max = if on_disk { 0 } else { 1 << 30 };
    })
}

/// Puts a bad item behind good ones and checks that the good ones do not come in either.
async fn refused(on_disk: bool, size: usize, bad: BaoContentItem) -> InvalidBatch {
    let sample = Sample::new(size);
    let home = home(on_disk);
    let store = home.open().await;
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(sample.size(), sample.items(&chunks(0..1))).await.unwrap();
    writer.sync().await.unwrap();
    let before = home.files();
    let mut batch = sample.items(&chunks(1..20));
    batch.push(bad);
    let error = error_of(writer.write_batch(sample.size(), batch).await);
    assert_eq!(present(&store, sample.hash).await, chunks(0..1));
    assert_eq!(home.files(), before);
    // nothing is left behind that shows later: the rest of the batch alone is taken
    let good = sample.items(&chunks(1..20));
    writer.write_batch(sample.size(), good).await.unwrap();
    assert_eq!(present(&store, sample.hash).await, chunks(0..20));
    assert_eq!(store.read_range(sample.hash, 0..20_480).await.unwrap(), sample.data[..20_480]);
    match error {
        Error::InvalidBatch { hash, reason } if hash == sample.hash => reason,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn leaf_beyond_the_size_is_refused() {
    for on_disk in [false, true] {
        for (offset, len) in
            [(99_328, 673), (100_352, 1), (1 << 62, 64), (u64::MAX, 1), (u64::MAX - 1023, 1024)]
        {
            let expected = InvalidBatch::LeafBeyondSize { offset, len: len as u64 };
            assert_eq!(refused(on_disk, 100_000, leaf(offset, len)).await, expected);
        }
    }
}

#[tokio::test]
async fn leaf_that_is_not_made_of_chunks_is_refused() {
    for on_disk in [false, true] {
        for (offset, len) in [(30_000, 1024), (30_720, 1000), (30_720, 1025), (30_720, 0)] {
            let expected = InvalidBatch::LeafMisaligned { offset, len: len as u64 };
            assert_eq!(refused(on_disk, 100_000, leaf(offset, len)).await, expected);
        }
    }
}

#[tokio::test]
async fn parent_outside_the_tree_is_refused() {
    for on_disk in [false, true] {
        for node in [97, 98, 111, 127, 1 << 40, u64::MAX >> 1, u64::MAX - 1, u64::MAX] {
            let expected = InvalidBatch::ParentOutsideTree { node };
            assert_eq!(refused(on_disk, 100_000, parent(node)).await, expected);
        }
    }
}

#[tokio::test]
async fn items_out_of_order_are_refused() {
    for on_disk in [false, true] {
        assert_eq!(refused(on_disk, 100_000, leaf(0, 1024)).await, InvalidBatch::OutOfOrder);
        assert_eq!(refused(on_disk, 100_000, leaf(19 * 1024, 1024)).await, InvalidBatch::OutOfOrder);
        assert_eq!(refused(on_disk, 100_000, parent(63)).await, InvalidBatch::OutOfOrder);
    }
}

/// The limits of the format are lower than the number that was asked for.
#[tokio::test]
async fn no_size_is_too_large_to_be_refused_cleanly() {
    for on_disk in [false, true] {
        let home = home(on_disk);
        let store = home.open().await;
        let hash = Sample::new(1).hash;
        for size in [(1 << 62) + 1, u64::MAX] {
            assert!(matches!(store.get_or_create(hash, size).await, Err(Error::TooLarge { .. })));
        }
        let entry = store.get_or_create(hash, 1 << 62).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        writer.write_batch(1 << 62, vec![leaf(0, 1024)]).await.unwrap();
        // Where no file can be so long, the system says so; the entry is as it was.
        let _ = writer.write_batch(1 << 62, vec![leaf((1 << 62) - 1024, 1024)]).await;
        let _ = writer.sync().await;
        assert!(present(&store, hash).await.is_empty());
        write(&store, hash, 1, Sample::new(1).all_items()).await.unwrap();
        store.insert_complete(entry).await.unwrap();
        assert_eq!(store.read_to_bytes(hash).await.unwrap(), Sample::new(1).data);
    }
}

/// A stream that lies is refused where it does, and what came before stays.
#[tokio::test]
async fn stream_of_another_blob_is_refused() {
    for on_disk in [false, true] {
        let home = home(on_disk);
        let store = home.open().await;
        let (sample, other) = (Sample::new(200_000), Sample::numbered(200_000, 1));
        let all = bao_tree::ChunkRanges::all();
        let result = store.import_bao(sample.hash, 200_000, all.clone(), other.encode(&all)).await;
        assert!(matches!(result, Err(Error::Mismatch { hash, offset: 0 }) if hash == sample.hash));
        assert!(present(&store, sample.hash).await.is_empty());
        let mut encoded = sample.encode(&all).to_vec();
        encoded[150_000] ^= 1;
        let result = store.import_bao(sample.hash, 200_000, all.clone(), Bytes::from(encoded)).await;
        assert!(matches!(result, Err(Error::Mismatch { .. })));
        let there = present(&store, sample.hash).await;
        assert!(!there.is_empty());
        let cut = sample.encode(&all).slice(..180_000);
        let error = store.import_bao(sample.hash, 200_000, all.clone(), cut).await.unwrap_err();
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(there.is_subset(&present(&store, sample.hash).await));
        store.import_bao(sample.hash, 200_000, all.clone(), sample.encode(&all)).await.unwrap();
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
    }
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
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_batch_is_taken_or_changes_nothing(
        claim in prop_oneof![0..120_000_u64, 0..(1_u64 << 62), Just(1 << 62)],
        on_disk in any::<bool>(),
        batches in prop::collection::vec(prop::collection::vec(item(), 0..5), 0..5),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let sample = Sample::new(100);
            let home = home(on_disk);
            let store = home.open().await;
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
