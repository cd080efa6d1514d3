//! Blobs to test with, and their verified streams taken apart.

use std::{fmt, io, ops::Range};

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges, TreeNode,
    io::{
        BaoContentItem,
        outboard::PreOrderMemOutboard,
        sync::{DecodeResponseIter, encode_ranges_validated},
    },
};
use blob_traits::{
    BLOCK_SIZE, BaoBatchWriter, BlobFormat, Error, Hash, ImportExt, MapEntryMut, MapMut, Result, TempTag,
};
use bytes::Bytes;

/// The bytes of a chunk group.
pub const GROUP: u64 = 16 << 10;

/// A blob and what is to be said about it, by code that is not the backend's.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Its bytes.
    pub data: Bytes,
    /// Its name.
    pub hash: Hash,
    /// Its hash tree.
    pub outboard: PreOrderMemOutboard,
}

impl Sample {
    /// Bytes without a pattern, the same each time.
    pub fn new(size: usize) -> Self {
        Self::numbered(size, 0)
    }

    /// Another blob of that size for each number.
    pub fn numbered(size: usize, number: u64) -> Self {
        let mut data = vec![0; size];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&size.to_le_bytes()).update(&number.to_le_bytes()).finalize_xof().fill(&mut data);
        Self::of(data)
    }

    /// A blob of these bytes.
    pub fn of(data: impl Into<Bytes>) -> Self {
        let data = data.into();
        let outboard = PreOrderMemOutboard::create(&data, BLOCK_SIZE);
        Self { data, hash: outboard.root.into(), outboard }
    }

    /// How many bytes it has.
    pub fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// How many chunks of 1 KiB it has.
    pub fn n_chunks(&self) -> u64 {
        self.size().div_ceil(1024).max(1)
    }

    /// How many chunk groups of 16 KiB it has.
    pub fn n_groups(&self) -> u64 {
        self.size().div_ceil(GROUP).max(1)
    }

    /// The bytes of a chunk group.
    pub(crate) fn bytes_of_group(&self, group: u64) -> Range<usize> {
        let at = |group: u64| usize::try_from((group * GROUP).min(self.size())).unwrap_or(usize::MAX);
        at(group)..at(group + 1)
    }

    /// The chunks of a chunk group.
    pub(crate) fn group_range(&self, group: u64) -> ChunkRanges {
        chunks(group * 16..((group + 1) * 16).min(self.n_chunks()))
    }

    /// Where the lowest pair above a chunk group lies in its tree; `None` if that is all of the blob.
    pub(crate) fn position_of_pair_above(&self, group: u64) -> Option<u64> {
        let tree = BaoTree::new(self.size(), BLOCK_SIZE);
        let is_above = |node: &TreeNode| {
            let below = ChunkRanges::from(node.chunk_range());
            !self.group_range(group).is_disjoint(&below)
        };
        let above = tree.pre_order_nodes_iter().filter(is_above);
        above.filter_map(|node| tree.pre_order_offset(node)).last().map(|at| at * 64)
    }

    /// All chunks that it has.
    pub(crate) fn all_chunks(&self) -> ChunkRanges {
        chunks(0..self.n_chunks())
    }

    /// Its bytes from `start` on, at most `len`.
    pub fn slice(&self, start: u64, len: u64) -> Bytes {
        let [start, end] =
            [start, start.saturating_add(len)].map(|at| usize::try_from(at.min(self.size())).unwrap_or(0));
        self.data.slice(start..end)
    }

    /// The verified stream of some ranges.
    pub fn encode(&self, ranges: &ChunkRanges) -> Bytes {
        let mut encoded = Vec::new();
        encode_ranges_validated(&*self.data, &self.outboard, ranges, &mut encoded)
            .expect("the tree was made of these bytes");
        encoded.into()
    }

    /// The items of some ranges, as a download under a size claim would decode them: up to the first that gives the
    /// claim away.
    pub fn items_as(&self, claim: u64, ranges: &ChunkRanges) -> Vec<BaoContentItem> {
        let encoded = self.encode(ranges);
        let tree = BaoTree::new(claim, BLOCK_SIZE);
        let items = DecodeResponseIter::new(self.outboard.root, tree, &*encoded, ranges);
        items.map_while(std::result::Result::ok).collect()
    }

    /// The items of some ranges.
    pub fn items(&self, ranges: &ChunkRanges) -> Vec<BaoContentItem> {
        self.items_as(self.size(), ranges)
    }

    /// All items.
    pub fn all_items(&self) -> Vec<BaoContentItem> {
        self.items(&ChunkRanges::all())
    }

    /// Imports it from memory.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn import<S: ImportExt>(&self, store: &S) -> Result<TempTag> {
        store.import_bytes(self.data.clone(), BlobFormat::Raw).await
    }

    /// Writes some of its ranges as a download would, through a handle of its own.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn write<S: MapMut>(&self, store: &S, ranges: &ChunkRanges) -> Result<()> {
        write_items(store, self.hash, self.size(), self.items(ranges)).await
    }
}

/// Writes items under a claim through a handle of its own.
///
/// # Errors
/// Those of the store.
pub async fn write_items<S: MapMut>(
    store: &S,
    hash: Hash,
    claim: u64,
    items: Vec<BaoContentItem>,
) -> Result<()> {
    let entry = store.get_or_create(hash, claim).await?;
    Ok(entry.batch_writer().await?.write_batch(claim, items).await?)
}

/// Chunks of 1 KiB as a range set.
pub fn chunks(range: Range<u64>) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end))
}

/// Chunk groups of 16 KiB as a range set.
pub fn groups(range: Range<u64>) -> ChunkRanges {
    chunks(range.start * 16..range.end * 16)
}

/// Takes the store's error out of a reader's or writer's; panics where there was none.
#[track_caller]
pub fn error_of<T: fmt::Debug>(result: io::Result<T>) -> Error {
    result.expect_err("this has to fail").into()
}
