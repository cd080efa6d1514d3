//! Deleting by force.

use std::sync::Arc;

use blob_traits::{Delete, Hash, Result};

use crate::{
    entry::{Blob, Content},
    partial::Pieces,
    store::{MemStore, State},
};

impl Delete for MemStore {
    async fn delete(&self, hashes: Vec<Hash>) -> Result<()> {
        let mut state = self.state()?;
        for hash in hashes {
            state.remove(&hash);
        }
        Ok(())
    }
}

impl State {
    /// Takes a blob out. Handles to it go on; nothing more is written to a partial one.
    pub(crate) fn remove(&mut self, hash: &Hash) -> Option<Arc<Blob>> {
        let blob = self.blobs.remove(hash)?;
        let content = &mut *blob.content();
        if let Content::Partial(pieces) = content {
            *content = Content::Removed(std::mem::replace(pieces, Pieces::new(0)));
        }
        Some(blob.clone())
    }
}
