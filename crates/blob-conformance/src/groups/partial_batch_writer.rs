//! Writing partial blobs, and what claims of their size may do.

use blob_traits::Store;

use crate::case::group;

group! {
    "partial_batch_writer", for S: Store;
}
