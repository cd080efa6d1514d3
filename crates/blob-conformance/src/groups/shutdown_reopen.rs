//! Ending and beginning again.

use blob_traits::Store;

use crate::case::group;

group! {
    "shutdown_reopen", for S: Store;
}
