//! Rows that move to another segment because compaction has copied their records (E57).

use blob_traits::{Hash, Tag};

use super::{Looked, State};
use crate::{
    index::SegmentNote,
    op::Key,
    overlay::Change,
    row::{BlobRow, Place, TagRow},
};

/// What the state lock guards for compaction.
#[derive(Debug, Default)]
pub(crate) struct CompactionState {
    /// The index was committed, so there may be something to compact.
    pub(crate) is_due: bool,
    /// What was done and the index does not say yet.
    pub(crate) notes: Vec<SegmentNote>,
    /// How often it was asked for an index without waste, and how often it was seen to.
    pub(crate) shrinks: (u64, u64),
    /// Segments that are replaced and read by somebody.
    pub(crate) pending_segments: usize,
    /// Records up to this one may name, in `kills`, a segment whose rows have moved since (E57).
    pub(super) relocated_at: u64,
}

/// A record with a copy in a packed segment.
#[derive(Clone, Debug)]
pub(crate) struct Relocation {
    pub(crate) key: Key,
    pub(crate) seq: u64,
    pub(crate) to: Place,
}

impl State {
    /// The seq of a key's row that readers see, or will again if a removal fails: hidden ones count.
    pub(crate) fn row_seq(&self, key: &Key, looked: &Looked) -> Option<u64> {
        match key {
            Key::Blob(hash) => self.blob_row(hash, looked).map(|row| row.seq),
            Key::Tag(tag) => self.tag_row(tag, looked).map(|row| row.seq),
        }
    }

    /// Lets rows that still have these seqs point to the copies. Whoever has pinned the old place goes on reading it.
    pub(crate) fn relocate(&mut self, relocations: &[Relocation], looked: &Looked) {
        for Relocation { key, seq, to } in relocations {
            match key {
                Key::Blob(hash) => {
                    if let Some(row) = self.blob_row(hash, looked).filter(|row| row.seq == *seq) {
                        let row = BlobRow { place: *to, ..row };
                        self.visible.active.blobs.insert(*hash, Change::Set(row));
                    }
                }
                Key::Tag(tag) => {
                    if let Some(row) = self.tag_row(tag, looked).filter(|row| row.seq == *seq) {
                        let row = TagRow { place: *to, ..row };
                        self.visible.active.tags.insert(tag.clone(), Change::Set(row));
                    }
                }
            }
        }
        self.compaction.relocated_at = self.last_seq();
    }

    /// Whether no record is on its way that may name, in `kills`, a segment whose rows have moved since.
    pub(crate) fn are_kills_certain(&self) -> bool {
        self.published.seq >= self.compaction.relocated_at || (self.queue.is_empty() && !self.leading)
    }

    /// The row of a blob, hidden or not.
    pub(crate) fn blob_row(&self, hash: &Hash, looked: &Looked) -> Option<BlobRow> {
        match self.visible.overlay_blob(hash) {
            Some(change) => change.row(),
            None => looked.blobs.get(hash).copied(),
        }
    }

    /// The row of a tag, hidden or not.
    pub(crate) fn tag_row(&self, tag: &Tag, looked: &Looked) -> Option<TagRow> {
        match self.visible.overlay_tag(tag) {
            Some(change) => change.row(),
            None => looked.tags.get(tag).copied(),
        }
    }
}
