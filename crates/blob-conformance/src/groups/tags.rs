//! Tags: their order, their ranges, their names.

use blob_traits::Store;

use crate::case::group;

group! {
    "tags", for S: Store;
}
