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

    /// The same changes in parts of so many rows at most, in the order of their keys.
    pub(crate) fn in_parts(&self, n_rows: usize) -> Vec<Self> {
        let mut blobs: Vec<_> = self.blobs.iter().map(|(hash, change)| (*hash, *change)).collect();
        blobs.sort_unstable_by_key(|(hash, _)| *hash);
        let tags: Vec<_> = self.tags.iter().map(|(tag, change)| (tag.clone(), *change)).collect();
        let of_blobs = blobs
            .chunks(n_rows)
            .map(|part| Self { blobs: part.iter().copied().collect(), ..Self::default() });
        let of_tags =
            tags.chunks(n_rows).map(|part| Self { tags: part.iter().cloned().collect(), ..Self::default() });
        of_blobs.chain(of_tags).collect()
    }
}
