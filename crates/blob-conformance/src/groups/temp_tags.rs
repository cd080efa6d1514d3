//! Temporary tags: what they protect, and how long.

use blob_traits::Store;

use crate::case::group;

group! {
    "temp_tags", for S: Store;
}
