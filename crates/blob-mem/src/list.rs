//! Listing what is there: a copy of the names, made under the lock.

use blob_traits::{BoxStream, Hash, ListBlobs, Result};

use crate::store::MemStore;

/// Streams what was copied.
pub(crate) fn stream<T: Send + 'static>(items: Vec<T>) -> BoxStream<T> {
    Box::pin(futures_lite::stream::iter(items.into_iter().map(Ok)))
}

impl MemStore {
    fn list(&self, complete: bool) -> Result<BoxStream<Hash>> {
        let state = self.state()?;
        let chosen = state.blobs.iter().filter(|(_, blob)| blob.is_whole() == complete);
        Ok(stream(chosen.map(|(hash, _)| *hash).collect()))
    }
}

impl ListBlobs for MemStore {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        self.list(true)
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.list(false)
    }
}
