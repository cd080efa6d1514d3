//! Handles, readers, trees and writers with a defect.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bao_tree::{
    BaoTree, TreeNode, blake3,
    io::{BaoContentItem, fsm::Outboard},
};
use blob_traits::{BaoBatchWriter, BaoBlobSize, Error, Hash, MapEntry, MapEntryMut, ReadBlob};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use super::Defect;

/// So many readers of all blobs may be open in a store with [`Defect::BusyReaders`].
const MAX_READERS: usize = 8;

/// What a handle knows of the defects of reading.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) defect: Defect,
    /// Where the blob's file was imported from.
    pub(super) file: Option<PathBuf>,
    pub(super) readers: Arc<AtomicUsize>,
}

/// A handle to a blob of a broken store.
#[derive(Clone)]
pub struct BrokenEntry<E> {
    inner: E,
    reading: Reading,
    is_deleted: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// A reader of a broken store.
pub struct BrokenReader<R> {
    inner: R,
    size: u64,
    reading: Reading,
    is_deleted: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// A tree of a broken store.
#[derive(Debug)]
pub struct BrokenOutboard<O> {
    inner: O,
    defect: Defect,
}

/// A writer of a broken store.
#[derive(Debug)]
pub struct BrokenWriter<W> {
    inner: W,
    defect: Defect,
}

impl<E: MapEntry> BrokenEntry<E> {
    pub(super) fn new(
        inner: E,
        reading: Reading,
        is_deleted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { inner, reading, is_deleted: Arc::new(is_deleted) }
    }

    pub(super) fn into_inner(self) -> E {
        self.inner
    }
}

impl<E: MapEntry> MapEntry for BrokenEntry<E> {
    type DataReader = BrokenReader<E::DataReader>;
    type Outboard = BrokenOutboard<E::Outboard>;

    fn hash(&self) -> Hash {
        self.inner.hash()
    }

    fn size(&self) -> BaoBlobSize {
        match self.inner.size() {
            BaoBlobSize::Verified(size) if self.reading.defect == Defect::SizeUnverified => {
                BaoBlobSize::Unverified(size)
            }
            size => size,
        }
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    async fn outboard(&self) -> io::Result<Self::Outboard> {
        Ok(BrokenOutboard { inner: self.inner.outboard().await?, defect: self.reading.defect })
    }

    async fn data_reader(&self) -> io::Result<Self::DataReader> {
        let open = self.reading.readers.fetch_add(1, Ordering::Relaxed);
        let reader = BrokenReader {
            inner: self.inner.data_reader().await?,
            size: self.inner.size().value(),
            reading: self.reading.clone(),
            is_deleted: self.is_deleted.clone(),
        };
        if self.reading.defect == Defect::BusyReaders && open >= MAX_READERS {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Ok(reader)
    }
}

impl<E: MapEntryMut> MapEntryMut for BrokenEntry<E> {
    type BatchWriter = BrokenWriter<E::BatchWriter>;

    async fn batch_writer(&self) -> io::Result<Self::BatchWriter> {
        Ok(BrokenWriter { inner: self.inner.batch_writer().await?, defect: self.reading.defect })
    }
}

impl<R> BrokenReader<R> {
    /// What is read of a range that the inner reader may or may not have.
    fn told(&self, offset: u64, len: usize, read: io::Result<Bytes>) -> io::Result<Bytes> {
        let n_there = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX).min(len);
        match (self.reading.defect, read) {
            (Defect::ErrorPastTheEnd, _) if n_there < len => Err(io::ErrorKind::UnexpectedEof.into()),
            (Defect::TruncatedTail, Ok(bytes)) if n_there > 0 && offset + n_there as u64 == self.size => {
                Ok(bytes.slice(..bytes.len() - 1))
            }
            (Defect::ZerosForMissing, Err(_)) => Ok(vec![0; n_there].into()),
            (Defect::ZerosAfterDelete, Ok(bytes)) if (self.is_deleted)() => Ok(vec![0; bytes.len()].into()),
            (Defect::ChangedFileServed, read) => match &self.reading.file {
                Some(path) => {
                    let bytes = Bytes::from(std::fs::read(path)?);
                    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    Ok(bytes.slice(start..bytes.len().min(start.saturating_add(len))))
                }
                None => read,
            },
            (_, read) => read,
        }
    }

    fn offset(&self, offset: u64) -> u64 {
        if self.reading.defect == Defect::IgnoredOffset { 0 } else { offset }
    }
}

impl<R: ReadBlob> ReadBlob for BrokenReader<R> {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = self.inner.read_range(self.offset(offset), len).await;
        self.told(offset, len, read)
    }
}

impl<R: ReadBlob> AsyncSliceReader for BrokenReader<R> {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let read = self.inner.read_at(self.offset(offset), len).await;
        self.told(offset, len, read)
    }

    async fn size(&mut self) -> io::Result<u64> {
        self.inner.size().await
    }
}

impl<R> Drop for BrokenReader<R> {
    fn drop(&mut self) {
        self.reading.readers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<O: Outboard> Outboard for BrokenOutboard<O> {
    fn root(&self) -> blake3::Hash {
        self.inner.root()
    }

    fn tree(&self) -> BaoTree {
        self.inner.tree()
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        let pair = self.inner.load(node).await?;
        Ok(match pair {
            Some((_, right)) if self.defect == Defect::DamagedOutboard => Some((right, right)),
            pair => pair,
        })
    }
}

impl<W: BaoBatchWriter> BaoBatchWriter for BrokenWriter<W> {
    async fn write_batch(&mut self, size: u64, mut batch: Vec<BaoContentItem>) -> io::Result<()> {
        if self.defect == Defect::FirstLeafOnly {
            let mut leaves = 0;
            batch.retain(|item| {
                leaves += u64::from(matches!(item, BaoContentItem::Leaf(_)));
                matches!(item, BaoContentItem::Parent(_)) || leaves == 1
            });
        }
        match self.inner.write_batch(size, batch).await.map_err(Error::from) {
            Err(Error::InvalidBatch { .. }) if self.defect == Defect::MalformedBatchIgnored => Ok(()),
            other => Ok(other?),
        }
    }

    async fn sync(&mut self) -> io::Result<()> {
        if self.defect == Defect::SyncDropped { Ok(()) } else { self.inner.sync().await }
    }
}

impl<E: MapEntry> fmt::Debug for BrokenEntry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BrokenEntry").field(&self.inner).finish()
    }
}

impl<R> fmt::Debug for BrokenReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokenReader").field("size", &self.size).finish_non_exhaustive()
    }
}
