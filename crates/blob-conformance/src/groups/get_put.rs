//! Looking blobs up, reading them, listing them, deleting them.

pub mod delete;
pub mod encode;
mod history;
pub mod list;
pub mod look_up;
pub mod outboard;
pub mod read;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    look_up::group()
        .and(read::group())
        .and(outboard::group())
        .and(encode::group())
        .and(list::group())
        .and(delete::group())
}
