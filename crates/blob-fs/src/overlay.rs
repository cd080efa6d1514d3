//! Changes that are visible and not yet in the index (E33).

use std::collections::BTreeMap;

use blob_traits::Tag;

use crate::{
    by_hash::ByHash,
    row::{BlobRow, TagRow},
};

/// The last change of a key. A removal is kept until the index has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<R> {
    Set(R),
    Removed,
}

impl<R> Change<R> {
    pub(crate) fn row(self) -> Option<R> {
        match self {
            Self::Set(row) => Some(row),
            Self::Removed => None,
        }
    }
}

/// A set of changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    pub(crate) blobs: ByHash<Change<BlobRow>>,
    pub(crate) tags: BTreeMap<Tag, Change<TagRow>>,
}

impl Overlay {
    pub(crate) fn rows(&self) -> usize {
        self.blobs.len() + self.tags.len()
    }
}
