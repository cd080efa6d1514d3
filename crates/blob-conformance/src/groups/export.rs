//! Taking blobs and collections out.

use blob_traits::Store;

use crate::case::group;

group! {
    "export", for S: Store;
}
