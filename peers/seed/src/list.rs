//! Listing what is there, in the order in which the seed tells it.

use blob_traits::{BoxStream, Hash, ListBlobs, Result};
use futures_lite::stream;
use iroh_blobs::store::{DbIter, Store};

use crate::{convert::hash_to_ours, failure::About, store::Seed};

impl<S: Store> ListBlobs for Seed<S> {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        self.call(About::Store, self.store().blobs()).await.map(to_stream)
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.call(About::Store, self.store().partial_blobs()).await.map(to_stream)
    }
}

fn to_stream(hashes: DbIter<iroh_blobs::Hash>) -> BoxStream<Hash> {
    Box::pin(stream::iter(hashes.map(|hash| Ok(hash_to_ours(hash?)))))
}
