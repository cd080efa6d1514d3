//! Where the pairs and the bytes of a blob come from.

use bao_tree::{BaoTree, TreeNode, blake3, io::fsm::Outboard};
use blob_traits::{BLOCK_SIZE, Error, Hash, MapEntry, ReadBlob, Result};
use bytes::Bytes;
use futures_lite::future::block_on;

/// The two hashes of a parent.
pub(crate) type Pair = (blake3::Hash, blake3::Hash);

/// What is stored of a blob. Nothing of it is proved; calls may block.
pub(crate) trait Pieces: Send {
    /// Loads a pair, `None` where there is none.
    fn pair(&mut self, parent: TreeNode) -> Result<Option<Pair>>;

    /// Reads exactly so many bytes, those of a chunk group.
    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes>;

    /// How many bytes there are, where that can be told.
    fn stored_len(&mut self) -> Result<Option<u64>>;
}

/// A blob in memory.
pub(crate) struct InMemory {
    data: Bytes,
    outboard: Bytes,
    tree: BaoTree,
}

impl InMemory {
    pub(crate) fn new(data: Bytes, outboard: Bytes) -> Self {
        let tree = BaoTree::new(data.len() as u64, BLOCK_SIZE);
        Self { data, outboard, tree }
    }

    /// Whether the tree has the length that goes with the bytes.
    pub(crate) fn fits(&self) -> bool {
        self.outboard.len() as u64 == self.tree.outboard_size()
    }
}

impl Pieces for InMemory {
    fn pair(&mut self, parent: TreeNode) -> Result<Option<Pair>> {
        let position = self.tree.pre_order_offset(parent).and_then(|at| usize::try_from(at).ok());
        let hashes = self.outboard.as_chunks::<32>().0;
        let pair = position.and_then(|at| hashes.get(at * 2..at * 2 + 2));
        Ok(match pair {
            Some([left, right]) => Some((blake3::Hash::from_bytes(*left), blake3::Hash::from_bytes(*right))),
            _ => None,
        })
    }

    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.data.len());
        let end = start.saturating_add(len).min(self.data.len());
        Ok(self.data.slice(start..end))
    }

    fn stored_len(&mut self) -> Result<Option<u64>> {
        Ok(Some(self.data.len() as u64))
    }
}

/// How far a reader of a blob looks ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadAhead {
    /// Not at all: each group is read by itself, and only when it is wanted.
    None,
    /// As far as is read quickly in one go.
    Window,
}

/// How much is read in one go.
const WINDOW: usize = 128 << 10;

/// An open blob of a store.
pub(crate) struct Opened<O, R> {
    hash: Hash,
    /// Without its tree, a blob can still be proved by its bytes.
    outboard: Option<O>,
    reader: R,
    read_ahead: ReadAhead,
    window_start: u64,
    window: Bytes,
}

impl<O: Outboard + Send + 'static, R: ReadBlob> Opened<O, R> {
    /// Opens what an entry stands for. Blocks.
    ///
    /// # Errors
    /// Those of opening its bytes.
    pub(crate) fn new<E>(entry: &E, read_ahead: ReadAhead) -> Result<Self>
    where
        E: MapEntry<Outboard = O, DataReader = R>,
    {
        let reader = block_on(entry.data_reader())?;
        let outboard = block_on(entry.outboard()).ok();
        let hash = entry.hash();
        Ok(Self { hash, outboard, reader, read_ahead, window_start: 0, window: Bytes::new() })
    }

    fn windowed(&self, offset: u64, len: usize) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.window_start)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }
}

impl<O: Outboard + Send + 'static, R: ReadBlob> Pieces for Opened<O, R> {
    fn pair(&mut self, parent: TreeNode) -> Result<Option<Pair>> {
        match &mut self.outboard {
            Some(outboard) => Ok(block_on(outboard.load(parent))?),
            None => Ok(None),
        }
    }

    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        if let Some(bytes) = self.windowed(offset, len) {
            return Ok(bytes);
        }
        if self.read_ahead == ReadAhead::Window
            && let Ok(window) = block_on(self.reader.read_range(offset, WINDOW))
        {
            (self.window_start, self.window) = (offset, window);
            if let Some(bytes) = self.windowed(offset, len) {
                return Ok(bytes);
            }
        }
        // Something in the window cannot be read; that need not be this group.
        let bytes = block_on(self.reader.read_range(offset, len))?;
        if bytes.len() < len {
            let what = format!("it ends {} bytes too early", len - bytes.len());
            return Err(Error::Damaged { hash: self.hash, what });
        }
        Ok(bytes)
    }

    fn stored_len(&mut self) -> Result<Option<u64>> {
        Ok(Some(block_on(self.reader.size())?))
    }
}
