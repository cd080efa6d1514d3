//! Going through all blobs: in the order of their names, since memory has no better one.

use blob_traits::{Batch, Result, Scan, ScanBlobs, ScanOf, Scanned};

use crate::{
    entry::{Content, MemEntry},
    list,
    store::MemStore,
};

/// How much is handed out at a time, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A blob over this size in bytes is handed out as an entry.
const SMALL: usize = 64 << 10;

impl ScanBlobs for MemStore {
    async fn scan(&self, which: ScanOf) -> Result<Scan<MemEntry>> {
        let state = self.state()?;
        let (mut batches, mut batch, mut n_bytes, mut n_blobs) = (Vec::new(), Vec::new(), 0, 0);
        for (hash, blob) in state.blobs.iter().filter(|(hash, _)| which.contains(hash)) {
            let scanned = match &*blob.content() {
                Content::Whole(whole) if whole.data.len() <= SMALL => {
                    n_bytes += whole.data.len();
                    let (data, outboard) = (whole.data.clone(), whole.outboard.clone());
                    Scanned::Whole { hash: *hash, data, outboard, path: None }
                }
                content => {
                    let size = usize::try_from(content.size().value()).unwrap_or(usize::MAX);
                    n_bytes = n_bytes.saturating_add(size);
                    Scanned::Entry { entry: MemEntry::new(blob.clone()), path: None }
                }
            };
            batch.push(scanned);
            n_blobs += 1;
            if n_bytes >= BATCH_BYTES {
                batches.push(Batch::from(std::mem::take(&mut batch)));
                n_bytes = 0;
            }
        }
        batches.push(batch.into());
        Ok(Scan { n_blobs, batches: list::stream(batches) })
    }
}
