//! Checking a batch as a whole before anything of it is written.

use std::{cmp::Reverse, ops::Range};

use bao_tree::{TreeNode, io::BaoContentItem};

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

/// A leaf to be written, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLeaf {
    /// The position of its item in the batch.
    pub index: usize,
    /// The chunks that it consists of.
    pub chunks: Range<u64>,
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

    /// Returns the leaves that are not present yet, each as a whole though a part of it may be.
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
                if !tree.present.contains_range(chunks.clone()) {
                    plan.leaves.push(PlannedLeaf { index, chunks });
                }
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
