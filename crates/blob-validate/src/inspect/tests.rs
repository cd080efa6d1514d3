//! Random damage to bytes and pairs, against what was there before.

use std::collections::BTreeSet;

use bao_tree::io::outboard::PreOrderMemOutboard;
use blob_traits::BLOCK_SIZE;
use proptest::prelude::*;

use super::*;
use crate::{
    pieces::{InMemory, Pair, Pieces},
    subtree::GROUP,
};

/// A blob, and what was done to it.
#[derive(Debug)]
struct Blob {
    hash: Hash,
    data: Vec<u8>,
    outboard: Vec<u8>,
}

fn blob(size: u64, seed: u64) -> Blob {
    let mut data = vec![0; usize::try_from(size).unwrap()];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut data);
    let outboard = PreOrderMemOutboard::create(&data, BLOCK_SIZE).data;
    Blob { hash: Hash::new(&data), data, outboard }
}

/// Everything that is told.
#[derive(Default)]
struct Told {
    parents: Vec<(Parent, Origin)>,
    groups: Vec<(u64, Bytes)>,
    findings: Findings,
}

impl Visit for Told {
    fn parent(&mut self, parent: Parent, origin: Origin) -> Result<()> {
        self.parents.push((Parent { node: parent.node, pair: parent.pair }, origin));
        self.findings.parent(parent, origin)
    }

    fn group(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.groups.push((offset, bytes.clone()));
        self.findings.group(offset, bytes)
    }

    fn lost(&mut self, chunks: Range<ChunkNum>, why: Lost) -> Result<()> {
        self.findings.lost(chunks, why)
    }
}

fn look(blob: &Blob) -> Told {
    let mut pieces = InMemory::new(blob.data.clone().into(), blob.outboard.clone().into());
    let mut told = Told::default();
    let tree = Subtree::whole(blob.data.len() as u64);
    Inspection::new(&mut pieces, &mut told).run(&tree, blob.hash.as_bytes()).unwrap();
    told
}

fn groups(indices: &BTreeSet<u64>, size: u64) -> ChunkRanges {
    let end = ChunkNum::chunks(size).0.max(1);
    let ranges = indices.iter().map(|group| ChunkNum(group * 16)..ChunkNum((group * 16 + 16).min(end)));
    ranges.fold(ChunkRanges::empty(), |all, range| all | ChunkRanges::from(range))
}

#[derive(Clone, Debug)]
struct Flips {
    size: u64,
    data: BTreeSet<u64>,
    pairs: BTreeSet<u64>,
}

/// Which groups and which pairs are hit, each in one bit.
fn flips(hit_data: bool, hit_pairs: bool) -> impl Strategy<Value = Flips> {
    (1..40 * GROUP).prop_flat_map(move |size| {
        let n_groups = size.div_ceil(GROUP);
        let some = |range: Range<u64>, hit: bool| {
            let n = if hit && !range.is_empty() { 0..6 } else { 0..1 };
            prop::collection::btree_set(range.start..range.end.max(1), n)
        };
        (Just(size), some(0..n_groups, hit_data), some(0..n_groups - 1, hit_pairs && n_groups > 1))
            .prop_map(|(size, data, pairs)| Flips { size, data, pairs })
    })
}

fn flip(blob: &mut Blob, flips: &Flips, bit: u64) {
    for group in &flips.data {
        let len = GROUP.min(flips.size - group * GROUP);
        let at = usize::try_from(group * GROUP + bit % len).unwrap();
        blob.data[at] ^= 1 << (bit % 8);
    }
    for pair in &flips.pairs {
        let at = usize::try_from(pair * 64 + bit % 64).unwrap();
        blob.outboard[at] ^= 1 << (bit % 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_bytes_cost_their_groups_alone(flips in flips(true, false), seed: u64, bit: u64) {
        let mut blob = blob(flips.size, seed);
        flip(&mut blob, &flips, bit);
        let told = look(&blob);
        prop_assert_eq!(told.findings.bad, groups(&flips.data, flips.size));
        prop_assert!(told.findings.mended.is_empty() && told.findings.unreadable.is_empty());
    }

    #[test]
    fn damaged_pairs_are_told_from_the_bytes(flips in flips(false, true), seed: u64, bit: u64) {
        let sound = blob(flips.size, seed);
        let mut damaged = blob(flips.size, seed);
        flip(&mut damaged, &flips, bit);
        let Findings { bad, mended, .. } = look(&damaged).findings;
        prop_assert!(bad.is_empty());
        prop_assert_eq!(mended.len(), flips.pairs.len());
        let tree = bao_tree::BaoTree::new(flips.size, BLOCK_SIZE);
        for parent in mended {
            let at = usize::try_from(tree.pre_order_offset(parent.node).unwrap() * 64).unwrap();
            damaged.outboard[at..at + 32].copy_from_slice(parent.pair.0.as_bytes());
            damaged.outboard[at + 32..at + 64].copy_from_slice(parent.pair.1.as_bytes());
        }
        prop_assert_eq!(damaged.outboard, sound.outboard);
    }

    #[test]
    fn one_damaged_pair_above_damaged_bytes_costs_no_more(flips in flips(true, true), seed: u64, bit: u64, side: bool) {
        // One side of each pair is hit; what it was is said once more by the pair below, or by the bytes below.
        let mut blob = blob(flips.size, seed);
        let pairs = flips.pairs.iter().take(1).copied().collect();
        let flips = Flips { pairs, ..flips };
        flip(&mut blob, &flips, bit % 32 + if side { 32 } else { 0 });
        let told = look(&blob);
        let hit = groups(&flips.data, flips.size);
        prop_assert!((&hit - &told.findings.bad).is_empty());
        // Only where nothing is below the side that is hit but a group that is hit as well, all below the pair goes.
        let more = &told.findings.bad - &hit;
        prop_assert!(more.is_empty() || told.findings.n_lost_pairs == 1, "{more:?}");
        prop_assert!(told.findings.n_lost_pairs == 0 || !(flips.data.is_empty() || flips.pairs.is_empty()));
    }

    #[test]
    fn whatever_is_told_to_be_sound_is(flips in flips(true, true), seed: u64, bit: u64) {
        let sound = blob(flips.size, seed);
        let mut damaged = blob(flips.size, seed);
        flip(&mut damaged, &flips, bit);
        let told = look(&damaged);
        let mut there = groups(&BTreeSet::new(), flips.size);
        for (offset, bytes) in &told.groups {
            let at = usize::try_from(*offset).unwrap();
            prop_assert_eq!(&sound.data[at..at + bytes.len()], &bytes[..]);
            there |= groups(&[offset / GROUP].into(), flips.size);
        }
        let all = groups(&(0..flips.size.div_ceil(GROUP)).collect(), flips.size);
        prop_assert_eq!(&there | &told.findings.bad, all);
        prop_assert!((&there & &told.findings.bad).is_empty());
        let tree = bao_tree::BaoTree::new(flips.size, BLOCK_SIZE);
        for (parent, _) in &told.parents {
            let at = usize::try_from(tree.pre_order_offset(parent.node).unwrap() * 64).unwrap();
            prop_assert_eq!(&sound.outboard[at..at + 32], &parent.pair.0.as_bytes()[..]);
            prop_assert_eq!(&sound.outboard[at + 32..at + 64], &parent.pair.1.as_bytes()[..]);
        }
    }
}

#[test]
fn a_lost_tree_is_computed_anew() {
    let mut blob = blob(33 * GROUP + 7, 1);
    let outboard = std::mem::take(&mut blob.outboard);
    let told = look(&blob);
    assert!(told.findings.bad.is_empty());
    assert_eq!(told.findings.mended.len() * 64, outboard.len());
}

#[test]
fn pairs_that_are_forgotten_have_been_counted() {
    let mut blob = blob(33 * GROUP + 7, 1);
    let outboard = std::mem::take(&mut blob.outboard);
    let told = look(&blob);
    let (mut findings, mut all) = (told.findings, Findings::default());
    let n_mended = findings.n_mended;
    findings.forget_pairs();
    all.join(findings);
    assert_eq!((all.n_mended, all.mended.len(), all.is_sound()), (n_mended, 0, false));
    assert_eq!(n_mended * 64, outboard.len() as u64);
}

#[test]
fn small_blobs_are_sound_with_their_own_tree_alone() {
    for size in [0, 1, GROUP, GROUP + 1, 3 * GROUP + 5] {
        let Blob { hash, data, outboard } = blob(size, 2);
        let is_sound = |data: &[u8], outboard: &[u8]| {
            is_sound_in_memory(hash, data.to_vec().into(), outboard.to_vec().into())
        };
        assert!(is_sound(&data, &outboard), "{size}");
        assert!(!is_sound(&data, &[&outboard[..], &[0]].concat()), "{size}");
        assert!(!is_sound(&[&data[..], &[0]].concat(), &outboard), "{size}");
        if !outboard.is_empty() {
            assert!(!is_sound(&data, &outboard[..outboard.len() - 1]), "{size}");
        }
    }
}

/// Pieces of which some groups, or all pairs, cannot be read.
struct Failing {
    inner: InMemory,
    groups: BTreeSet<u64>,
    no_pairs: Option<()>,
}

impl Pieces for Failing {
    fn pair(&mut self, parent: TreeNode) -> Result<Option<Pair>> {
        match self.no_pairs {
            Some(()) => Err(std::io::Error::from_raw_os_error(5).into()),
            None => self.inner.pair(parent),
        }
    }

    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        if self.groups.contains(&(offset / GROUP)) {
            return Err(std::io::Error::from_raw_os_error(5).into());
        }
        self.inner.group(offset, len)
    }

    fn stored_len(&mut self) -> Result<Option<u64>> {
        self.inner.stored_len()
    }
}

#[test]
fn what_could_not_be_read_is_not_taken_for_damage() {
    let mut blob = blob(9 * GROUP, 3);
    let all = groups(&(0..9).collect(), 9 * GROUP);
    let mut look = |unreadable: BTreeSet<u64>, no_pairs: Option<()>, bad_pair: Option<usize>| {
        if let Some(pair) = bad_pair {
            blob.outboard[pair * 64..pair * 64 + 64].fill(0);
        }
        let inner = InMemory::new(blob.data.clone().into(), blob.outboard.clone().into());
        let mut findings = Findings::default();
        let mut pieces = Failing { inner, groups: unreadable, no_pairs };
        Inspection::new(&mut pieces, &mut findings)
            .run(&Subtree::whole(9 * GROUP), blob.hash.as_bytes())
            .unwrap();
        findings
    };
    let nothing = look((0..9).collect(), Some(()), None);
    assert_eq!((nothing.bad, nothing.unreadable), (ChunkRanges::empty(), all));
    assert!(nothing.error.is_some());
    let no_tree = look(BTreeSet::new(), Some(()), None);
    assert!(no_tree.bad.is_empty() && no_tree.unreadable.is_empty());
    // The pair above groups 0 and 1 is damaged, and group 1 would prove what it was.
    let both = look([1].into(), None, Some(3));
    assert_eq!((both.bad, both.unreadable), (ChunkRanges::empty(), groups(&[0, 1].into(), 9 * GROUP)));
}

/// A provider claims a size that no disk holds, and has sent the first group with wrong pairs above it.
#[test]
fn claimed_size_of_a_partial_blob_costs_no_time() {
    let mut pieces = InMemory::new(vec![0; 16 << 10].into(), Bytes::new());
    let mut findings = Findings::default();
    let there = groups(&[0].into(), GROUP);
    Inspection::new(&mut pieces, &mut findings)
        .there(Some(&there))
        .run(&Subtree::whole(1 << 44), Hash::new(b"root").as_bytes())
        .unwrap();
    assert!((&there - &findings.bad).is_empty());
}
