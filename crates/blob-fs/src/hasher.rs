//! Hash trees of blobs whose size shows only when they end.

use std::{fmt, io};

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use blob_traits::Hash;
use rayon::prelude::*;

use crate::vfs::FileRef;

/// The bytes of a chunk group, the leaves of an outboard.
const GROUP: usize = 16 << 10;
/// The groups of a block: a complete subtree whose pairs are written out in one piece (64 MiB of data).
const BLOCK_GROUPS: usize = 4096;
/// The bytes of a pair of chaining values, the nodes of an outboard.
const PAIR: usize = 64;
/// The pairs of a block.
const BLOCK_PAIRS: u64 = BLOCK_GROUPS as u64 - 1;
/// So many groups at once are hashed on several cores.
const PARALLEL: usize = 8;

/// Creates the file for an outboard that is too long for memory.
type CreateFile<'a> = Box<dyn FnMut() -> io::Result<FileRef> + Send + 'a>;

/// Computes the root and the outboard of a blob that is pushed piece by piece.
///
/// The outboard has the pairs in pre-order over groups of 16 KiB, without a size in front. Memory stays bounded, 32
/// bytes for each 64 MiB apart: the pairs of every complete 64 MiB are appended to a file, in which they move to
/// their places at the end (towards its end, by 64 bytes for each node above and before them). Up to 128 MiB of data
/// no file is needed.
pub(crate) struct TreeHasher<'a> {
    create: CreateFile<'a>,
    /// The end of what was pushed: not hashed before more follows, because the last group may be the only one.
    pending: Vec<u8>,
    n_groups: u64,
    /// The chaining values of the groups since the last block.
    groups: Vec<ChainingValue>,
    /// The chaining values of all blocks.
    blocks: Vec<ChainingValue>,
    /// The pairs of the first block, while it is the only one.
    first: Vec<u8>,
    /// The pairs of all blocks, once there are several.
    file: Option<FileRef>,
}

impl fmt::Debug for TreeHasher<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeHasher").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// What was computed about a blob.
#[derive(Clone, Debug)]
pub(crate) struct Hashed {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) outboard: Outboard,
}

/// Where the outboard is.
#[derive(Clone, Debug)]
pub(crate) enum Outboard {
    /// In memory, at most 512 KiB.
    Memory(Vec<u8>),
    /// In the file that was created for it, which is exactly as long; not synced.
    File(FileRef),
}

impl<'a> TreeHasher<'a> {
    /// Begins with nothing. `create` is called at most once, and only for more than 128 MiB.
    pub(crate) fn new(create: impl FnMut() -> io::Result<FileRef> + Send + 'a) -> Self {
        Self {
            create: Box::new(create),
            pending: Vec::new(),
            n_groups: 0,
            groups: Vec::new(),
            blocks: Vec::new(),
            first: Vec::new(),
            file: None,
        }
    }

    /// The number of bytes pushed so far.
    pub(crate) fn size(&self) -> u64 {
        self.n_groups * GROUP as u64 + self.pending.len() as u64
    }

    /// Adds bytes to the end. Pieces of at least 128 KiB are hashed on several cores.
    ///
    /// # Errors
    ///
    /// Those of the file; after one the hasher is of no use.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        let Some((fill, rest)) = data.split_at_checked(GROUP - self.pending.len()) else {
            self.pending.extend_from_slice(data);
            return Ok(());
        };
        if self.pending.is_empty() {
            return self.push_aligned(data);
        }
        self.pending.extend_from_slice(fill);
        if rest.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.pending);
        self.add(hash_group(&group, self.n_groups))?;
        self.pending = group;
        self.pending.clear();
        self.push_aligned(rest)
    }

    /// Adds bytes that start a group: hashes all groups but the last, which is kept.
    fn push_aligned(&mut self, data: &[u8]) -> io::Result<()> {
        let n_whole = data.len().saturating_sub(1) / GROUP;
        let (whole, last) = data.split_at(n_whole * GROUP);
        let base = self.n_groups;
        if n_whole >= PARALLEL {
            let hashed: Vec<_> = whole
                .par_chunks(GROUP)
                .enumerate()
                .with_min_len(PARALLEL / 2)
                .map(|(i, group)| hash_group(group, base + i as u64))
                .collect();
            hashed.into_iter().try_for_each(|cv| self.add(cv))?;
        } else {
            whole.chunks(GROUP).zip(base..).try_for_each(|(group, no)| self.add(hash_group(group, no)))?;
        }
        self.pending.extend_from_slice(last);
        Ok(())
    }

    /// Adds a group that is followed by another.
    fn add(&mut self, cv: ChainingValue) -> io::Result<()> {
        self.n_groups += 1;
        self.groups.push(cv);
        if self.groups.len() == BLOCK_GROUPS { self.close_block() } else { Ok(()) }
    }

    /// Turns the groups into a block of pairs and one chaining value.
    fn close_block(&mut self) -> io::Result<()> {
        let mut pairs = Vec::new();
        self.blocks.push(pre_order(&self.groups, &mut pairs));
        self.groups.clear();
        if self.blocks.len() == 1 {
            self.first = pairs;
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = (self.create)()?;
                file.write_all_at(&std::mem::take(&mut self.first), 0)?;
                none.insert(file)
            }
        };
        file.write_all_at(&pairs, (self.blocks.len() as u64 - 1) * BLOCK_PAIRS * PAIR as u64)
    }

    /// Ends the blob.
    pub(crate) fn finish(mut self) -> io::Result<Hashed> {
        let size = self.size();
        if self.n_groups == 0 {
            let outboard = Outboard::Memory(Vec::new());
            return Ok(Hashed { hash: Hash::new(&self.pending), size, outboard });
        }
        self.groups.push(hash_group(&self.pending, self.n_groups));
        let mut tail = Vec::new();
        let tail_cv = pre_order(&self.groups, &mut tail);
        if self.blocks.is_empty() {
            return Ok(Hashed { hash: root_of(&tail), size, outboard: Outboard::Memory(tail) });
        }
        self.blocks.push(tail_cv);
        let mut top = Top::default();
        top.place(&self.blocks);
        let hash = top.root();
        let outboard = match self.file {
            Some(file) => {
                top.assemble(&file, &tail)?;
                Outboard::File(file)
            }
            None => Outboard::Memory([top.pairs.concat(), self.first, tail].concat()),
        };
        Ok(Hashed { hash, size, outboard })
    }
}

/// Computes root and outboard of bytes in memory, on the caller's thread.
pub(crate) fn hash_small(data: &[u8]) -> (Hash, Vec<u8>) {
    if data.len() <= GROUP {
        return (Hash::new(data), Vec::new());
    }
    let groups: Vec<_> = data.chunks(GROUP).zip(0..).map(|(group, no)| hash_group(group, no)).collect();
    let mut pairs = Vec::new();
    pre_order(&groups, &mut pairs);
    (root_of(&pairs), pairs)
}

/// The chaining value of a group that is not the only one.
fn hash_group(group: &[u8], no: u64) -> ChainingValue {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(no * GROUP as u64);
    hasher.update(group).finalize_non_root()
}

/// The number of leaves in the left subtree of `n` leaves: the largest power of two below `n`.
fn left_leaves(n: usize) -> usize {
    n.div_ceil(2).next_power_of_two()
}

/// Appends the pairs over these leaves in pre-order and returns the chaining value of their parent.
fn pre_order(leaves: &[ChainingValue], pairs: &mut Vec<u8>) -> ChainingValue {
    if let [leaf] = leaves {
        return *leaf;
    }
    let at = pairs.len();
    pairs.extend_from_slice(&[0; PAIR]);
    let (left, right) = leaves.split_at(left_leaves(leaves.len()));
    let children = [pre_order(left, pairs), pre_order(right, pairs)];
    if let Some(pair) = pairs.get_mut(at..at + PAIR) {
        pair.copy_from_slice(children.as_flattened());
    }
    merge_subtrees_non_root(&children[0], &children[1], Mode::Hash)
}

/// The root over the first pair of an outboard.
fn root_of(pairs: &[u8]) -> Hash {
    let mut children = [[0; 32]; 2];
    if let Some(first) = pairs.first_chunk::<PAIR>() {
        children.as_flattened_mut().copy_from_slice(first);
    }
    merge_subtrees_root(&children[0], &children[1], Mode::Hash).into()
}

/// The tree above the blocks.
#[derive(Debug, Default)]
struct Top {
    /// Its pairs in pre-order.
    pairs: Vec<[u8; PAIR]>,
    /// For each block how many of the pairs come before it.
    before: Vec<u64>,
}

impl Top {
    /// Lays out the tree over these blocks.
    fn place(&mut self, blocks: &[ChainingValue]) -> ChainingValue {
        if let [block] = blocks {
            self.before.push(self.pairs.len() as u64);
            return *block;
        }
        let at = self.pairs.len();
        self.pairs.push([0; PAIR]);
        let (left, right) = blocks.split_at(left_leaves(blocks.len()));
        let children = [self.place(left), self.place(right)];
        if let Some(pair) = self.pairs.get_mut(at) {
            pair.copy_from_slice(children.as_flattened());
        }
        merge_subtrees_non_root(&children[0], &children[1], Mode::Hash)
    }

    fn root(&self) -> Hash {
        root_of(self.pairs.as_flattened())
    }

    /// Makes an outboard of a file that has the pairs of all blocks but the last, and the pairs of that.
    fn assemble(&self, file: &FileRef, tail: &[u8]) -> io::Result<()> {
        let block_len = BLOCK_PAIRS * PAIR as u64;
        let mut block = vec![0; usize::try_from(block_len).map_err(io::Error::other)?];
        let mut after = self.pairs.len();
        for (no, before) in self.before.iter().enumerate().rev() {
            // From the last to the first: what a block moves over has moved before. Then the pairs between this
            // block and the next one have room.
            let from = no as u64 * block_len;
            let to = from + before * PAIR as u64;
            let moved = if no + 1 == self.before.len() {
                tail
            } else {
                file.read_exact_at(&mut block, from)?;
                &block
            };
            file.write_all_at(moved, to)?;
            let n_before = usize::try_from(*before).map_err(io::Error::other)?;
            let between = self.pairs.get(n_before..after).unwrap_or_default();
            file.write_all_at(between.as_flattened(), to + moved.len() as u64)?;
            after = n_before;
        }
        file.write_all_at(self.pairs.get(..after).unwrap_or_default().as_flattened(), 0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bao_tree::{BlockSize, io::outboard::PreOrderMemOutboard};
    use proptest::prelude::*;

    use super::*;
    use crate::vfs::{RealVfs, Vfs};

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    /// Bytes of which no two groups are equal.
    fn bytes(len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        data
    }

    fn expected(data: &[u8]) -> (Hash, Vec<u8>) {
        let outboard = PreOrderMemOutboard::create(data, BlockSize::from_chunk_log(4));
        assert_eq!(outboard.root, blake3::hash(data));
        (outboard.root.into(), outboard.data)
    }

    fn hashed(data: &[u8], pieces: impl Iterator<Item = usize>, dir: &Path) -> (Hash, Vec<u8>) {
        let mut created = 0;
        let mut hasher = TreeHasher::new(|| {
            created += 1;
            RealVfs::default().create_new(&dir.join("outboard"))
        });
        let mut rest = data;
        for piece in pieces {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            hasher.push(now).unwrap();
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert_eq!(hasher.size(), data.len() as u64);
        let Hashed { hash, size, outboard } = hasher.finish().unwrap();
        assert_eq!(size, data.len() as u64);
        assert_eq!(created, usize::from(data.len() > 128 * MIB));
        match outboard {
            Outboard::Memory(pairs) => (hash, pairs),
            Outboard::File(file) => {
                let mut pairs = vec![0; usize::try_from(file.stat().unwrap().size).unwrap()];
                file.read_exact_at(&mut pairs, 0).unwrap();
                (hash, pairs)
            }
        }
    }

    #[track_caller]
    fn agrees(data: &[u8], pieces: impl Iterator<Item = usize>) {
        let dir = tempfile::tempdir().unwrap();
        let (hash, outboard) = hashed(data, pieces, dir.path());
        let expected = expected(data);
        assert_eq!(hash, expected.0, "root of {} bytes", data.len());
        assert!(outboard == expected.1, "outboard of {} bytes", data.len());
    }

    #[test]
    fn sizes_around_every_boundary_agree_with_bao_tree() {
        let data = bytes(4 * MIB + 777);
        let around = |n: usize| [n - 1, n, n + 1];
        let sizes = [around(KIB), around(16 * KIB), around(32 * KIB), around(48 * KIB), around(MIB)]
            .into_iter()
            .flatten()
            .chain([0, 1, 3 * MIB, 4 * MIB + 777]);
        for size in sizes {
            let data = &data[..size];
            agrees(data, std::iter::repeat(usize::MAX));
            for piece in [1021, 16 * KIB, 16 * KIB + 1, 100_000, 999_983] {
                agrees(data, std::iter::repeat(piece));
            }
            assert_eq!(hash_small(data), expected(data), "{size} bytes at once");
        }
    }

    #[test]
    fn one_block_agrees_with_bao_tree() {
        let data = bytes(64 * MIB + 1);
        for size in [64 * MIB - 1, 64 * MIB, 64 * MIB + 1] {
            agrees(&data[..size], std::iter::repeat(MIB + 13));
        }
    }

    #[test]
    fn several_blocks_agree_with_bao_tree() {
        let data = bytes(270 * MIB);
        for size in [128 * MIB, 128 * MIB + 1, 192 * MIB, 270 * MIB] {
            agrees(&data[..size], std::iter::repeat(4 * MIB + 5));
        }
    }

    #[test]
    fn file_that_cannot_be_created_fails_the_push() {
        let mut hasher = TreeHasher::new(|| Err(io::ErrorKind::StorageFull.into()));
        let data = vec![0; 128 * MIB + 1];
        assert_eq!(hasher.push(&data).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn top_of_many_blocks_is_laid_out_in_pre_order() {
        let blocks: Vec<_> = (0..100_u8).map(|no| [no; 32]).collect();
        for n in 1..=blocks.len() {
            let (mut top, mut pairs) = (Top::default(), Vec::new());
            assert_eq!(top.place(&blocks[..n]), pre_order(&blocks[..n], &mut pairs));
            assert_eq!(top.pairs.as_flattened(), pairs);
            assert!(top.before.len() == n && top.before.is_sorted());
            assert_eq!(top.before.last(), Some(&(n as u64 - 1)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_pieces_agree_with_bao_tree(
            len in 0..600_000_usize,
            pieces in prop::collection::vec(prop_oneof![0..20_usize, 0..40_000_usize, 0..400_000_usize], 1..20),
        ) {
            let data = bytes(len);
            agrees(&data, pieces.into_iter().chain(std::iter::repeat(usize::MAX)));
            prop_assert_eq!(hash_small(&data), expected(&data));
        }
    }
}
