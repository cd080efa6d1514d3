use bao_tree::{
    BaoTree, ChunkRanges,
    io::{fsm::Outboard, outboard::PreOrderMemOutboard, sync},
};
use blob_mem::{MemEntry, MemStore};
use blob_traits::{BLOCK_SIZE, BaoBlobSize, BlobFormat, EntryStatus, Hash, StoredParent, prelude::*};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::sample::{BOUNDARY_SIZES, Sample, chunks, present, status};

async fn stored(sample: &Sample) -> (MemStore, MemEntry) {
    let store = MemStore::new();
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap();
    let entry = store.existing(sample.hash).await.unwrap();
    (store, entry)
}

#[tokio::test]
async fn empty_blob_is_complete_without_insert() {
    let store = MemStore::new();
    assert_eq!(status(&store, Hash::EMPTY), EntryStatus::Complete);
    let entry = store.get(&Hash::EMPTY).await.unwrap().unwrap();
    assert!(entry.is_complete());
    assert_eq!(entry.size(), BaoBlobSize::Verified(0));
    assert_eq!(store.read_to_bytes(Hash::EMPTY).await.unwrap(), Bytes::new());
    assert!(store.get_mut(&Hash::EMPTY).await.unwrap().is_some());
    assert!(store.get_or_create(Hash::EMPTY, 77).await.unwrap().is_complete());
    assert!(collect_blobs(&store).await.is_empty());
}

async fn collect_blobs(store: &MemStore) -> Vec<Hash> {
    blob_traits::collect(store.blobs().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn missing_blob_is_none_and_not_an_error() {
    let store = MemStore::new();
    let hash = Hash::new(b"absent");
    assert!(store.get(&hash).await.unwrap().is_none());
    assert!(store.get_mut(&hash).await.unwrap().is_none());
    assert!(store.present_ranges(&hash).await.unwrap().is_none());
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::NotFound);
}

#[tokio::test]
async fn complete_entry_says_so() {
    for size in BOUNDARY_SIZES {
        let sample = Sample::new(size);
        let (store, entry) = stored(&sample).await;
        assert!(entry.is_complete());
        assert_eq!((entry.hash(), entry.size()), (sample.hash, BaoBlobSize::Verified(sample.size())));
        assert_eq!(present(&store, sample.hash).await, chunks(0..sample.size().div_ceil(1024).max(1)));
        assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
    }
}

#[tokio::test]
async fn outboard_equals_the_reference() {
    for size in BOUNDARY_SIZES {
        let sample = Sample::new(size);
        let (_, entry) = stored(&sample).await;
        let mut outboard = entry.outboard().await.unwrap();
        let tree = BaoTree::new(sample.size(), BLOCK_SIZE);
        assert_eq!((outboard.tree(), outboard.root()), (tree, sample.outboard.root));
        let mut copy =
            PreOrderMemOutboard { root: outboard.root(), tree, data: vec![0; sample.outboard.data.len()] };
        for node in tree.pre_order_nodes_iter() {
            let pair = outboard.load(node).await.unwrap();
            assert_eq!(pair, sync::Outboard::load(&sample.outboard, node).unwrap());
            assert_eq!(pair.is_some(), StoredParent::new(node).unwrap().pre_order(sample.size()).is_some());
            sync::OutboardMut::save(&mut copy, node, &pair.unwrap_or(([0; 32].into(), [0; 32].into())))
                .unwrap();
        }
        assert_eq!(copy.data, sample.outboard.data);
    }
}

#[tokio::test]
async fn read_past_the_end_is_short_or_empty() {
    let sample = Sample::new(20_000);
    let (_, entry) = stored(&sample).await;
    let mut reader = entry.data_reader().await.unwrap();
    for (offset, len) in
        [(19_999, 2), (20_000, 1), (u64::MAX, 1), (u64::MAX, usize::MAX), (0, usize::MAX), (5, 0)]
    {
        let start = usize::try_from(offset).unwrap().min(20_000);
        let expected = sample.data.slice(start..start.saturating_add(len).min(20_000));
        assert_eq!(reader.read_at(offset, len).await.unwrap(), expected);
        assert_eq!(reader.read_range(offset, len).await.unwrap(), expected);
    }
    assert_eq!(reader.size().await.unwrap(), 20_000);
}

#[tokio::test]
async fn readers_share_one_copy() {
    let sample = Sample::new(100_000);
    let (_, entry) = stored(&sample).await;
    let first = entry.data_reader().await.unwrap().read_range(0, usize::MAX).await.unwrap();
    let second = entry.clone().data_reader().await.unwrap().read_range(0, usize::MAX).await.unwrap();
    assert_eq!(first.as_ptr(), second.as_ptr());
    assert_eq!(first.as_ptr(), sample.data.as_ptr());
}

#[tokio::test]
async fn reader_seeks_and_reads_like_a_file() {
    let sample = Sample::new(200_000);
    let (store, _) = stored(&sample).await;
    let mut reader = store.reader(sample.hash).await.unwrap();
    let mut bytes = Vec::new();
    reader.seek(std::io::SeekFrom::End(-70_000)).await.unwrap();
    reader.read_to_end(&mut bytes).await.unwrap();
    assert_eq!(bytes, sample.data[130_000..]);
}

#[tokio::test]
async fn verified_stream_goes_from_store_to_store() {
    for size in BOUNDARY_SIZES {
        let sample = Sample::new(size);
        let (source, _) = stored(&sample).await;
        let encoded = source.export_bao(sample.hash, ChunkRanges::all(), Vec::new()).await.unwrap();
        assert_eq!(encoded, sample.encode(&ChunkRanges::all()));
        let target = MemStore::new();
        target
            .import_bao(sample.hash, sample.size(), ChunkRanges::all(), Bytes::from(encoded))
            .await
            .unwrap();
        assert_eq!(status(&target, sample.hash), EntryStatus::Complete);
        assert_eq!(target.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn verified_ranges_of_a_partial_blob_are_the_whole_groups_present() {
    let sample = Sample::new(200_000);
    let store = MemStore::new();
    let ranges = chunks(16..48) | chunks(100..102);
    store.import_bao(sample.hash, sample.size(), ranges.clone(), sample.encode(&ranges)).await.unwrap();
    assert_eq!(present(&store, sample.hash).await, ranges);
    assert_eq!(store.verified_ranges(sample.hash).await.unwrap(), Some(chunks(16..48)));
}

proptest! {
    #[test]
    fn reads_agree_with_the_bytes(size in 0..70_000_usize, reads in prop::collection::vec((0..80_000_u64, 0..80_000_usize), 1..8)) {
        futures_lite::future::block_on(async {
            let sample = Sample::new(size);
            let (_, entry) = stored(&sample).await;
            let mut reader = entry.data_reader().await.unwrap();
            for (offset, len) in reads {
                let start = usize::try_from(offset).unwrap().min(size);
                let end = (start + len).min(size);
                prop_assert_eq!(reader.read_at(offset, len).await.unwrap(), sample.data.slice(start..end));
            }
            Ok(())
        })?;
    }
}
