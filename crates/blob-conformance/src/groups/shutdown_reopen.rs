//! Closing and opening again.

pub mod closed;
pub mod history;
pub mod locked;
pub mod reopened;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    closed::group().and(reopened::group()).and(history::group()).and(locked::group())
}
