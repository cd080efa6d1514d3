//! Ending the store's work.

use blob_traits::{Lifecycle, Result};

use crate::store::MemStore;

impl Lifecycle for MemStore {
    async fn sync(&self) -> Result<()> {
        self.state().map(drop)
    }

    async fn shutdown(&self) -> Result<()> {
        self.close();
        Ok(())
    }
}
