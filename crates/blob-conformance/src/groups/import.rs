//! Bringing whole blobs in, from memory, files and streams.

use blob_traits::Store;

use crate::case::group;

group! {
    "import", for S: Store;
}
