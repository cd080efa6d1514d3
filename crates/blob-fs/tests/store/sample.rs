//! Blobs to test with, and their verified streams taken apart.

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges,
    io::{
        BaoContentItem,
        outboard::PreOrderMemOutboard,
        sync::{DecodeResponseIter, encode_ranges_validated},
    },
};
use blob_fs::FsStore;
use blob_traits::{BLOCK_SIZE, BlobFormat, EntryStatus, Error, Hash, MapEntryMut, TempTag, prelude::*};
use bytes::Bytes;

/// A blob and what is to be said about it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) data: Bytes,
    pub(crate) hash: Hash,
    pub(crate) outboard: PreOrderMemOutboard,
}

impl Sample {
    /// Bytes without a pattern, the same each time.
    pub(crate) fn new(size: usize) -> Self {
        Self::numbered(size, 0)
    }

    /// Another blob of that size for each number.
    pub(crate) fn numbered(size: usize, number: usize) -> Self {
        let mut data = vec![0; size];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&size.to_le_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(&mut data);
        let outboard = PreOrderMemOutboard::create(&data, BLOCK_SIZE);
        Self { data: data.into(), hash: outboard.root.into(), outboard }
    }

    pub(crate) fn size(&self) -> u64 {
        self.data.len() as u64
    }

    pub(crate) fn n_chunks(&self) -> u64 {
        self.size().div_ceil(1024).max(1)
    }

    /// The bytes of some chunks.
    pub(crate) fn bytes_of(&self, chunks: std::ops::Range<u64>) -> Bytes {
        let [start, end] = [chunks.start, chunks.end]
            .map(|chunk| usize::try_from(chunk * 1024).unwrap().min(self.data.len()));
        self.data.slice(start..end)
    }

    /// The verified stream of some ranges.
    pub(crate) fn encode(&self, ranges: &ChunkRanges) -> Bytes {
        let mut encoded = Vec::new();
        encode_ranges_validated(&*self.data, &self.outboard, ranges, &mut encoded).unwrap();
        encoded.into()
    }

    /// Its items, as a download under a size claim would decode them: up to the first that gives the claim away.
    pub(crate) fn items_as(&self, claim: u64, ranges: &ChunkRanges) -> Vec<BaoContentItem> {
        let encoded = self.encode(ranges);
        let tree = BaoTree::new(claim, BLOCK_SIZE);
        let items = DecodeResponseIter::new(self.outboard.root, tree, &*encoded, ranges);
        items.map_while(std::result::Result::ok).collect()
    }

    pub(crate) fn items(&self, ranges: &ChunkRanges) -> Vec<BaoContentItem> {
        self.items_as(self.size(), ranges)
    }

    pub(crate) fn all_items(&self) -> Vec<BaoContentItem> {
        self.items(&ChunkRanges::all())
    }
}

pub(crate) fn chunks(range: std::ops::Range<u64>) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end))
}

pub(crate) async fn import(store: &FsStore, sample: &Sample) -> TempTag {
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap()
}

/// Writes items under a claim through a handle of its own.
pub(crate) async fn write(
    store: &FsStore,
    hash: Hash,
    claim: u64,
    items: Vec<BaoContentItem>,
) -> blob_traits::Result<()> {
    let entry = store.get_or_create(hash, claim).await?;
    Ok(entry.batch_writer().await?.write_batch(claim, items).await?)
}

pub(crate) async fn present(store: &FsStore, hash: Hash) -> ChunkRanges {
    store.present_ranges(&hash).await.unwrap().unwrap()
}

pub(crate) fn status(store: &FsStore, hash: Hash) -> EntryStatus {
    store.entry_status_sync(&hash).unwrap()
}

/// Takes the store's error out of a reader's or writer's.
pub(crate) fn error_of<T: std::fmt::Debug>(result: std::io::Result<T>) -> Error {
    result.unwrap_err().into()
}
