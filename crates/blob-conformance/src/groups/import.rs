//! Bringing whole blobs in, from memory, files and streams.

pub mod again;
pub mod file;
pub mod limit;
pub mod odd_file;
pub mod race;
pub mod reference;
pub mod stream;
pub mod tagged;
pub mod validated;
pub(super) mod way;

use blob_traits::Store;

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    stream::group()
        .and(file::group())
        .and(odd_file::group())
        .and(reference::group())
        .and(again::group())
        .and(limit::group())
        .and(tagged::group())
        .and(race::group())
}
