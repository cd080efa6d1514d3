//! What must hold after a crash, a fault, a full disk.

use blob_traits::Store;

use crate::case::group;

group! {
    "crash", for S: Store;
}
