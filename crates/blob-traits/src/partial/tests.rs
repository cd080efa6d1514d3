//! The state machine against a model that computes everything anew from sets.

use std::collections::BTreeSet;

use bao_tree::{
    TreeNode,
    io::{Leaf, Parent},
};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::InvalidBatch;

fn node(number: u64) -> TreeNode {
    postcard::from_bytes(&postcard::to_stdvec(&number).unwrap()).unwrap()
}

fn parent(number: u64) -> BaoContentItem {
    let hash = blake3::Hash::from_bytes([0; 32]);
    Parent { node: node(number), pair: (hash, hash) }.into()
}

/// The item for a parent over chunk groups.
fn stored(number: u64) -> BaoContentItem {
    parent(number << 4 | 15)
}

fn leaf(offset: u64, len: u64) -> BaoContentItem {
    Leaf { offset, data: Bytes::from(vec![0; usize::try_from(len).unwrap()]) }.into()
}

fn chunks(range: Range<u64>) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end))
}

fn write(tree: &mut PartialTree, batch: &[BaoContentItem]) -> Result<(), PartialError> {
    let plan = tree.check(tree.size().value(), batch)?;
    tree.record(&plan)
}

/// Parents above an item and at the same time the way to it, computed top down by halving a power of two.
fn way(n_items: u64, item: u64) -> Vec<u64> {
    fn go(start: u64, end: u64, item: u64, out: &mut Vec<u64>) {
        if end - start > 1 {
            let mut half = 1;
            while half * 2 < end - start {
                half *= 2;
            }
            out.push(start + half - 1);
            if item < start + half {
                go(start, start + half, item, out);
            } else {
                go(start + half, end, item, out);
            }
        }
    }
    let mut out = Vec::new();
    go(0, n_items, item, &mut out);
    out
}

#[derive(Debug, Default)]
struct Model {
    size: u64,
    written: BTreeSet<u64>,
    parents: BTreeSet<u64>,
    verified: bool,
}

impl Model {
    fn n_chunks(&self) -> u64 {
        self.size.div_ceil(1024).max(1)
    }

    fn present(&self) -> BTreeSet<u64> {
        let n_groups = self.n_chunks().div_ceil(16);
        let has_parents =
            |chunk: &u64| way(n_groups, chunk / 16).iter().all(|node| self.parents.contains(node));
        self.written.iter().copied().filter(has_parents).collect()
    }

    fn write(&mut self, parents: &BTreeSet<u64>, written: &BTreeSet<u64>) {
        self.parents.extend(parents);
        self.written.extend(written);
        self.verified |= self.present().contains(&(self.n_chunks() - 1));
    }

    /// What has the same way to it in both trees stays; the last chunk of either has another length in the other.
    fn set_claim(&mut self, size: u64) {
        if size == self.size || self.verified {
            return;
        }
        let (old, new) = (self.n_chunks(), size.div_ceil(1024).max(1));
        let common = old.min(new) - 1;
        self.written.retain(|chunk| *chunk < common && way(old, *chunk) == way(new, *chunk));
        self.parents.retain(|parent| {
            let number = parent << 4 | 15;
            let above = |n_chunks| {
                let way = way(n_chunks, number);
                way.iter().position(|node| *node == number).map(|i| way[..=i].to_vec())
            };
            number < common && above(old) == above(new)
        });
        self.size = size;
    }

    fn check(&self, tree: &PartialTree) -> Result<(), TestCaseError> {
        let present = self.present();
        let found: BTreeSet<_> = tree.present.iter().flatten().collect();
        prop_assert_eq!(&found, &present);
        prop_assert_eq!(tree.size(), BaoBlobSize::new(self.size, self.verified));
        prop_assert_eq!(tree.is_complete(), present.len() as u64 == self.n_chunks());
        prop_assert_eq!(
            tree.parents().map(StoredParent::number).collect::<BTreeSet<_>>(),
            self.parents.clone()
        );
        prop_assert_eq!(tree.missing_ranges(), chunks(0..self.n_chunks()) - tree.present_ranges());
        let hash = Hash::EMPTY;
        prop_assert_eq!(tree.require_complete(hash).is_ok(), tree.is_complete());
        let missing: Vec<_> = (0..self.n_chunks()).filter(|chunk| !present.contains(chunk)).collect();
        match tree.require(hash, 0..u64::MAX) {
            Err(Error::Incomplete { first_missing, n_missing, n_chunks, .. }) => {
                prop_assert_eq!((first_missing, n_missing), (missing[0] * 1024, missing.len() as u64));
                prop_assert_eq!(n_chunks, self.n_chunks());
            }
            found => prop_assert_eq!(found.is_ok(), missing.is_empty() || self.size == 0),
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Parents and runs of chunks, by fractions of what there is.
    Write(Vec<u16>, Vec<(u16, u16)>),
    Claim(u64),
}

fn size() -> impl Strategy<Value = u64> {
    let group = 16 * 1024;
    prop_oneof![
        0..5000_u64,
        0..20 * group,
        (0..20_u64).prop_map(move |n| n * group),
        (1..20_u64).prop_map(move |n| n * group + 1)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let write = (prop::collection::vec(any::<u16>(), 0..6), prop::collection::vec(any::<(u16, u16)>(), 0..4));
    prop_oneof![8 => write.prop_map(|(parents, runs)| Step::Write(parents, runs)), 1 => size().prop_map(Step::Claim)]
}

/// A batch in order, and what it consists of.
fn batch(
    size: u64,
    parents: &[u16],
    runs: &[(u16, u16)],
) -> (Vec<BaoContentItem>, BTreeSet<u64>, BTreeSet<u64>) {
    let n_chunks = size.div_ceil(1024).max(1);
    let n_parents = n_chunks.div_ceil(16) - 1;
    let parents: BTreeSet<_> =
        parents.iter().filter(|_| n_parents > 0).map(|n| u64::from(*n) % n_parents).collect();
    let written: BTreeSet<_> = runs
        .iter()
        .flat_map(|(start, len)| {
            let start = u64::from(*start) % n_chunks;
            start..n_chunks.min(start + 1 + u64::from(*len) % 40)
        })
        .collect();
    let mut in_order: Vec<_> = parents.iter().copied().collect();
    in_order.sort_by_key(|number| StoredParent::from_number(*number).pre_order(size));
    let mut items: Vec<_> = in_order.into_iter().map(stored).collect();
    for chunk in &written {
        let offset = chunk * 1024;
        items.push(leaf(offset, 1024.min(size - offset)));
    }
    (items, parents, written)
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_model(first in size(), steps in prop::collection::vec(step(), 0..12)) {
        let mut tree = PartialTree::new(first);
        let mut model = Model { size: first, ..Model::default() };
        for step in steps {
            match step {
                Step::Write(parents, runs) => {
                    let (items, parents, written) = batch(model.size, &parents, &runs);
                    write(&mut tree, &items).unwrap();
                    model.write(&parents, &written);
                    prop_assert!(tree.check(model.size, &items).unwrap().parents().is_empty());
                }
                Step::Claim(size) => {
                    let refused = model.verified && size != model.size;
                    let before = tree.present_ranges();
                    match tree.set_claim(size) {
                        Ok(n_kept) => {
                            prop_assert!(!refused);
                            prop_assert_eq!(tree.present_ranges(), before & chunks(0..n_kept));
                        }
                        Err(error) => {
                            prop_assert!(refused);
                            prop_assert_eq!(error, PartialError::SizeConflict { claimed: size, current: model.size });
                        }
                    }
                    model.set_claim(size);
                }
            }
            model.check(&tree)?;
        }
    }

    #[test]
    fn restored_tree_equals_the_one_that_was_saved(size in size(), runs in prop::collection::vec(any::<(u16, u16)>(), 0..5)) {
        let n_groups = size.div_ceil(1024).max(1).div_ceil(16);
        let (items, _, written) = batch(size, &[], &runs);
        let parents: BTreeSet<_> = written.iter().flat_map(|chunk| way(n_groups, chunk / 16)).collect();
        let mut tree = PartialTree::new(size);
        write(&mut tree, &items).unwrap();
        for number in parents.iter().rev() {
            write(&mut tree, &[stored(*number)]).unwrap();
        }
        let restored = PartialTree::restore(size, false, &tree.present_ranges());
        prop_assert_eq!(restored.size(), tree.size());
        prop_assert_eq!(&restored.present, &tree.present);
        prop_assert_eq!(&restored.written, &tree.written);
        prop_assert_eq!(&restored.parents, &tree.parents);
        prop_assert_eq!(&restored.connected, &tree.connected);
    }

    #[test]
    fn restoring_from_any_ranges_is_total(size in prop_oneof![size(), any::<u64>()], bounds in prop::collection::btree_set(any::<u64>(), 0..6)) {
        let ranges = ChunkRanges::new(bounds.into_iter().map(ChunkNum).collect()).unwrap();
        let tree = PartialTree::restore(size, false, &ranges);
        prop_assert_eq!(tree.present_ranges(), ranges & PartialTree::all_ranges(size));
    }

    #[test]
    fn hostile_batches_never_panic(
        size in prop_oneof![size(), any::<u64>(), Just(u64::MAX)],
        claimed in prop_oneof![9 => Just(None), 1 => any::<u64>().prop_map(Some)],
        items in prop::collection::vec(
            prop_oneof![
                any::<u64>().prop_map(parent),
                (0..64_u32).prop_map(|shift| parent(u64::MAX >> shift)),
                (0..2000_u64).prop_map(parent),
                (any::<u64>(), 0..3000_u64).prop_map(|(offset, len)| leaf(offset, len)),
                (0..40_u64, 0..4_u64).prop_map(|(start, len)| leaf(start * 1024, len * 1024)),
            ],
            0..6,
        ),
    ) {
        let mut tree = PartialTree::new(size);
        if let Ok(plan) = tree.check(claimed.unwrap_or(size), &items) {
            prop_assert!(claimed.is_none_or(|claimed| claimed == size));
            tree.record(&plan).unwrap();
            for leaf in plan.leaves() {
                prop_assert!(leaf.chunks.start < leaf.chunks.end && leaf.chunks.end <= size.div_ceil(1024).max(1));
            }
        }
    }
}

#[test]
fn parents_without_leaves_make_nothing_present() {
    let mut tree = PartialTree::new(64 * 1024);
    write(&mut tree, &[stored(1), stored(0), stored(2)]).unwrap();
    assert!(tree.present_ranges().is_empty());
}

#[test]
fn leaf_is_present_when_the_last_parent_above_it_came() {
    let mut tree = PartialTree::new(64 * 1024);
    write(&mut tree, &[leaf(16 * 1024, 16 * 1024)]).unwrap();
    write(&mut tree, &[stored(0)]).unwrap();
    assert!(tree.present_ranges().is_empty());
    write(&mut tree, &[stored(1)]).unwrap();
    assert_eq!(tree.present_ranges(), chunks(16..32));
}

#[test]
fn last_chunk_proves_the_size() {
    let mut tree = PartialTree::new(20_000);
    write(&mut tree, &[stored(0), leaf(16 * 1024, 20_000 - 16 * 1024)]).unwrap();
    assert_eq!(tree.size(), BaoBlobSize::Verified(20_000));
    let conflict = PartialError::SizeConflict { claimed: 20_001, current: 20_000 };
    assert_eq!(tree.set_claim(20_001), Err(conflict));
    assert!(matches!(
        tree.require_complete(Hash::EMPTY),
        Err(Error::Incomplete { first_missing: 0, n_missing: 16, n_chunks: 20, .. })
    ));
}

#[test]
fn plan_made_before_another_claim_is_refused() {
    let mut tree = PartialTree::new(20_000);
    let plan = tree.check(20_000, &[leaf(0, 1024)]).unwrap();
    tree.set_claim(30_000).unwrap();
    assert_eq!(tree.record(&plan), Err(PartialError::SizeConflict { claimed: 20_000, current: 30_000 }));
    assert!(tree.check(20_000, &[]).is_err());
}

/// The sizes of `CASES.md`, "Size claims": all four decode the first group without error.
#[test]
fn true_leaf_survives_every_lie_that_it_was_consistent_with() {
    let mut tree = PartialTree::new(99_080);
    write(&mut tree, &[stored(3), stored(1), stored(0), leaf(0, 16 * 1024)]).unwrap();
    for claim in [99_082, 81_920, 131_072, 99_081] {
        tree.set_claim(claim).unwrap();
        assert_eq!(tree.present_ranges(), chunks(0..16), "{claim}");
    }
}

#[test]
fn nothing_is_shared_by_trees_of_different_height() {
    let mut tree = PartialTree::new(40_000);
    write(&mut tree, &[stored(1), stored(0), leaf(0, 16 * 1024)]).unwrap();
    tree.set_claim(80_000).unwrap();
    assert!(tree.present_ranges().is_empty() && tree.parents().next().is_none());
}

#[test]
fn leaf_that_is_present_is_not_written_again() {
    let mut tree = PartialTree::new(5000);
    let batch = [leaf(0, 1024), leaf(2048, 5000 - 2048)];
    assert_eq!(tree.check(5000, &batch).unwrap().leaves().len(), 2);
    write(&mut tree, &batch).unwrap();
    assert!(tree.check(5000, &batch).unwrap().is_empty());
    let whole = [leaf(0, 5000)];
    let plan = tree.check(5000, &whole).unwrap();
    assert_eq!(plan.leaves(), [PlannedLeaf { index: 0, chunks: 1..2 }]);
    assert_eq!((plan.leaves()[0].offset(), plan.leaves()[0].bytes(&whole).len()), (1024, 1024));
    let plan = PartialTree::new(5000).check(5000, &batch).unwrap();
    let lens: Vec<_> = plan.leaves().iter().map(|leaf| (leaf.offset(), leaf.bytes(&batch).len())).collect();
    assert_eq!(lens, [(0, 1024), (2048, 5000 - 2048)]);
}

#[test]
fn parents_inside_a_chunk_group_are_taken_and_not_kept() {
    let tree = PartialTree::new(16 * 1024);
    for number in [7, 3, 0, 14] {
        assert!(tree.check(16 * 1024, &[parent(number)]).unwrap().is_empty());
    }
    assert!(tree.check(16 * 1024, &[parent(15)]).is_err());
}

#[test]
fn each_kind_of_malformed_item_is_named() {
    let tree = PartialTree::new(50_000);
    let reason = |batch: &[BaoContentItem]| match tree.check(50_000, batch) {
        Err(PartialError::Invalid(reason)) => reason,
        other => panic!("{other:?}"),
    };
    for (offset, len) in [(49_152, 849), (50_176, 1), (u64::MAX, 1), (u64::MAX - 1023, 1024)] {
        assert_eq!(reason(&[leaf(offset, len)]), InvalidBatch::LeafBeyondSize { offset, len });
    }
    for (offset, len) in [(1, 1024), (0, 1023), (0, 0), (1024, 1500), (512, 512)] {
        assert_eq!(reason(&[leaf(offset, len)]), InvalidBatch::LeafMisaligned { offset, len });
    }
    for node in [48, 49, 63, u64::MAX, u64::MAX >> 1] {
        assert_eq!(reason(&[parent(node)]), InvalidBatch::ParentOutsideTree { node });
    }
    for batch in [
        [leaf(1024, 1024), leaf(0, 1024)],
        [leaf(0, 2048), leaf(1024, 1024)],
        [stored(0), stored(1)],
        [stored(2), stored(0)],
        [stored(0), stored(0)],
    ] {
        assert_eq!(reason(&batch), InvalidBatch::OutOfOrder);
    }
    assert!(tree.check(50_000, &[parent(47 - 1), leaf(49_152, 848)]).is_ok());
}

#[test]
fn empty_blob_has_one_empty_chunk() {
    let mut tree = PartialTree::new(0);
    assert!(!tree.is_complete());
    assert!(matches!(tree.require_complete(Hash::EMPTY), Err(Error::SizeUnverified { .. })));
    write(&mut tree, &[leaf(0, 0)]).unwrap();
    assert!(tree.is_complete() && tree.require_complete(Hash::EMPTY).is_ok());
    assert_eq!(tree.present_ranges(), chunks(0..1));
}

#[test]
fn huge_blob_costs_what_was_written() {
    let size = 1 << 60;
    let mut tree = PartialTree::new(size);
    let last = (size >> 14) - 1;
    for group in [0, 1, last / 3, last] {
        let mut batch: Vec<_> = way(size >> 14, group).into_iter().map(stored).collect();
        batch.push(leaf(group << 14, 1 << 14));
        write(&mut tree, &batch).unwrap();
    }
    assert_eq!(tree.size(), BaoBlobSize::Verified(size));
    assert_eq!(tree.present.iter().count(), 3);
    assert!(tree.parents.iter().count() < 150);
}
