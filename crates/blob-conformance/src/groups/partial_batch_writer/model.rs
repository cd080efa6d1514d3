//! What should be present of a partial blob, worked out from what was written to it.

use std::collections::BTreeSet;

use bao_tree::{ChunkNum, ChunkRanges, TreeNode, io::BaoContentItem};

use crate::{Sample, chunks};

/// A chunk is present once it was written and so was every stored parent above it. Stored are those parents that the
/// stream of the whole blob has; smaller ranges also have some inside chunk groups.
pub(super) struct Model {
    stored: Vec<TreeNode>,
    parents: BTreeSet<TreeNode>,
    written: ChunkRanges,
}

impl Model {
    /// Nothing is there yet.
    pub(super) fn new(sample: &Sample) -> Self {
        let stored = sample.all_items().into_iter().filter_map(|item| match item {
            BaoContentItem::Parent(parent) => Some(parent.node),
            BaoContentItem::Leaf(_) => None,
        });
        Self { stored: stored.collect(), parents: BTreeSet::new(), written: ChunkRanges::empty() }
    }

    /// Items were written.
    pub(super) fn write(&mut self, items: &[BaoContentItem]) {
        for item in items {
            match item {
                BaoContentItem::Parent(parent) => {
                    self.parents.insert(parent.node);
                }
                BaoContentItem::Leaf(leaf) => {
                    let end = leaf.offset + leaf.data.len() as u64;
                    self.written |= chunks(leaf.offset / 1024..end.div_ceil(1024));
                }
            }
        }
    }

    /// The chunks that are present, of the first `n_chunks`.
    pub(super) fn present(&self, n_chunks: u64) -> ChunkRanges {
        let missing: Vec<_> = self.stored.iter().filter(|node| !self.parents.contains(node)).collect();
        let is_present = |chunk: &ChunkNum| {
            self.written.contains(chunk) && !missing.iter().any(|node| node.chunk_range().contains(chunk))
        };
        let present = (0..n_chunks).map(ChunkNum).filter(is_present);
        present.fold(ChunkRanges::empty(), |ranges, chunk| ranges | chunks(chunk.0..chunk.0 + 1))
    }
}
