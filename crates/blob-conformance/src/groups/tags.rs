//! Tags: their order, their ranges, their names.

pub mod create;
pub mod listing;
pub mod rename;
pub mod set;

use blob_traits::{Hash, HashAndFormat, ReadTags, Result, Store, Tag, collect};

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    set::group().and(create::group()).and(rename::group()).and(listing::group())
}

/// Something to point to that is not there.
fn content(n: u8) -> HashAndFormat {
    HashAndFormat::raw(Hash::from_bytes([n; 32]))
}

async fn all<S: ReadTags>(store: &S) -> Result<Vec<(Tag, HashAndFormat)>> {
    collect(store.tags(..).await?).await
}
