//! Going through all blobs.

use blob_traits::{Result, Scan, ScanBlobs, ScanOf, scan_by_hash};

use crate::{entry::Entry, store::FsStore};

impl ScanBlobs for FsStore {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Entry>> {
        scan_by_hash(self, which).await
    }
}
