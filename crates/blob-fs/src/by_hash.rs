//! Maps from hashes, where looking up many must not cost much.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hasher, RandomState},
    sync::LazyLock,
};

use blob_traits::Hash;

/// A map whose keys are hashes.
pub(crate) type ByHash<V> = HashMap<Hash, V, Mixing>;

/// Mixes 16 bytes of a hash with two numbers that differ from process to process.
///
/// The bytes of a hash are random already, but who makes blobs can look for those whose hashes begin alike. Without the
/// numbers nobody knows which fall together.
#[derive(Clone, Debug)]
pub(crate) struct Mixing([u64; 2]);

static NUMBERS: LazyLock<[u64; 2]> = LazyLock::new(|| {
    let random = RandomState::new();
    [random.hash_one(1), random.hash_one(2)]
});

impl Default for Mixing {
    fn default() -> Self {
        Self(*NUMBERS)
    }
}

impl BuildHasher for Mixing {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer { numbers: self.0, mixed: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct Mixer {
    numbers: [u64; 2],
    mixed: u64,
}

impl Hasher for Mixer {
    /// What is shorter than a hash is its length, which is always the same.
    fn write(&mut self, bytes: &[u8]) {
        if let ([first, second, ..], _) = bytes.as_chunks() {
            let [one, other] = self.numbers;
            let folded = fold(u64::from_le_bytes(*first) ^ one, u64::from_le_bytes(*second) ^ other);
            // Where one factor is the same for many and has few bits, its multiples lie in few places.
            self.mixed = fold(folded, SPREAD);
        }
    }

    fn finish(&self) -> u64 {
        self.mixed
    }
}

/// An odd number with its bits all over: the fraction of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies, and takes both halves of the product.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let halves = (product as u64, (product >> 64) as u64);
    halves.0 ^ halves.1
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn hashes_that_begin_alike_are_spread() {
        let alike = |number: u64| {
            let mut bytes = [7; 32];
            bytes[8..16].copy_from_slice(&number.to_le_bytes());
            Hash::from_bytes(bytes)
        };
        // The first factor is this number, but for the bytes that are alike; it may be a multiple of a power of two.
        let alike_bytes = u64::from_le_bytes([7; 8]);
        for one in (1..200).map(|number| SPREAD.wrapping_mul(number) << (number % 8)) {
            let mixing = Mixing([one ^ alike_bytes, !one]);
            let mixed: Vec<u64> = (0..1000).map(|number| mixing.hash_one(alike(number))).collect();
            // A table takes the place from the lowest bits and tells entries apart by the highest.
            let places: HashSet<_> = mixed.iter().map(|mixed| mixed % 1024).collect();
            let tags: HashSet<_> = mixed.iter().map(|mixed| mixed >> 57).collect();
            assert!(places.len() > 500 && tags.len() > 100, "{one:x}: {} {}", places.len(), tags.len());
        }
    }

    #[test]
    fn numbers_decide_where_a_hash_falls() {
        let hash = Hash::new(b"blob");
        assert_eq!(Mixing([1, 2]).hash_one(hash), Mixing([1, 2]).hash_one(hash));
        assert_ne!(Mixing([1, 2]).hash_one(hash), Mixing([3, 2]).hash_one(hash));
        assert_ne!(Mixing([1, 2]).hash_one(hash), Mixing([1, 3]).hash_one(hash));
    }
}
