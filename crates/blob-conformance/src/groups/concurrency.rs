//! Many tasks at once.

use blob_traits::Store;

use crate::case::group;

group! {
    "concurrency", for S: Store;
}
