//! Batch writers of any type.

use std::{fmt, io};

use bao_tree::io::BaoContentItem;

use super::erased::BoxFuture;
use crate::BaoBatchWriter;

trait ErasedWriter: Send {
    fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> BoxFuture<'_, io::Result<()>>;
    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>>;
}

impl<W: BaoBatchWriter> ErasedWriter for W {
    fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(BaoBatchWriter::write_batch(self, size, batch))
    }

    fn sync(&mut self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(BaoBatchWriter::sync(self))
    }
}

/// The writer of a partial blob in a [`DynStore`](super::DynStore).
pub struct DynBatchWriter(Box<dyn ErasedWriter>);

impl DynBatchWriter {
    pub(super) fn new(writer: impl BaoBatchWriter + 'static) -> Self {
        Self(Box::new(writer))
    }
}

impl fmt::Debug for DynBatchWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynBatchWriter").finish_non_exhaustive()
    }
}

impl BaoBatchWriter for DynBatchWriter {
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        self.0.write_batch(size, batch).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.0.sync().await
    }
}
