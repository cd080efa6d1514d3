//! Writers of partial blobs.

use std::{io, sync::Arc};

use bao_tree::io::BaoContentItem;
use blob_traits::{BaoBatchWriter, blocking::unblock};

use super::Partial;
use crate::engine::Engine;

/// Writes to a partial blob. What is complete takes writes and does nothing.
#[derive(Debug)]
pub struct FsBatchWriter(Option<(Arc<Engine>, Arc<Partial>)>);

impl FsBatchWriter {
    pub(crate) fn new(engine: Arc<Engine>, partial: Arc<Partial>) -> Self {
        Self(Some((engine, partial)))
    }

    pub(crate) fn complete() -> Self {
        Self(None)
    }
}

impl BaoBatchWriter for FsBatchWriter {
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        let Some((engine, partial)) = self.0.clone() else { return Ok(()) };
        if partial.fits_memory(&engine, &batch) {
            return Ok(partial.write(&engine, size, &batch)?);
        }
        Ok(unblock(move || partial.write(&engine, size, &batch)).await?)
    }

    async fn sync(&mut self) -> io::Result<()> {
        let Some((engine, partial)) = self.0.clone() else { return Ok(()) };
        Ok(unblock(move || partial.sync(&engine)).await?)
    }
}
