//! Limits, and what strangers may put in the way.

pub mod damage;
pub mod files;
pub mod planted;
pub mod size;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    size::group().and(files::group()).and(planted::group()).and(damage::group())
}
