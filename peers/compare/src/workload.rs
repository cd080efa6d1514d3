//! What is imported: distinct blobs that cost next to nothing to make.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    sync::LazyLock,
};

use bytes::Bytes;
use serde::Serialize;

#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(crate) struct Workload {
    /// How many blobs
    #[arg(long, default_value = "100000")]
    pub(crate) count: NonZeroU64,
    /// Bytes in each
    #[arg(long, default_value = "4096")]
    pub(crate) size: NonZeroUsize,
    /// How many imports wait at the same time
    #[arg(long, default_value = "64")]
    pub(crate) in_flight: NonZeroUsize,
}

impl Workload {
    /// So many blobs of 4 KiB, 64 at a time.
    pub(crate) fn of(count: NonZeroU64) -> Self {
        let (size, in_flight) =
            (NonZeroUsize::MIN.saturating_add(4095), NonZeroUsize::MIN.saturating_add(63));
        Self { count, size, in_flight }
    }

    pub(crate) fn total_bytes(self) -> u64 {
        self.count.get() * self.size.get() as u64
    }

    /// The blob with this index: blocks of one pseudo-random sequence, each with a key of its own.
    ///
    /// It costs less than copying the bytes twice, and neither repeats nor compresses. Blobs of at least 8
    /// bytes are distinct.
    pub(crate) fn blob(self, index: u64) -> Bytes {
        let mut key = mix(index);
        let mut blob = Vec::with_capacity(self.size.get().next_multiple_of(8 * SEQUENCE.len()));
        while blob.len() < self.size.get() {
            blob.extend(SEQUENCE.iter().flat_map(|word| (word ^ key).to_le_bytes()));
            key = mix(key);
        }
        blob.truncate(self.size.get());
        Bytes::from(blob)
    }
}

static SEQUENCE: LazyLock<Vec<u64>> = LazyLock::new(|| (0..512).map(|i| mix(!i)).collect());

/// SplitMix64: a bijection, so different indexes give different keys.
fn mix(index: u64) -> u64 {
    let mut x = index.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn blobs_are_distinct_and_of_the_size_asked_for() {
        for size in [8, 9, 4096, 10_000] {
            let size = NonZeroUsize::new(size).unwrap();
            let one = NonZeroUsize::MIN;
            let workload = Workload { count: NonZeroU64::MIN, size, in_flight: one };
            let blobs: BTreeSet<_> = (0..1000).map(|i| workload.blob(i)).collect();
            assert_eq!(blobs.len(), 1000, "{size}");
            assert!(blobs.iter().all(|blob| blob.len() == size.get()), "{size}");
        }
    }
}
