//! The few blobs that histories are about, so that their operations meet.

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges,
    io::{
        BaoContentItem,
        outboard::PreOrderMemOutboard,
        sync::{DecodeResponseIter, encode_ranges_validated},
    },
};
use blob_traits::{BLOCK_SIZE, Hash};
use bytes::Bytes;

use crate::Dice;

/// The bytes of a chunk.
pub(super) const CHUNK: u64 = 1024;
/// The chunks of a chunk group.
pub(super) const GROUP: u64 = 1 << BLOCK_SIZE.chunk_log();

const BOUNDARIES: [u64; 11] =
    [1, 1023, 1024, 1025, 16383, 16384, 16385, 32768, 32769, 3 * 16384 + 1, 9 * 16384];

/// A blob and its tree.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) data: Bytes,
    pub(super) hash: Hash,
    outboard: PreOrderMemOutboard,
}

/// All blobs of the histories of one run.
#[derive(Clone, Debug)]
pub(super) struct Universe(pub(super) Vec<Known>);

impl Universe {
    /// The empty blob, two with a common beginning, and some with sizes at which something changes, be it in every
    /// tree or in this backend.
    pub(super) fn new(seed: u64, thresholds: &[u64]) -> Self {
        let mut dice = Dice::new(seed);
        let mut blobs = vec![Known::new(Bytes::new())];
        let twin = random_bytes(seed, 70_000);
        blobs.push(Known::new(twin.slice(..40_000)));
        blobs.push(Known::new(twin));
        for number in 0..5 {
            let size = match dice.pick(thresholds) {
                Some(threshold) if number < 2 => (threshold + dice.below(3)).saturating_sub(1).max(1),
                _ => dice.pick(&BOUNDARIES).copied().unwrap_or(1),
            };
            blobs.push(Known::new(random_bytes(seed.wrapping_add(number + 1), size)));
        }
        Self(blobs)
    }

    pub(super) fn get(&self, index: usize) -> &Known {
        self.0.get(index % self.0.len().max(1)).expect("a universe has blobs")
    }
}

impl Known {
    pub(super) fn new(data: Bytes) -> Self {
        let outboard = PreOrderMemOutboard::create(&data, BLOCK_SIZE);
        Self { data, hash: outboard.root.into(), outboard }
    }

    pub(super) fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// The bytes of a range, less where the blob ends.
    pub(super) fn slice(&self, start: u64, end: u64) -> Bytes {
        let [start, end] = [start, end.max(start)].map(|at| to_usize(at).min(self.data.len()));
        self.data.slice(start..end)
    }

    /// The verified stream of some chunks.
    pub(super) fn encode(&self, ranges: &ChunkRanges) -> Bytes {
        let mut encoded = Vec::new();
        encode_ranges_validated(&*self.data, &self.outboard, ranges, &mut encoded)
            .expect("a blob fits to its own tree");
        encoded.into()
    }

    /// The items of that stream, as a download under a size claim would decode them: up to the first that gives the
    /// claim away. Also tells whether none did.
    pub(super) fn items(&self, claim: u64, ranges: &ChunkRanges) -> (Vec<BaoContentItem>, bool) {
        let encoded = self.encode(ranges);
        let tree = BaoTree::new(claim, BLOCK_SIZE);
        let mut honest = true;
        let decoded = DecodeResponseIter::new(self.outboard.root, tree, &*encoded, ranges);
        let items = decoded.map_while(|item| item.inspect_err(|_| honest = false).ok()).collect();
        (items, honest)
    }
}

/// The number of chunks by a size claim; no bytes are one empty chunk.
pub(super) fn n_chunks(size: u64) -> u64 {
    size.div_ceil(CHUNK).max(1)
}

/// The chunks of some groups.
pub(super) fn groups(start: u64, end: u64) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(start * GROUP)..ChunkNum(end * GROUP))
}

pub(super) fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Bytes without a pattern, the same each time; fewer of them are a beginning of more.
pub(super) fn random_bytes(seed: u64, len: u64) -> Bytes {
    let mut bytes = vec![0; to_usize(len)];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}
