//! Readers of any type: of bytes, and of hash trees.

use std::{fmt, future::Future, io, pin::Pin};

use bao_tree::{BaoTree, TreeNode, blake3, io::fsm::Outboard};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use super::erased::BoxFuture;
use crate::ReadBlob;

/// A boxed future that cannot be sent: those of bao-tree's and iroh-io's traits promise no more.
type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// The two hashes of a parent.
type Pair = (blake3::Hash, blake3::Hash);

trait ErasedReader: Send {
    fn read_range(&mut self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>>;
    fn read_at(&mut self, offset: u64, len: usize) -> LocalBoxFuture<'_, io::Result<Bytes>>;
    fn read_exact_at(&mut self, offset: u64, len: usize) -> LocalBoxFuture<'_, io::Result<Bytes>>;
    fn size(&mut self) -> LocalBoxFuture<'_, io::Result<u64>>;
}

impl<R: ReadBlob> ErasedReader for R {
    fn read_range(&mut self, offset: u64, len: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        Box::pin(ReadBlob::read_range(self, offset, len))
    }

    fn read_at(&mut self, offset: u64, len: usize) -> LocalBoxFuture<'_, io::Result<Bytes>> {
        Box::pin(AsyncSliceReader::read_at(self, offset, len))
    }

    fn read_exact_at(&mut self, offset: u64, len: usize) -> LocalBoxFuture<'_, io::Result<Bytes>> {
        Box::pin(AsyncSliceReader::read_exact_at(self, offset, len))
    }

    fn size(&mut self) -> LocalBoxFuture<'_, io::Result<u64>> {
        Box::pin(AsyncSliceReader::size(self))
    }
}

/// The reader of a blob in a [`DynStore`](super::DynStore).
pub struct DynReader(Box<dyn ErasedReader>);

impl DynReader {
    pub(super) fn new(reader: impl ReadBlob) -> Self {
        Self(Box::new(reader))
    }
}

impl fmt::Debug for DynReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynReader").finish_non_exhaustive()
    }
}

impl AsyncSliceReader for DynReader {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read_at(offset, len).await
    }

    async fn read_exact_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read_exact_at(offset, len).await
    }

    async fn size(&mut self) -> io::Result<u64> {
        self.0.size().await
    }
}

impl ReadBlob for DynReader {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read_range(offset, len).await
    }
}

trait ErasedOutboard: Send {
    fn root(&self) -> blake3::Hash;
    fn tree(&self) -> BaoTree;
    fn load(&mut self, node: TreeNode) -> LocalBoxFuture<'_, io::Result<Option<Pair>>>;
}

impl<O: Outboard + Send> ErasedOutboard for O {
    fn root(&self) -> blake3::Hash {
        Outboard::root(self)
    }

    fn tree(&self) -> BaoTree {
        Outboard::tree(self)
    }

    fn load(&mut self, node: TreeNode) -> LocalBoxFuture<'_, io::Result<Option<Pair>>> {
        Box::pin(Outboard::load(self, node))
    }
}

/// The hash tree of a blob in a [`DynStore`](super::DynStore).
pub struct DynOutboard(Box<dyn ErasedOutboard>);

impl DynOutboard {
    pub(super) fn new(outboard: impl Outboard + Send + 'static) -> Self {
        Self(Box::new(outboard))
    }
}

impl fmt::Debug for DynOutboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynOutboard").field("root", &self.0.root()).finish_non_exhaustive()
    }
}

impl Outboard for DynOutboard {
    fn root(&self) -> blake3::Hash {
        self.0.root()
    }

    fn tree(&self) -> BaoTree {
        self.0.tree()
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<Pair>> {
        self.0.load(node).await
    }
}
