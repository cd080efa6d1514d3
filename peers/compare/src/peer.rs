//! iroh-blobs' file store, with the options it comes with.

use std::path::Path;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use iroh_blobs::{Hash, store::fs::FsStore};

use crate::contender::BlobStore;

#[derive(Clone, Debug)]
pub(crate) struct PeerStore(pub(crate) FsStore);

impl BlobStore for PeerStore {
    type Hash = Hash;
    type Options = ();

    async fn open(dir: &Path, (): ()) -> Result<Self> {
        FsStore::load(dir).await.map(Self).map_err(|error| anyhow!("opening: {error:#}"))
    }

    async fn import(&self, blob: Bytes) -> Result<Hash> {
        Ok(self.0.blobs().add_bytes(blob).temp_tag().await?.hash())
    }

    async fn sync(&self) -> Result<()> {
        Ok(self.0.sync_db().await?)
    }

    async fn read(&self, hash: Hash) -> Result<Bytes> {
        Ok(self.0.blobs().get_bytes(hash).await?)
    }

    async fn shutdown(self) -> Result<()> {
        Ok(self.0.shutdown().await?)
    }
}
