//! Blobs, and the handles through which they are read.

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bao_tree::{BaoTree, ChunkRanges, TreeNode, blake3, io::fsm::Outboard};
use blob_traits::{
    BLOCK_SIZE, BaoBlobSize, Error, Hash, MapEntry, PartialTree, ReadBlob, Result, StoredParent,
};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use crate::{partial::Pieces, pins::Pins};

/// The two hashes of a parent.
pub(crate) type Pair = (blake3::Hash, blake3::Hash);

/// A blob. It belongs to the store's state or, once it was deleted, to its handles alone.
pub(crate) struct Blob {
    pub(crate) hash: Hash,
    /// The store's.
    closed: Arc<AtomicBool>,
    /// The store's.
    pins: Pins,
    content: Mutex<Content>,
    /// How often it has become complete. Changes while the content is locked.
    n_completions: AtomicU64,
}

/// What there is of a blob. From partial it becomes whole, and the other way only where it is demoted.
pub(crate) enum Content {
    Partial(Pieces),
    /// A partial blob that was deleted. It can be read, and not written.
    Removed(Pieces),
    Whole(Whole),
}

/// A complete blob: its bytes and its tree in pre-order.
pub(crate) struct Whole {
    pub(crate) data: Bytes,
    pub(crate) outboard: Bytes,
}

impl Blob {
    pub(crate) fn new(hash: Hash, closed: Arc<AtomicBool>, pins: Pins, content: Content) -> Self {
        Self { hash, closed, pins, content: Mutex::new(content), n_completions: AtomicU64::new(0) }
    }

    /// Locks the content. Nothing is awaited and no code of others runs while it is locked.
    pub(crate) fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes it complete.
    pub(crate) fn complete(&self, whole: Whole) {
        let mut content = self.content();
        *content = Content::Whole(whole);
        self.n_completions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn n_completions(&self) -> u64 {
        self.n_completions.load(Ordering::Relaxed)
    }

    /// Says that more of it can be read than before. To be called under the lock by which readers see it.
    pub(crate) fn changed(&self) {
        self.pins.changed(&self.hash);
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn is_whole(&self) -> bool {
        matches!(&*self.content(), Content::Whole(_))
    }

    pub(crate) fn present_ranges(&self) -> ChunkRanges {
        self.content().present_ranges()
    }

    fn size(&self) -> BaoBlobSize {
        self.content().size()
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.content().read(self.hash, offset, len)
    }

    fn pair(&self, parent: StoredParent) -> Option<Pair> {
        self.content().pair(parent)
    }
}

impl Content {
    pub(crate) fn present_ranges(&self) -> ChunkRanges {
        match self {
            Self::Whole(whole) => PartialTree::all_ranges(whole.data.len() as u64),
            Self::Partial(pieces) | Self::Removed(pieces) => pieces.tree().present_ranges(),
        }
    }

    pub(crate) fn size(&self) -> BaoBlobSize {
        match self {
            Self::Whole(whole) => BaoBlobSize::Verified(whole.data.len() as u64),
            Self::Partial(pieces) | Self::Removed(pieces) => pieces.tree().size(),
        }
    }

    pub(crate) fn read(&self, hash: Hash, offset: u64, len: usize) -> Result<Bytes> {
        match self {
            Self::Whole(whole) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.data.len());
                let end = start.saturating_add(len).min(whole.data.len());
                Ok(whole.data.slice(start..end))
            }
            Self::Partial(pieces) | Self::Removed(pieces) => pieces.read(hash, offset, len),
        }
    }

    pub(crate) fn pair(&self, parent: StoredParent) -> Option<Pair> {
        match self {
            Self::Whole(whole) => {
                let position = usize::try_from(parent.pre_order(whole.data.len() as u64)?).ok()?;
                let [left, right] = whole.outboard.as_chunks().0.get(position * 2..position * 2 + 2)? else {
                    return None;
                };
                Some((blake3::Hash::from_bytes(*left), blake3::Hash::from_bytes(*right)))
            }
            Self::Partial(pieces) | Self::Removed(pieces) => pieces.pair(parent),
        }
    }
}

/// A handle to a blob, complete or partial. It shows what the blob is now, also where that changed since it was got.
#[derive(Clone)]
pub struct MemEntry(Arc<Blob>, u64);

impl MemEntry {
    pub(crate) fn new(blob: Arc<Blob>) -> Self {
        let seen = blob.n_completions();
        Self(blob, seen)
    }

    pub(crate) fn blob(&self) -> &Arc<Blob> {
        &self.0
    }

    /// Whether the blob has become complete since the handle was got.
    pub(crate) fn was_completed_since(&self) -> bool {
        self.0.n_completions() != self.1
    }
}

impl fmt::Debug for MemEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemEntry")
            .field("hash", &self.hash())
            .field("size", &self.size())
            .field("is_complete", &self.is_complete())
            .finish()
    }
}

impl MapEntry for MemEntry {
    type DataReader = MemReader;
    type Outboard = MemOutboard;

    fn hash(&self) -> Hash {
        self.0.hash
    }

    fn size(&self) -> BaoBlobSize {
        self.0.size()
    }

    fn is_complete(&self) -> bool {
        self.0.is_whole()
    }

    async fn outboard(&self) -> io::Result<MemOutboard> {
        self.0.check_open()?;
        let tree = BaoTree::new(self.0.size().value(), BLOCK_SIZE);
        Ok(MemOutboard { blob: self.0.clone(), tree })
    }

    async fn data_reader(&self) -> io::Result<MemReader> {
        self.0.check_open()?;
        Ok(MemReader(self.0.clone()))
    }
}

/// Reads the bytes of a blob. What lies in one piece is shared, not copied.
pub struct MemReader(Arc<Blob>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Blob").field(&self.hash).finish()
    }
}

impl fmt::Debug for MemReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemReader").field(&self.0.hash).finish()
    }
}

impl AsyncSliceReader for MemReader {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        Ok(self.0.read(offset, len)?)
    }

    async fn size(&mut self) -> io::Result<u64> {
        Ok(self.0.size().value())
    }
}

impl ReadBlob for MemReader {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        Ok(self.0.read(offset, len)?)
    }
}

/// Reads the hash tree of a blob, in the shape that the blob had when it was opened.
#[derive(Debug)]
pub struct MemOutboard {
    blob: Arc<Blob>,
    tree: BaoTree,
}

impl Outboard for MemOutboard {
    fn root(&self) -> blake3::Hash {
        self.blob.hash.into()
    }

    fn tree(&self) -> BaoTree {
        self.tree
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<Pair>> {
        let parent = StoredParent::new(node).filter(|parent| parent.pre_order(self.tree.size()).is_some());
        let absent = [0; 32].into();
        Ok(parent.map(|parent| self.blob.pair(parent).unwrap_or((absent, absent))))
    }
}
