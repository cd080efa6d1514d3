//! Limits, and what strangers may put in the way.

use blob_traits::Store;

use crate::case::group;

group! {
    "limits_hostile", for S: Store;
}
