//! Defects of real stores, each shown to be absent.

use blob_traits::Store;

use crate::case::group;

group! {
    "seen_in_the_wild", for S: Store;
}
