//! blob-fs.

use std::path::Path;

use anyhow::Result;
use blob_fs::{Durability, FsStore, Options};
use blob_traits::{BlobFormat, Hash, prelude::*};
use bytes::Bytes;

use crate::contender::BlobStore;

#[derive(Clone, Debug)]
pub(crate) struct OurStore(pub(crate) FsStore);

impl BlobStore for OurStore {
    type Hash = Hash;
    type Options = Durability;

    async fn open(dir: &Path, durability: Durability) -> Result<Self> {
        let mut options = Options::new(dir);
        options.durability = durability;
        Ok(Self(FsStore::open(options).await?))
    }

    async fn import(&self, blob: Bytes) -> Result<Hash> {
        Ok(self.0.import_bytes(blob, BlobFormat::Raw).await?.hash())
    }

    async fn sync(&self) -> Result<()> {
        Ok(self.0.sync().await?)
    }

    async fn read(&self, hash: Hash) -> Result<Bytes> {
        Ok(self.0.read_to_bytes(hash).await?)
    }

    async fn shutdown(self) -> Result<()> {
        Ok(self.0.shutdown().await?)
    }
}
