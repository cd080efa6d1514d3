//! The shape of a hash tree, top down, over chunk groups. Pure.

use std::ops::Range;

use bao_tree::{BaoTree, ChunkNum, ChunkRanges, TreeNode};
use blob_traits::BLOCK_SIZE;

/// The bytes of a chunk group.
pub(crate) const GROUP: u64 = 1024 << BLOCK_SIZE.chunk_log();
const GROUP_CHUNKS: u64 = 1 << BLOCK_SIZE.chunk_log();

/// A part of the tree over a blob: a chunk group, or a parent with all that is below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subtree {
    /// The size of the blob, in bytes.
    size: u64,
    groups: Range<u64>,
    /// The parent at its top, unless it is one chunk group.
    parent: Option<TreeNode>,
}

impl Subtree {
    /// The tree over a blob.
    pub(crate) fn whole(size: u64) -> Self {
        let tree = BaoTree::new(size, BLOCK_SIZE);
        let n_groups = tree.blocks();
        let parent = if n_groups > 1 { tree.pre_order_nodes_iter().next() } else { None };
        Self { size, groups: 0..n_groups, parent }
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.groups.start == 0 && self.groups.end == BaoTree::new(self.size, BLOCK_SIZE).blocks()
    }

    pub(crate) fn n_groups(&self) -> u64 {
        self.groups.end - self.groups.start
    }

    pub(crate) fn is_within(&self, groups: &Range<u64>) -> bool {
        groups.start <= self.groups.start && self.groups.end <= groups.end
    }

    pub(crate) fn groups(&self) -> Range<u64> {
        self.groups.clone()
    }

    /// The bytes below it.
    pub(crate) fn bytes(&self) -> Range<u64> {
        self.groups.start * GROUP..self.groups.end.saturating_mul(GROUP).min(self.size)
    }

    /// The chunks below it. The empty blob has one.
    pub(crate) fn chunks(&self) -> Range<ChunkNum> {
        let n_chunks = ChunkNum::chunks(self.size).0.max(1);
        ChunkNum(self.groups.start * GROUP_CHUNKS)
            ..ChunkNum(self.groups.end.saturating_mul(GROUP_CHUNKS).min(n_chunks))
    }

    pub(crate) fn touches(&self, ranges: &ChunkRanges) -> bool {
        !(ranges & &ChunkRanges::from(self.chunks())).is_empty()
    }

    /// The parent at its top, with what hangs below it; `None` for a chunk group.
    pub(crate) fn split(&self) -> Option<(TreeNode, [Self; 2])> {
        let parent = self.parent?;
        let mid = parent.mid().0 / GROUP_CHUNKS;
        let left = Self { groups: self.groups.start..mid, ..self.below(parent.left_child()) };
        let right = Self { groups: mid..self.groups.end, ..self.below(parent.right_child()) };
        Some((parent, [left.settled(), right.settled()]))
    }

    fn below(&self, parent: Option<TreeNode>) -> Self {
        Self { size: self.size, groups: 0..0, parent }
    }

    /// Its top stands where there is something on both sides of it.
    fn settled(mut self) -> Self {
        if self.n_groups() == 1 {
            self.parent = None;
        }
        while let Some(parent) = self.parent.filter(|parent| parent.mid().0 >= self.chunks().end.0) {
            self.parent = parent.left_child();
        }
        self
    }
}

/// Leaves out of `ranges` the chunk groups that they cover in part: those cannot be proved by what a store keeps.
pub(crate) fn whole_groups(ranges: &ChunkRanges, size: u64) -> ChunkRanges {
    let end = ChunkNum::chunks(size).0.max(1);
    let mut whole = ChunkRanges::empty();
    for bounds in ranges.boundaries().chunks(2) {
        let from = bounds.first().map_or(0, |start| start.0.next_multiple_of(GROUP_CHUNKS));
        let to = bounds.get(1).map_or(end, |to| to.0.min(end));
        let to = if to == end { end } else { to - to % GROUP_CHUNKS };
        if from < to {
            whole |= ChunkRanges::from(ChunkNum(from)..ChunkNum(to));
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parents(tree: &Subtree, out: &mut Vec<TreeNode>) {
        if let Some((parent, below)) = tree.split() {
            out.push(parent);
            for below in &below {
                parents(below, out);
            }
        }
    }

    #[test]
    fn parents_are_those_of_bao_tree_in_pre_order() {
        for n_groups in 0..70 {
            for size in [n_groups * GROUP, n_groups * GROUP + 1, n_groups * GROUP + GROUP - 1] {
                let tree = BaoTree::new(size, BLOCK_SIZE);
                let kept = |node: &TreeNode| tree.pre_order_offset(*node).is_some();
                let theirs: Vec<_> = tree.pre_order_nodes_iter().filter(kept).collect();
                let mut ours = Vec::new();
                parents(&Subtree::whole(size), &mut ours);
                assert_eq!(ours, theirs, "{size}");
            }
        }
    }

    #[test]
    fn leaves_are_the_chunk_groups_in_order() {
        fn leaves(tree: &Subtree, out: &mut Vec<Range<u64>>) {
            match tree.split() {
                None => out.push(tree.bytes()),
                Some((_, below)) => below.iter().for_each(|below| leaves(below, out)),
            }
        }
        for size in [0, 1, GROUP, GROUP + 1, 5 * GROUP, 77 * GROUP + 5] {
            let mut ours = Vec::new();
            leaves(&Subtree::whole(size), &mut ours);
            let starts = (0..size.div_ceil(GROUP).max(1)).map(|n| n * GROUP);
            assert_eq!(ours, starts.map(|at| at..(at + GROUP).min(size)).collect::<Vec<_>>(), "{size}");
        }
    }

    #[test]
    fn groups_that_are_there_in_part_are_left_out() {
        let chunks = |range: Range<u64>| ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end));
        let size = 40 * 1024 + 3;
        assert_eq!(whole_groups(&chunks(0..41), size), chunks(0..41));
        assert_eq!(whole_groups(&chunks(1..40), size), chunks(16..32));
        assert_eq!(whole_groups(&(chunks(0..15) | chunks(17..41)), size), chunks(32..41));
        assert_eq!(whole_groups(&ChunkRanges::all(), size), chunks(0..41));
        assert_eq!(whole_groups(&ChunkRanges::all(), 0), chunks(0..1));
    }
}
