//! The `.bits` file of a partial blob (E46): which of its ranges are valid.
//!
//! All integers are little endian.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `BLOBBITS` |
//! | 8 | 2 | version, 1 |
//! | 10 | 1 | 1 if the size is verified, else 0 |
//! | 11 | 1 | zero |
//! | 12 | 4 | number of boundaries n, at most 2,000,000 |
//! | 16 | 32 | hash |
//! | 48 | 8 | no |
//! | 56 | 8 | size |
//! | 64 | 8n | boundaries, ascending: the chunk where valid ones begin, where they end, and so on by turns |
//! | 64+8n | 4 | CRC-32C over all before |
//!
//! An odd number of boundaries means that the last range has no end.

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::Hash;

use super::record::{Fields, Unfit};
use crate::layout::FileNo;

const MAGIC: [u8; 8] = *b"BLOBBITS";
const VERSION: u16 = 1;
/// The bytes before the boundaries.
const FIXED: usize = 64;
/// The bytes of the CRC.
const CRC: usize = 4;
/// No file has more boundaries.
const MAX_BOUNDARIES: usize = 2_000_000;
/// No file is longer: nobody needs to read more of one.
pub(crate) const MAX_LEN: usize = FIXED + 8 * MAX_BOUNDARIES + CRC;

/// What is valid in the files of a partial blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) hash: Hash,
    pub(crate) no: FileNo,
    pub(crate) size: u64,
    pub(crate) size_state: SizeState,
    pub(crate) ranges: ChunkRanges,
}

/// What is known about a size (E43).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SizeState {
    /// Somebody said so.
    Claimed,
    /// The last chunk has been validated.
    Verified,
}

/// A file that says nothing: no ranges are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a damaged list of valid ranges: {0}")]
pub(crate) struct BadBits(&'static str);

impl Bits {
    /// Writes the whole file. Fails where there are too many ranges.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Unfit> {
        let boundaries = self.ranges.boundaries();
        if boundaries.len() > MAX_BOUNDARIES {
            return Err(Unfit("the number of valid ranges"));
        }
        let mut out = Vec::with_capacity(FIXED + 8 * boundaries.len() + CRC);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[u8::from(self.size_state == SizeState::Verified), 0]);
        out.extend_from_slice(&u32::try_from(boundaries.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(self.hash.as_bytes());
        out.extend_from_slice(&self.no.0.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        for chunk in boundaries {
            out.extend_from_slice(&chunk.0.to_le_bytes());
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        Ok(out)
    }

    /// Reads a whole file. Total; whether it is the file of that blob is for the caller to see.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadBits> {
        if bytes.len() > MAX_LEN {
            return Err(BadBits("it is too long"));
        }
        let (checked, crc) = bytes.split_last_chunk::<CRC>().ok_or(BadBits("it is cut off"))?;
        if crc32c::crc32c(checked) != u32::from_le_bytes(*crc) {
            return Err(BadBits("its checksum is wrong"));
        }
        Self::read(checked).ok_or(BadBits("a field is wrong"))
    }

    fn read(checked: &[u8]) -> Option<Self> {
        let mut fields = Fields(checked);
        if fields.array() != Some(MAGIC) || fields.u16() != Some(VERSION) {
            return None;
        }
        let size_state = match fields.array()? {
            [0, 0] => SizeState::Claimed,
            [1, 0] => SizeState::Verified,
            _ => return None,
        };
        let n_boundaries = fields.u32()?;
        let (hash, no, size) = (Hash::from_bytes(fields.array()?), FileNo(fields.u64()?), fields.u64()?);
        if fields.0.len() as u64 != u64::from(n_boundaries) * 8 {
            return None;
        }
        let boundaries = (0..n_boundaries).map(|_| fields.u64().map(ChunkNum)).collect::<Option<_>>()?;
        Some(Self { hash, no, size, size_state, ranges: ChunkRanges::new(boundaries)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(boundaries: &[u64]) -> Bits {
        let ranges = ChunkRanges::new(boundaries.iter().copied().map(ChunkNum).collect()).unwrap();
        Bits { hash: Hash::EMPTY, no: FileNo(6), size: 7, size_state: SizeState::Verified, ranges }
    }

    /// Changes bytes of a file and corrects its CRC.
    fn rewritten(bits: &Bits, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = bits.encode().unwrap();
        let end = out.len() - CRC;
        out[offset..offset + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&out[..end]);
        out[end..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    #[test]
    fn file_has_the_bytes_of_the_format() {
        let mut expected = b"BLOBBITS\x01\0\x01\0\x02\0\0\0".to_vec();
        expected.extend_from_slice(Hash::EMPTY.as_bytes());
        expected.extend_from_slice(b"\x06\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0");
        expected.extend_from_slice(b"\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0");
        let crc = crc32c::crc32c(&expected);
        expected.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(bits(&[0, 16]).encode().unwrap(), expected);
    }

    #[test]
    fn any_flipped_bit_is_damage() {
        let good = bits(&[0, 16, 32]).encode().unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Bits::decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn value_that_means_nothing_is_damage() {
        let good = bits(&[16, 32]);
        assert_eq!(Bits::decode(&rewritten(&good, 0, &[])), Ok(good.clone()));
        for (offset, bytes) in [
            (0, [b'X'].as_slice()),
            (8, &[2]),
            (10, &[2]),
            (11, &[1]),
            (12, &[1]),
            (12, &[3]),
            (12, &[255; 4]),
            (64, &[32]),
            (64, &[33]),
        ] {
            assert!(Bits::decode(&rewritten(&good, offset, bytes)).is_err(), "byte {offset}");
        }
    }

    #[test]
    fn too_many_ranges_are_neither_written_nor_read() {
        let boundaries: Vec<_> = (0..=MAX_BOUNDARIES as u64).collect();
        assert!(bits(&boundaries).encode().is_err());
        let most = bits(&boundaries[1..]).encode().unwrap();
        assert_eq!(most.len(), MAX_LEN);
        assert!(Bits::decode(&most).is_ok());
        let mut more = rewritten(&bits(&boundaries[1..]), 12, &2_000_001_u32.to_le_bytes());
        more.truncate(MAX_LEN - CRC);
        more.extend_from_slice(&u64::MAX.to_le_bytes());
        let crc = crc32c::crc32c(&more);
        more.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(Bits::decode(&more), Err(BadBits("it is too long")));
    }

    proptest! {
        #[test]
        fn files_come_back(
            hash in any::<[u8; 32]>(),
            (no, size, verified) in any::<(u64, u64, bool)>(),
            boundaries in prop::collection::btree_set(any::<u64>(), 0..50),
        ) {
            let boundaries: Vec<_> = boundaries.into_iter().collect();
            let size_state = if verified { SizeState::Verified } else { SizeState::Claimed };
            let (hash, no) = (Hash::from_bytes(hash), FileNo(no));
            let bits = Bits { hash, no, size, size_state, ..bits(&boundaries) };
            prop_assert_eq!(Bits::decode(&bits.encode().unwrap()), Ok(bits));
        }

        #[test]
        fn decoder_is_total(
            offset in 0..70_usize,
            patch in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let _ = Bits::decode(&rewritten(&bits(&[0, 16]), offset, &patch));
            let _ = Bits::decode(&patch);
        }
    }
}
