//! Checking a batch as a whole before anything of it is written.

use std::{cmp::Reverse, ops::Range};

use bao_tree::{TreeNode, io::BaoContentItem};
use bytes::Bytes;

use super::{PartialTree, StoredParent, shape};
use crate::{Error, Hash, InvalidBatch};

/// What of a batch is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    size: u64,
    parents: Vec<PlannedParent>,
    leaves: Vec<PlannedLeaf>,
}

/// A parent to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedParent {
    /// The position of its item in the batch.
    pub index: usize,
    /// Which parent it is.
    pub parent: StoredParent,
}

/// A part of a leaf to be written: chunks in a row that are not present yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLeaf {
    /// The position of its item in the batch.
    pub index: usize,
    /// Which chunks.
    pub chunks: Range<u64>,
}

impl PlannedLeaf {
    /// Returns where to write, in bytes from the start of the blob.
    pub fn offset(&self) -> u64 {
        self.chunks.start * shape::CHUNK_BYTES
    }

    /// Returns what to write, given the batch that was planned.
    pub fn bytes(&self, batch: &[BaoContentItem]) -> Bytes {
        let Some(BaoContentItem::Leaf(leaf)) = batch.get(self.index) else { return Bytes::new() };
        let [start, end] = [self.chunks.start, self.chunks.end].map(|chunk| {
            let offset = chunk.saturating_mul(shape::CHUNK_BYTES).saturating_sub(leaf.offset);
            usize::try_from(offset).unwrap_or(usize::MAX).min(leaf.data.len())
        });
        leaf.data.slice(start..end)
    }
}

impl BatchPlan {
    /// Returns the size claim under which the batch was sent.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the parents that are not there yet.
    pub fn parents(&self) -> &[PlannedParent] {
        &self.parents
    }

    /// Returns what is not present yet of the leaves, by offset. One leaf may be in several parts.
    pub fn leaves(&self) -> &[PlannedLeaf] {
        &self.leaves
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty() && self.leaves.is_empty()
    }
}

/// Says why a claim or a batch was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// The blob goes by another size.
    #[error("{claimed} bytes are claimed, the blob goes by {current}")]
    SizeConflict {
        /// The size that was claimed.
        claimed: u64,
        /// The size that the blob goes by.
        current: u64,
    },
    /// An item does not fit into the tree.
    #[error(transparent)]
    Invalid(#[from] InvalidBatch),
}

impl PartialError {
    /// Names the blob.
    pub fn of(self, hash: Hash) -> Error {
        match self {
            Self::SizeConflict { claimed, current } => Error::SizeConflict { hash, claimed, current },
            Self::Invalid(reason) => Error::InvalidBatch { hash, reason },
        }
    }
}

pub(super) fn check(
    tree: &PartialTree,
    size: u64,
    batch: &[BaoContentItem],
) -> Result<BatchPlan, PartialError> {
    tree.check_claim(size)?;
    let mut plan = BatchPlan { size, parents: Vec::new(), leaves: Vec::new() };
    let mut last_parent = None;
    let mut last_end = 0;
    for (index, item) in batch.iter().enumerate() {
        match item {
            BaoContentItem::Parent(parent) => {
                let place = place_of(parent.node, size)?;
                if last_parent.replace(place).is_some_and(|last| last >= place) {
                    return Err(InvalidBatch::OutOfOrder.into());
                }
                if let Some(parent) =
                    StoredParent::new(parent.node).filter(|parent| !tree.has_parent(*parent))
                {
                    plan.parents.push(PlannedParent { index, parent });
                }
            }
            BaoContentItem::Leaf(leaf) => {
                let chunks = chunks_of(leaf.offset, leaf.data.len() as u64, size)?;
                if leaf.offset < last_end {
                    return Err(InvalidBatch::OutOfOrder.into());
                }
                last_end = leaf.offset + leaf.data.len() as u64;
                plan.leaves.extend(tree.present.gaps(chunks).map(|chunks| PlannedLeaf { index, chunks }));
            }
        }
    }
    Ok(plan)
}

/// Where a node comes in pre-order among those of the tree: by its first chunk, a higher one before a lower one.
fn place_of(node: TreeNode, size: u64) -> Result<(u64, Reverse<u32>), InvalidBatch> {
    match shape::number(node) {
        Some(number) if number < shape::n_chunks(size) - 1 => {
            let level = node.level();
            Ok((number + 1 - (1 << level), Reverse(level)))
        }
        number => Err(InvalidBatch::ParentOutsideTree { node: number.unwrap_or(u64::MAX) }),
    }
}

fn chunks_of(offset: u64, len: u64, size: u64) -> Result<Range<u64>, InvalidBatch> {
    let end = offset.checked_add(len).filter(|end| *end <= size);
    let end = end.ok_or(InvalidBatch::LeafBeyondSize { offset, len })?;
    let whole =
        offset.is_multiple_of(shape::CHUNK_BYTES) && (len.is_multiple_of(shape::CHUNK_BYTES) || end == size);
    if whole && (len > 0 || size == 0) {
        Ok(offset / shape::CHUNK_BYTES..shape::n_chunks(end))
    } else {
        Err(InvalidBatch::LeafMisaligned { offset, len })
    }
}
