//! What operations report, and how they are cancelled.

use blob_traits::Store;

use crate::case::group;

group! {
    "progress_cancel", for S: Store;
}
