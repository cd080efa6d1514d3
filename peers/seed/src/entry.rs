//! Handles to single blobs.

use std::io;

use blob_traits::{BaoBlobSize, Hash, MapEntry, MapEntryMut};
use iroh_blobs::store;

use crate::{
    convert::{hash_to_ours, size_to_ours},
    outboard::SeedOutboard,
    reader::SeedReader,
    writer::SeedWriter,
};

/// The seed's handle to a blob.
#[derive(Clone, Debug)]
pub struct SeedEntry<E> {
    pub(crate) entry: E,
    pub(crate) max_leaf_end: u64,
}

impl<E: store::MapEntry> MapEntry for SeedEntry<E> {
    type DataReader = SeedReader;
    type Outboard = SeedOutboard;

    fn hash(&self) -> Hash {
        hash_to_ours(self.entry.hash())
    }

    fn size(&self) -> BaoBlobSize {
        size_to_ours(self.entry.size())
    }

    fn is_complete(&self) -> bool {
        self.entry.is_complete()
    }

    async fn outboard(&self) -> io::Result<SeedOutboard> {
        SeedOutboard::open(self.entry.clone()).await
    }

    async fn data_reader(&self) -> io::Result<SeedReader> {
        SeedReader::open(self.entry.clone()).await
    }
}

impl<E: store::MapEntryMut> MapEntryMut for SeedEntry<E> {
    type BatchWriter = SeedWriter;

    async fn batch_writer(&self) -> io::Result<SeedWriter> {
        SeedWriter::open(self.entry.clone(), self.max_leaf_end).await
    }
}
