//! The shape of the hash tree over a blob, without overflow for any size and any node.
//!
//! A tree over n items splits them after the largest power of two below n, and so on down to single items. So
//! exactly one parent stands between each pair of neighbours: parent k has item k as the last on its left and item
//! k + 1 as the first on its right, and there are the parents 0 to n - 2. bao-tree numbers parents this way over
//! chunks; a store keeps those over chunk groups.

use std::ops::Range;

use bao_tree::TreeNode;

use crate::BLOCK_SIZE;

/// A chunk, in bytes.
pub(super) const CHUNK_BYTES: u64 = 1024;
/// A chunk group, in chunks.
const GROUP_CHUNKS: u64 = 1 << BLOCK_SIZE.chunk_log();

/// The number of chunks of a blob; the empty blob has one, which is empty.
pub(super) fn n_chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES).max(1)
}

/// The number of chunk groups of a blob, at least one.
pub(super) fn n_groups(size: u64) -> u64 {
    n_chunks(size).div_ceil(GROUP_CHUNKS)
}

/// The chunks of a group, in a blob of `n_chunks`.
pub(super) fn chunks_of(group: u64, n_chunks: u64) -> Range<u64> {
    group * GROUP_CHUNKS..((group + 1) * GROUP_CHUNKS).min(n_chunks)
}

/// The groups that chunks lie in, the first and the last perhaps in part.
pub(super) fn groups_of(chunks: &Range<u64>) -> Range<u64> {
    chunks.start / GROUP_CHUNKS..chunks.end.div_ceil(GROUP_CHUNKS)
}

/// How many items the left side of a subtree over `len` items has; `len` is at least 2.
fn left_len(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// The parents above an item, from the root down.
pub(super) fn path(n_items: u64, item: u64) -> impl Iterator<Item = u64> {
    let Range { mut start, mut end } = 0..n_items;
    std::iter::from_fn(move || {
        let len = end.checked_sub(start).filter(|len| *len > 1)?;
        let mid = start + left_len(len);
        if item < mid {
            end = mid;
        } else {
            start = mid;
        }
        Some(mid - 1)
    })
}

/// What hangs below a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Item(u64),
    Parent(u64),
}

/// The two children of a parent, which must be in the tree.
pub(super) fn children(n_items: u64, parent: u64) -> [Child; 2] {
    let half = 1 << parent.trailing_ones();
    let mid = parent + 1;
    let end = (mid + half).min(n_items);
    [mid - half..mid, mid..end].map(|side| match side.end - side.start {
        1 => Child::Item(side.start),
        len => Child::Parent(side.start + left_len(len) - 1),
    })
}

/// How many items at the start of two trees have the same parents above them in both, down to the item.
///
/// The parents that both trees share are those with smaller numbers.
pub(super) fn shared_items(n_items: u64, other: u64) -> u64 {
    let mut shared = 0;
    loop {
        let (len, other_len) = (n_items - shared, other - shared);
        if len < 2 || other_len < 2 || left_len(len) != left_len(other_len) {
            return shared;
        }
        shared += left_len(len);
    }
}

/// How many parents over chunk groups two trees share that have `shared_chunks` in common.
pub(super) fn shared_parents(shared_chunks: u64) -> u64 {
    shared_chunks / GROUP_CHUNKS
}

/// A parent that a store keeps: one over chunk groups. Parent k stands between chunk groups k and k + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredParent(u64);

impl StoredParent {
    /// Takes a node of bao-tree's, or returns `None` where it stands inside a chunk group, so that no store keeps it.
    /// Any node will do, whether there is a blob large enough for it or not.
    pub fn new(node: TreeNode) -> Option<Self> {
        number(node.add_block_size(BLOCK_SIZE.chunk_log())?).map(Self)
    }

    /// Returns its number: 0 for the parent of the first two chunk groups.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Returns its position in a pre-order outboard for a blob of `size`, in pairs of hashes, or `None` where that
    /// blob has no such parent.
    pub fn pre_order(self, size: u64) -> Option<u64> {
        let Range { mut start, mut end } = 0..n_groups(size);
        if self.0 + 1 >= end {
            return None;
        }
        let mut position = 0;
        loop {
            let mid = start + left_len(end - start);
            if self.0 + 1 == mid {
                return Some(position);
            }
            if self.0 + 1 < mid {
                position += 1;
                end = mid;
            } else {
                // the parent itself, and those of its left side
                position += mid - start;
                start = mid;
            }
        }
    }

    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// The number of a node, or `None` for the one whose number bao-tree cannot add to.
pub(super) fn number(node: TreeNode) -> Option<u64> {
    (node.level() < u64::BITS).then(|| node.mid().0 - 1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bao_tree::BaoTree;
    use proptest::prelude::*;

    use super::*;

    const GROUP_BYTES: u64 = GROUP_CHUNKS * CHUNK_BYTES;

    fn node(number: u64) -> TreeNode {
        postcard::from_bytes(&postcard::to_stdvec(&number).unwrap()).unwrap()
    }

    fn size() -> impl Strategy<Value = u64> {
        prop_oneof![0..70_000_u64, 0..40 * GROUP_BYTES, (0..40_u64).prop_map(|n| n * GROUP_BYTES)]
    }

    #[test]
    fn counts_at_the_ends_of_the_range() {
        assert_eq!([0, 1, 1024, 1025].map(n_chunks), [1, 1, 1, 2]);
        assert_eq!([0, 1, 16384, 16385].map(n_groups), [1, 1, 1, 2]);
        assert_eq!((n_chunks(u64::MAX), n_groups(u64::MAX)), (1 << 54, 1 << 50));
    }

    #[test]
    fn hostile_nodes_and_sizes_do_not_overflow() {
        for n in [u64::MAX, u64::MAX >> 1, u64::MAX - 1, u64::MAX >> 4] {
            assert!(StoredParent::new(node(n)).is_none_or(|parent| parent.pre_order(u64::MAX).is_none()));
        }
        assert_eq!(number(node(u64::MAX)), None);
        assert_eq!(number(node(u64::MAX >> 1)), Some(u64::MAX >> 1));
        let last = (1 << 50) - 2;
        assert!(StoredParent(last).pre_order(u64::MAX).is_some());
        assert_eq!(StoredParent(last + 1).pre_order(u64::MAX), None);
        assert_eq!(path(1 << 50, (1 << 50) - 1).count(), 50);
        assert_eq!(shared_items(1 << 54, (1 << 54) - 1), (1 << 54) - 2);
    }

    proptest! {
        #[test]
        fn parents_and_positions_are_those_of_bao_tree(size in size()) {
            let tree = BaoTree::new(size, BLOCK_SIZE);
            let ours: BTreeSet<_> = (0..n_groups(size) - 1).collect();
            let mut theirs = BTreeSet::new();
            for node in tree.pre_order_nodes_iter() {
                let parent = StoredParent::new(node).unwrap();
                prop_assert_eq!(parent.pre_order(size), tree.pre_order_offset(node));
                if tree.pre_order_offset(node).is_some() {
                    theirs.insert(parent.number());
                }
            }
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(n_groups(size), tree.blocks());
        }

        #[test]
        fn children_are_the_next_on_each_path(n_items in 1..200_u64, item in 0..200_u64) {
            let item = item % n_items;
            let path: Vec<_> = path(n_items, item).collect();
            for (i, parent) in path.iter().enumerate() {
                let below = path.get(i + 1).map_or(Child::Item(item), |next| Child::Parent(*next));
                let [left, right] = children(n_items, *parent);
                prop_assert_eq!(if item <= *parent { left } else { right }, below);
            }
            if path.is_empty() {
                prop_assert_eq!(n_items, 1);
            }
        }

        #[test]
        fn shared_items_are_those_with_equal_paths(a in 1..100_u64, b in 1..100_u64) {
            let equal = (0..a.min(b)).take_while(|item| path(a, *item).eq(path(b, *item))).count() as u64;
            // an item that is the last of its tree is a shorter one in a longer tree
            prop_assert_eq!(shared_items(a, b), equal.min(a - 1).min(b - 1));
            let all_equal_items = (0..a.min(b)).filter(|item| path(a, *item).eq(path(b, *item))).count() as u64;
            prop_assert_eq!(all_equal_items, equal);
        }
    }
}
