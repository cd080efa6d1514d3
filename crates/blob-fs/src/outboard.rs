//! Hash trees of stored blobs.

use std::{io, sync::Arc};

use bao_tree::{
    BaoTree, TreeNode, blake3,
    io::{fsm::Outboard, outboard::PreOrderMemOutboard},
};
use blob_traits::{BLOCK_SIZE, Error, Hash};
use bytes::Bytes;

use crate::{
    files::read_range,
    partial::Partial,
    vfs::{FileRef, VfsFile},
};

/// The hash tree of a blob.
#[derive(Debug)]
pub(crate) enum FsOutboard {
    /// All of it in memory.
    Memory(PreOrderMemOutboard<Bytes>),
    /// In a file, in pre-order.
    File { root: Hash, tree: BaoTree, file: FileRef },
    /// Of a partial blob.
    Partial(Arc<Partial>),
}

impl Outboard for FsOutboard {
    fn root(&self) -> blake3::Hash {
        match self {
            Self::Memory(outboard) => outboard.root,
            Self::File { root, .. } => (*root).into(),
            Self::Partial(partial) => partial.hash().into(),
        }
    }

    fn tree(&self) -> BaoTree {
        match self {
            Self::Memory(outboard) => outboard.tree,
            Self::File { tree, .. } => *tree,
            Self::Partial(partial) => BaoTree::new(partial.size().value(), BLOCK_SIZE),
        }
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        match self {
            Self::Memory(outboard) => outboard.load(node).await,
            Self::File { root, tree, file } => {
                let Some(index) = tree.pre_order_offset(node) else { return Ok(None) };
                let bytes = read_range(file.clone(), index * 64, 64).await.map_err(|e| short(*root, e))?;
                Ok(parse_pair(&bytes))
            }
            Self::Partial(partial) => partial.load(node).await,
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
