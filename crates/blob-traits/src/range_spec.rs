//! The compact wire form of a set of chunk ranges.

use std::fmt;

use bao_tree::{ChunkNum, ChunkRanges, ChunkRangesRef};
use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

/// Writes a set of chunk ranges as widths: how many chunks are left out, how many taken, left out, taken, ...
///
/// What follows the last width goes on to infinity: nothing at all is `[]`, everything `[0]`, chunks 2 to 6 and 10
/// `[2, 5, 3, 1]`. Every set has one such form: a width of zero in any place but the first, and widths whose sum
/// does not fit into 64 bits, are refused when read.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>")]
pub struct RangeSpec(SmallVec<[u64; 2]>);

/// Says why a list of widths is no range spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeSpecError {
    /// A width other than the first is zero.
    #[error("width {0} of a range spec is zero")]
    ZeroWidth(usize),
    /// The widths up to this one add up to more than 64 bits hold.
    #[error("the widths of a range spec overflow at number {0}")]
    Overflow(usize),
}

impl RangeSpec {
    /// Takes no chunk.
    pub const EMPTY: Self = Self(SmallVec::new_const());

    /// Writes `ranges` as widths.
    pub fn new(ranges: impl AsRef<ChunkRangesRef>) -> Self {
        let mut last = 0;
        let widths = ranges.as_ref().boundaries().iter().map(|boundary| {
            let width = boundary.0 - last;
            last = boundary.0;
            width
        });
        Self(widths.collect())
    }

    /// Takes every chunk.
    pub fn all() -> Self {
        Self(smallvec![0])
    }

    /// Returns whether no chunk is taken.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether every chunk is taken.
    pub fn is_all(&self) -> bool {
        self.0.as_slice() == [0]
    }

    /// Returns the set of ranges.
    pub fn to_chunk_ranges(&self) -> ChunkRanges {
        let mut last = 0;
        let boundaries = self.0.iter().map(|width| {
            last += width;
            ChunkNum(last)
        });
        ChunkRanges::new(boundaries.collect())
            .expect("widths were checked to be positive when they were taken in")
    }
}

impl TryFrom<Vec<u64>> for RangeSpec {
    type Error = RangeSpecError;

    fn try_from(widths: Vec<u64>) -> Result<Self, Self::Error> {
        let mut sum = 0_u64;
        for (i, width) in widths.iter().enumerate() {
            if i > 0 && *width == 0 {
                return Err(RangeSpecError::ZeroWidth(i));
            }
            sum = sum.checked_add(*width).ok_or(RangeSpecError::Overflow(i))?;
        }
        Ok(Self(widths.into()))
    }
}

impl fmt::Debug for RangeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RangeSpec({:?})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges() -> impl Strategy<Value = ChunkRanges> {
        let boundary = prop_oneof![0..50_u64, any::<u64>(), Just(u64::MAX)].prop_map(ChunkNum);
        prop::collection::btree_set(boundary, 0..20)
            .prop_map(|boundaries| ChunkRanges::new(boundaries.into_iter().collect()).unwrap())
    }

    fn decode(widths: &[u64]) -> postcard::Result<RangeSpec> {
        postcard::from_bytes(&postcard::to_stdvec(widths).unwrap())
    }

    #[test]
    fn known_bytes() {
        let chunks =
            |range: std::ops::Range<u64>| ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end));
        for (ranges, bytes) in [
            (ChunkRanges::empty(), &[0][..]),
            (ChunkRanges::all(), &[1, 0]),
            (ChunkRanges::from(ChunkNum(64)..), &[1, 64]),
            (ChunkRanges::from(ChunkNum(10_000)..), &[1, 0x90, 0x4e]),
            (ChunkRanges::from(..ChunkNum(64)), &[2, 0, 64]),
            (chunks(1..3) | chunks(9..13), &[4, 1, 2, 6, 4]),
            (chunks(2..7) | chunks(10..11), &[4, 2, 5, 3, 1]),
        ] {
            assert_eq!(postcard::to_stdvec(&RangeSpec::new(&ranges)).unwrap(), bytes);
            assert_eq!(postcard::from_bytes::<RangeSpec>(bytes).unwrap().to_chunk_ranges(), ranges);
        }
    }

    #[test]
    fn nothing_and_everything_know_themselves() {
        assert!(RangeSpec::EMPTY.is_empty() && !RangeSpec::EMPTY.is_all());
        assert!(RangeSpec::all().is_all() && !RangeSpec::all().is_empty());
        assert_eq!(RangeSpec::EMPTY, RangeSpec::new(ChunkRanges::empty()));
        assert_eq!(RangeSpec::all(), RangeSpec::new(ChunkRanges::all()));
    }

    #[test]
    fn only_the_one_form_is_read() {
        assert!(decode(&[]).is_ok() && decode(&[0]).is_ok() && decode(&[u64::MAX]).is_ok());
        assert!(decode(&[0, 0]).is_err() && decode(&[1, 0]).is_err() && decode(&[1, 1, 0, 1]).is_err());
        assert!(decode(&[u64::MAX, 1]).is_err() && decode(&[1, u64::MAX]).is_err());
        assert_eq!(RangeSpec::try_from(vec![1, 2, 0]), Err(RangeSpecError::ZeroWidth(2)));
        assert_eq!(RangeSpec::try_from(vec![2, u64::MAX]), Err(RangeSpecError::Overflow(1)));
    }

    #[test]
    fn a_length_that_is_not_there_reserves_nothing() {
        let mut bytes = postcard::to_stdvec(&u64::MAX).unwrap();
        bytes.push(1);
        assert!(postcard::from_bytes::<RangeSpec>(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn ranges_survive(ranges in ranges()) {
            let spec = RangeSpec::new(&ranges);
            prop_assert_eq!(&spec.to_chunk_ranges(), &ranges);
            prop_assert_eq!(spec.is_empty(), ranges.is_empty());
            prop_assert_eq!(spec.is_all(), ranges.is_all());
            let bytes = postcard::to_stdvec(&spec).unwrap();
            prop_assert_eq!(postcard::from_bytes::<RangeSpec>(&bytes).unwrap(), spec);
        }

        #[test]
        fn what_is_read_is_written_the_same(widths in prop::collection::vec(prop_oneof![0..4_u64, any::<u64>()], 0..8)) {
            if let Ok(spec) = decode(&widths) {
                prop_assert_eq!(RangeSpec::new(spec.to_chunk_ranges()), spec);
            }
        }

        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(spec) = postcard::from_bytes::<RangeSpec>(&bytes) {
                let _ = spec.to_chunk_ranges();
            }
        }
    }
}
