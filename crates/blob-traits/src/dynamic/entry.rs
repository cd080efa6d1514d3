//! Entries of any type.

use std::{any::Any, fmt::Debug, io, sync::Arc};

use super::{DynBatchWriter, DynOutboard, DynReader, erased::BoxFuture};
use crate::{BaoBlobSize, Error, Hash, MapEntry, MapEntryMut, Result};

trait ErasedEntry: Any + Debug + Send + Sync {
    fn hash(&self) -> Hash;
    fn size(&self) -> BaoBlobSize;
    fn is_complete(&self) -> bool;
    fn outboard(&self) -> BoxFuture<'_, io::Result<DynOutboard>>;
    fn data_reader(&self) -> BoxFuture<'_, io::Result<DynReader>>;
}

trait ErasedEntryMut: ErasedEntry {
    fn batch_writer(&self) -> BoxFuture<'_, io::Result<DynBatchWriter>>;
}

impl<E: MapEntry> ErasedEntry for E {
    fn hash(&self) -> Hash {
        MapEntry::hash(self)
    }

    fn size(&self) -> BaoBlobSize {
        MapEntry::size(self)
    }

    fn is_complete(&self) -> bool {
        MapEntry::is_complete(self)
    }

    fn outboard(&self) -> BoxFuture<'_, io::Result<DynOutboard>> {
        Box::pin(async move { Ok(DynOutboard::new(MapEntry::outboard(self).await?)) })
    }

    fn data_reader(&self) -> BoxFuture<'_, io::Result<DynReader>> {
        Box::pin(async move { Ok(DynReader::new(MapEntry::data_reader(self).await?)) })
    }
}

impl<E: MapEntryMut> ErasedEntryMut for E {
    fn batch_writer(&self) -> BoxFuture<'_, io::Result<DynBatchWriter>> {
        Box::pin(async move { Ok(DynBatchWriter::new(MapEntryMut::batch_writer(self).await?)) })
    }
}

/// The handle to a blob in a [`DynStore`](super::DynStore).
#[derive(Clone, Debug)]
pub struct DynEntry(Arc<dyn ErasedEntry>);

/// The handle through which a blob in a [`DynStore`](super::DynStore) can be written.
#[derive(Clone, Debug)]
pub struct DynEntryMut(Arc<dyn ErasedEntryMut>);

impl DynEntry {
    pub(super) fn new(entry: impl MapEntry) -> Self {
        Self(Arc::new(entry))
    }

    /// Returns the entry inside, which must be of the type that the store inside knows.
    pub(super) fn into_inner<E: MapEntry>(self) -> Result<E> {
        let hash = self.0.hash();
        downcast(self.0, hash)
    }
}

impl DynEntryMut {
    pub(super) fn new(entry: impl MapEntryMut) -> Self {
        Self(Arc::new(entry))
    }

    /// Returns the entry inside, which must be of the type that the store inside knows.
    pub(super) fn into_inner<E: MapEntryMut>(self) -> Result<E> {
        let hash = self.0.hash();
        downcast(self.0, hash)
    }
}

fn downcast<E: MapEntry>(entry: Arc<dyn Any + Send + Sync>, hash: Hash) -> Result<E> {
    entry.downcast().map(Arc::unwrap_or_clone).map_err(|_| Error::ForeignEntry { hash })
}

impl MapEntry for DynEntry {
    type DataReader = DynReader;
    type Outboard = DynOutboard;

    fn hash(&self) -> Hash {
        self.0.hash()
    }

    fn size(&self) -> BaoBlobSize {
        self.0.size()
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    async fn outboard(&self) -> io::Result<DynOutboard> {
        self.0.outboard().await
    }

    async fn data_reader(&self) -> io::Result<DynReader> {
        self.0.data_reader().await
    }
}

impl MapEntry for DynEntryMut {
    type DataReader = DynReader;
    type Outboard = DynOutboard;

    fn hash(&self) -> Hash {
        self.0.hash()
    }

    fn size(&self) -> BaoBlobSize {
        self.0.size()
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    async fn outboard(&self) -> io::Result<DynOutboard> {
        self.0.outboard().await
    }

    async fn data_reader(&self) -> io::Result<DynReader> {
        self.0.data_reader().await
    }
}

impl MapEntryMut for DynEntryMut {
    type BatchWriter = DynBatchWriter;

    async fn batch_writer(&self) -> io::Result<DynBatchWriter> {
        self.0.batch_writer().await
    }
}
