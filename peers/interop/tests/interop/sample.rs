//! Numbers, bytes and range sets that a seed decides.

use std::collections::BTreeSet;

use blob_traits::bao_tree::{ChunkNum, ChunkRanges, blake3};
use bytes::Bytes;

/// Sizes of blobs around chunks, chunk groups and what a store keeps inline.
pub(crate) const SIZES: [usize; 13] =
    [0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, 32_768, 32_769, 1 << 20, (1 << 20) + 1, (4 << 20) + 777];

/// Numbers without end (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn of_seed(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `limit`, which is over zero.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.any() % limit
    }

    /// A range set with up to six boundaries below `limit`; an odd number of them leaves its end open.
    pub(crate) fn ranges_below(&mut self, limit: u64) -> ChunkRanges {
        let n = self.below(7);
        let boundaries: BTreeSet<_> = (0..n).map(|_| ChunkNum(self.below(limit))).collect();
        ChunkRanges::new(boundaries.into_iter().collect()).unwrap()
    }
}

/// Bytes that no other seed gives.
pub(crate) fn bytes(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.into()
}
