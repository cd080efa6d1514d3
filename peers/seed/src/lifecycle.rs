//! Deleting, and ending the store's work.

use blob_traits::{Delete, Hash, Lifecycle, Result};
use iroh_blobs::store::Store;

use crate::{convert::hash_to_theirs, failure::About, store::Seed};

impl<S: Store> Delete for Seed<S> {
    async fn delete(&self, hashes: Vec<Hash>) -> Result<()> {
        let hashes = hashes.into_iter().map(hash_to_theirs).collect();
        self.call(About::Store, self.store().delete(hashes)).await
    }
}

impl<S: Store> Lifecycle for Seed<S> {
    async fn sync(&self) -> Result<()> {
        self.call(About::Store, self.store().sync()).await
    }

    async fn shutdown(&self) -> Result<()> {
        self.close();
        let shutdown = async {
            self.store().shutdown().await;
            Ok(())
        };
        self.call(About::Store, shutdown).await
    }
}
