//! Handles, readers and trees of blobs that read as harmed.

use std::{io, sync::Arc};

use bao_tree::{BaoTree, TreeNode, blake3, io::fsm::Outboard};
use blob_traits::{BaoBlobSize, Hash, MapEntry, MapEntryMut, ReadBlob};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use super::Stored;
use crate::{GROUP, group_ranges};

/// A handle to a blob.
#[derive(Clone, Debug)]
pub(crate) struct HarmedEntry<E> {
    inner: E,
    stored: Option<Arc<Stored>>,
}

/// A reader of a blob.
#[derive(Debug)]
pub(crate) enum HarmedReader<R> {
    Sound(R),
    Harmed(Arc<Stored>),
}

/// A tree of a blob.
#[derive(Debug)]
pub(crate) struct HarmedTree<O> {
    inner: O,
    stored: Option<Arc<Stored>>,
}

impl<E> HarmedEntry<E> {
    pub(super) fn new(inner: E, stored: Option<Arc<Stored>>) -> Self {
        Self { inner, stored }
    }

    pub(super) fn into_inner(self) -> E {
        self.inner
    }
}

impl<E: MapEntry> MapEntry for HarmedEntry<E> {
    type DataReader = HarmedReader<E::DataReader>;
    type Outboard = HarmedTree<E::Outboard>;

    fn hash(&self) -> Hash {
        self.inner.hash()
    }

    fn size(&self) -> BaoBlobSize {
        self.inner.size()
    }

    fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    async fn outboard(&self) -> io::Result<Self::Outboard> {
        Ok(HarmedTree { inner: self.inner.outboard().await?, stored: self.stored.clone() })
    }

    async fn data_reader(&self) -> io::Result<Self::DataReader> {
        Ok(match &self.stored {
            None => HarmedReader::Sound(self.inner.data_reader().await?),
            Some(stored) if stored.data.is_none() => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(stored) => HarmedReader::Harmed(stored.clone()),
        })
    }
}

impl<E: MapEntryMut> MapEntryMut for HarmedEntry<E> {
    type BatchWriter = E::BatchWriter;

    async fn batch_writer(&self) -> io::Result<Self::BatchWriter> {
        self.inner.batch_writer().await
    }
}

fn bad_disk() -> io::Error {
    io::Error::from_raw_os_error(5)
}

impl Stored {
    fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let groups = offset / GROUP..offset.saturating_add(len as u64).div_ceil(GROUP);
        if !group_ranges(groups).is_disjoint(&self.unreadable) {
            return Err(bad_disk());
        }
        let data = self.data.clone().unwrap_or_default();
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        Ok(data.slice(start..start.saturating_add(len).min(data.len())))
    }
}

impl<R: ReadBlob> ReadBlob for HarmedReader<R> {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self {
            Self::Sound(inner) => inner.read_range(offset, len).await,
            Self::Harmed(stored) => stored.read(offset, len),
        }
    }
}

impl<R: ReadBlob> AsyncSliceReader for HarmedReader<R> {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        match self {
            Self::Sound(inner) => inner.read_at(offset, len).await,
            Self::Harmed(stored) => stored.read(offset, len),
        }
    }

    async fn size(&mut self) -> io::Result<u64> {
        match self {
            Self::Sound(inner) => inner.size().await,
            Self::Harmed(stored) => Ok(stored.data.as_ref().map_or(0, |data| data.len() as u64)),
        }
    }
}

impl<O: Outboard + Send> Outboard for HarmedTree<O> {
    fn root(&self) -> blake3::Hash {
        self.inner.root()
    }

    fn tree(&self) -> BaoTree {
        self.inner.tree()
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        let Some(stored) = &self.stored else { return self.inner.load(node).await };
        if !stored.tree_is_readable {
            return Err(bad_disk());
        }
        let hashes = stored.tree.as_deref().unwrap_or_default().as_chunks::<32>().0;
        let at = self.inner.tree().pre_order_offset(node).and_then(|at| usize::try_from(at).ok());
        Ok(match at.and_then(|at| hashes.get(at * 2..at * 2 + 2)) {
            Some([left, right]) => Some((blake3::Hash::from_bytes(*left), blake3::Hash::from_bytes(*right))),
            _ => None,
        })
    }
}
