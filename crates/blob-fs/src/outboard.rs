//! Hash trees of stored blobs.

use std::{io, sync::Arc};

use bao_tree::{
    BaoTree, TreeNode, blake3,
    io::{fsm::Outboard, outboard::PreOrderMemOutboard},
};
use blob_traits::{Error, Hash, MapEntry};
use bytes::Bytes;

use crate::{
    entry::Entry,
    files::read_range,
    partial::Partial,
    vfs::{FileRef, VfsFile},
};

/// The hash tree of a blob.
#[derive(Debug)]
pub struct FsOutboard(pub(crate) Tree);

/// Where the pairs come from.
#[derive(Debug)]
pub(crate) enum Tree {
    /// All of it in memory.
    Memory(PreOrderMemOutboard<Bytes>),
    /// In a file, in pre-order.
    File { root: Hash, tree: BaoTree, pairs: PairsFile },
    /// Of a partial blob.
    Partial { entry: Entry, partial: Arc<Partial>, tree: BaoTree },
}

/// The bytes of a pair.
const PAIR: usize = 64;
/// How much of the pairs is read in one go by who reads them in order.
const WINDOW: usize = 64 << 10;

/// A file of pairs.
#[derive(Debug)]
pub(crate) struct PairsFile {
    file: FileRef,
    window_start: u64,
    window: Bytes,
    /// Behind the pair that was read last.
    next: u64,
}

impl PairsFile {
    pub(crate) fn new(file: FileRef) -> Self {
        Self { file, window_start: 0, window: Bytes::new(), next: 0 }
    }

    async fn read(&mut self, offset: u64) -> io::Result<Bytes> {
        let is_in_order = std::mem::replace(&mut self.next, offset + PAIR as u64) == offset;
        if let Some(pair) = self.windowed(offset) {
            return Ok(pair);
        }
        if is_in_order
            && let Ok(stat) = self.file.stat()
            && let Ok(len) = usize::try_from(stat.size.saturating_sub(offset))
            && let Ok(window) = read_range(self.file.clone(), offset, len.min(WINDOW)).await
        {
            (self.window_start, self.window) = (offset, window);
            if let Some(pair) = self.windowed(offset) {
                return Ok(pair);
            }
        }
        read_range(self.file.clone(), offset, PAIR).await
    }

    fn windowed(&self, offset: u64) -> Option<Bytes> {
        let start = usize::try_from(offset.checked_sub(self.window_start)?).ok()?;
        let end = start.checked_add(PAIR)?;
        (end <= self.window.len()).then(|| self.window.slice(start..end))
    }
}

impl FsOutboard {
    /// Goes over to what a partial blob has become by now, if that has the same shape.
    async fn follow(&mut self) {
        if let Tree::Partial { entry, partial, tree } = &self.0
            && partial.is_complete()
            && let Ok(entry) = entry.current()
            && entry.size().value() == tree.size()
            && let Ok(outboard) = entry.any_outboard().await
        {
            *self = outboard;
        }
    }
}

impl Outboard for FsOutboard {
    fn root(&self) -> blake3::Hash {
        match &self.0 {
            Tree::Memory(outboard) => outboard.root,
            Tree::File { root, .. } => (*root).into(),
            Tree::Partial { partial, .. } => partial.hash().into(),
        }
    }

    fn tree(&self) -> BaoTree {
        match &self.0 {
            Tree::Memory(outboard) => outboard.tree,
            Tree::File { tree, .. } | Tree::Partial { tree, .. } => *tree,
        }
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        self.follow().await;
        match &mut self.0 {
            Tree::Memory(outboard) => outboard.load(node).await,
            Tree::File { root, tree, pairs } => {
                let Some(index) = tree.pre_order_offset(node) else { return Ok(None) };
                let bytes = pairs.read(index * PAIR as u64).await.map_err(|e| short(*root, e))?;
                Ok(parse_pair(&bytes))
            }
            Tree::Partial { entry, partial, tree } => partial.load(&entry.engine, node, tree.size()).await,
        }
    }
}

fn short(hash: Hash, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::Damaged { hash, what: "its outboard is too short".to_owned() }.into();
    }
    error
}

/// Reads a pair of chaining values.
pub(crate) fn parse_pair(bytes: &[u8]) -> Option<(blake3::Hash, blake3::Hash)> {
    let (left, right) = bytes.split_first_chunk::<32>()?;
    let right: &[u8; 32] = right.try_into().ok()?;
    Some((blake3::Hash::from_bytes(*left), blake3::Hash::from_bytes(*right)))
}

/// Reads a pair from a file in which pairs that were never written are zeros or missing.
pub(crate) fn read_pair(file: &dyn VfsFile, offset: u64) -> io::Result<[u8; 64]> {
    let mut pair = [0; 64];
    match file.read_exact_at(&mut pair, offset) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok([0; 64]),
        other => other.map(|()| pair),
    }
}
