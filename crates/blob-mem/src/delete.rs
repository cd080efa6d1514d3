//! Deleting by force.

use blob_traits::{Delete, Hash, Result};

use crate::{entry::Content, partial::Pieces, store::MemStore};

impl Delete for MemStore {
    async fn delete(&self, hashes: Vec<Hash>) -> Result<()> {
        let mut state = self.state()?;
        for hash in hashes {
            let Some(blob) = state.blobs.remove(&hash) else { continue };
            let content = &mut *blob.content();
            if let Content::Partial(pieces) = content {
                *content = Content::Removed(std::mem::replace(pieces, Pieces::new(0)));
            }
        }
        Ok(())
    }
}
