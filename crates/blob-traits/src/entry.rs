//! Handles to single blobs.

use std::{fmt::Debug, future::Future, io};

use bao_tree::io::{BaoContentItem, fsm};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use crate::{BaoBlobSize, Hash};

/// Reads a blob at any offset.
///
/// A read past the end is short or empty, never an error. A read of bytes that a partial blob does not have fails
/// with [`Error::Incomplete`](crate::Error::Incomplete) inside the [`io::Error`]; nothing wrong is ever returned for
/// them.
pub trait ReadBlob: AsyncSliceReader + Send + 'static {
    /// Reads up to `len` bytes at `offset`, less only at the end of the blob; its future is `Send`, which those of
    /// [`AsyncSliceReader`] cannot be bounded to be.
    fn read_range(&mut self, offset: u64, len: usize) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// A handle to a blob: cheap to get and to clone, with nothing opened until a reader is asked for.
///
/// What it reads stays readable while it lives, or fails clearly when the blob was deleted by force; it never turns
/// into other bytes. It shows the state at the time it was got, but a partial blob gains ranges under it.
pub trait MapEntry: Clone + Debug + Send + Sync + 'static {
    /// The reader of the blob's bytes.
    type DataReader: ReadBlob;

    /// The blob's hash tree.
    type Outboard: fsm::Outboard + Send + 'static;

    /// The name of the blob.
    fn hash(&self) -> Hash;

    /// Its size: verified for a complete blob, otherwise as far as it is known.
    fn size(&self) -> BaoBlobSize;

    /// Tells whether the blob is recorded as complete; nothing is verified again.
    fn is_complete(&self) -> bool;

    /// Opens the hash tree. For nodes of a partial blob that are not there yet it loads pairs of zeros, which never
    /// verify.
    fn outboard(&self) -> impl Future<Output = io::Result<Self::Outboard>> + Send;

    /// Opens the bytes.
    fn data_reader(&self) -> impl Future<Output = io::Result<Self::DataReader>> + Send;
}

/// A handle through which a partial blob can be written.
pub trait MapEntryMut: MapEntry {
    /// The writer.
    type BatchWriter: BaoBatchWriter + 'static;

    /// Opens a writer. Writers of one blob, of any number of handles, meet in one entry.
    fn batch_writer(&self) -> impl Future<Output = io::Result<Self::BatchWriter>> + Send;
}

/// Writes items of a verified stream to a partial blob.
///
/// Items are trusted to belong to the blob's root: [`import_bao`](crate::MapMutExt::import_bao) verifies them. The
/// writer checks structure.
pub trait BaoBatchWriter: Send {
    /// Writes parents (in pre-order) and leaves (by offset, gaps allowed), all under the size claim `size`.
    ///
    /// Idempotent. All or nothing: a batch that is refused changes nothing. A leaf is present, for readers and for
    /// [`present_ranges`](crate::BlobStatus::present_ranges), once its bytes and every stored parent above it are
    /// written. Once the blob is complete, writes succeed and write nothing.
    ///
    /// # Errors
    /// [`Error::SizeConflict`](crate::Error::SizeConflict) when the entry goes by another size,
    /// [`Error::InvalidBatch`](crate::Error::InvalidBatch) for an item that does not fit into the tree.
    fn write_batch(
        &mut self,
        size: u64,
        batch: Vec<BaoContentItem>,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Makes what was written durable: after it has returned, it survives a crash.
    fn sync(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

impl<W: BaoBatchWriter> BaoBatchWriter for &mut W {
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        (**self).write_batch(size, batch).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        (**self).sync().await
    }
}

/// Wraps a batch writer and reports every leaf of every batch, once it is written, as (offset, length) in bytes.
///
/// An error of the callback is returned to the writer's caller, which ends a download.
#[derive(Debug)]
pub struct FallibleProgressBatchWriter<W, F> {
    inner: W,
    on_leaf: F,
}

impl<W, F> FallibleProgressBatchWriter<W, F>
where
    W: BaoBatchWriter,
    F: Fn(u64, usize) -> io::Result<()> + Send + Sync + 'static,
{
    /// Wraps a writer.
    pub fn new(inner: W, on_leaf: F) -> Self {
        Self { inner, on_leaf }
    }
}

impl<W, F> BaoBatchWriter for FallibleProgressBatchWriter<W, F>
where
    W: BaoBatchWriter,
    F: Fn(u64, usize) -> io::Result<()> + Send + Sync + 'static,
{
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        let leaves: Vec<_> = batch
            .iter()
            .filter_map(|item| match item {
                BaoContentItem::Leaf(leaf) => Some((leaf.offset, leaf.data.len())),
                BaoContentItem::Parent(_) => None,
            })
            .collect();
        self.inner.write_batch(size, batch).await?;
        leaves.into_iter().try_for_each(|(offset, len)| (self.on_leaf)(offset, len))
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.inner.sync().await
    }
}
