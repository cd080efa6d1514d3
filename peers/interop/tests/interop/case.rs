//! Blobs with range sets.

use blob_traits::{
    Hash,
    bao_tree::{ChunkNum, ChunkRanges},
};
use bytes::Bytes;

use crate::sample::{self, Numbers};

/// One size per way in which a tree can be small, and some with more of everything.
const SIZES: [usize; 10] = [1, 1023, 1025, 16_384, 16_385, 32_769, 65_536, 100_007, 300_001, (1 << 20) + 1];
/// How many random range sets each size has.
const N_RANDOM: u64 = 24;

/// A blob of its own and some of its chunks. Its seed makes it again.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) size: usize,
    pub(crate) ranges: ChunkRanges,
}

impl Case {
    /// For each size the range sets that are special and [`N_RANDOM`] others: 290 cases.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        SIZES.into_iter().zip(1_u64..).flat_map(|(size, n)| {
            let special = special_ranges(size).into_iter();
            let random = (0..N_RANDOM).map(move |i| random_ranges(n * 1000 + i, size));
            let seeds = n * 1000..;
            random.chain(special).zip(seeds).map(move |(ranges, seed)| Self { seed, size, ranges })
        })
    }

    /// Those cases whose range set takes a chunk.
    pub(crate) fn not_empty() -> impl Iterator<Item = Self> {
        Self::all().filter(|case| !case.ranges.is_empty())
    }

    pub(crate) fn blob(&self) -> Bytes {
        sample::bytes(self.seed, self.size)
    }

    pub(crate) fn hash(&self) -> Hash {
        Hash::new(self.blob())
    }

    pub(crate) fn size(&self) -> u64 {
        self.size as u64
    }

    /// The same blob with the chunks that this case leaves out.
    pub(crate) fn rest(&self) -> Self {
        Self { ranges: ChunkRanges::all() - self.ranges.clone(), ..self.clone() }
    }
}

/// Those chunks of a set whose chunk group is in it as a whole: what a store can prove, and thus export.
pub(crate) fn whole_groups(size: usize, ranges: &ChunkRanges) -> ChunkRanges {
    let mut whole = ChunkRanges::empty();
    for start in (0..n_chunks(size)).step_by(16) {
        let group = ChunkRanges::from(ChunkNum(start)..ChunkNum(n_chunks(size).min(start + 16)));
        if group.is_subset(ranges) {
            whole |= group;
        }
    }
    whole
}

/// How many chunks a blob has.
fn n_chunks(size: usize) -> u64 {
    (size as u64).div_ceil(1024)
}

/// Boundaries at chunks, or for every third seed at chunk groups, up to a little past the end.
fn random_ranges(seed: u64, size: usize) -> ChunkRanges {
    let mut numbers = Numbers::of_seed(seed);
    let n_chunks = n_chunks(size);
    if !seed.is_multiple_of(3) {
        return numbers.ranges_below(n_chunks + 3);
    }
    let groups = numbers.ranges_below(n_chunks.div_ceil(16) + 2);
    let boundaries = groups.boundaries().iter().map(|group| ChunkNum(group.0 * 16)).collect();
    ChunkRanges::new(boundaries).unwrap()
}

fn special_ranges(size: usize) -> [ChunkRanges; 5] {
    let n_chunks = n_chunks(size);
    [
        ChunkRanges::empty(),
        ChunkRanges::all(),
        ChunkRanges::from(ChunkNum(0)..ChunkNum(1)),
        // asks for the last chunk, which proves the size
        ChunkRanges::from(ChunkNum(u64::MAX)..),
        ChunkRanges::from(ChunkNum(n_chunks + 5)..ChunkNum(n_chunks + 9)),
    ]
}
