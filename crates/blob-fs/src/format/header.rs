//! The header of a segment (E10).
//!
//! A whole number of blocks of 4,096 bytes, at most 256. All integers are little endian; what is not listed is zero.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `BLOBSEG1` |
//! | 8 | 2 | version, 1 |
//! | 10 | 2 | length of the header in blocks of 4,096 bytes |
//! | 12 | 1 | kind: 1 log, 2 packed |
//! | 16 | 16 | store id |
//! | 32 | 4 | segment id |
//! | 40 | 32 | key |
//! | 72 | 8 | `base_seq` |
//! | 80 | 4 | log: `prev_id`, 0 for none |
//! | 88 | 8 | log: `prev_end` |
//! | 96 | 8 | log: `prev_last_seq` |
//! | 80 | 8 | packed: `built_at` |
//! | 88 | 4 | packed: number r of ids in `replaces` |
//! | 92 | 4 | packed: number h of ranges in `history` |
//! | 96 | 4r | packed: `replaces`, ascending |
//! | 96+4r | 8h | packed: `history`, ascending: first id u32, last id u32 |
//! | end-8 | 8 | first 8 bytes of BLAKE3 over all before |
//!
//! Magic, version, length and check keep their places in all versions. So a header of a newer version can be told
//! from a damaged one (E16).

use std::{io, ops::RangeInclusive};

use super::record::{Fields, Unfit, first8};
use crate::vfs::VfsFile;

/// The version of the format that this code reads and writes.
pub(crate) const VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"BLOBSEG1";
/// Headers are whole blocks of this.
pub(crate) const BLOCK: usize = 4096;
/// No header has more blocks.
const MAX_BLOCKS: usize = 256;
/// The bytes of the check at the end.
const CHECK: usize = 8;
/// Where the lists of a packed segment start.
const LISTS: usize = 96;

/// What a segment says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store_id: [u8; 16],
    /// The segment's id, from 1 up.
    pub(crate) segment: u32,
    /// What the checks of its records are keyed with (E12).
    pub(crate) key: [u8; 32],
    /// The seq of the first record (E14).
    pub(crate) base_seq: u64,
    pub(crate) role: SegmentRole,
}

/// What a segment is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentRole {
    /// Part of the log.
    Log {
        /// The log segment before it, 0 for none.
        prev_id: u32,
        /// Where that one ends; bytes after it are not part of the log (E11).
        prev_end: u64,
        /// The last seq in it.
        prev_last_seq: u64,
    },
    /// Written by compaction.
    Packed {
        /// The highest seq published when it was begun (E57).
        built_at: u64,
        /// The segments it takes the place of, ascending.
        replaces: Vec<u32>,
        /// All that those had in `replaces` and `history`, ascending, apart from each other.
        history: Vec<RangeInclusive<u32>>,
    },
}

/// Why bytes are no header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    /// Whole, and of a version that this code does not know (E16).
    #[error("a segment of version {found}, this program knows {VERSION}")]
    Unsupported {
        /// The version it has.
        found: u16,
    },
    /// Cut off, never written, or changed since.
    #[error("a damaged segment header: {0}")]
    Damaged(&'static str),
}

impl SegmentHeader {
    /// The length of the header: where the first record starts.
    pub(crate) fn len(&self) -> u64 {
        self.blocks() as u64 * BLOCK as u64
    }

    fn blocks(&self) -> usize {
        let lists = match &self.role {
            SegmentRole::Log { .. } => 8, // `prev_last_seq` reaches 8 bytes into the place of the lists
            SegmentRole::Packed { replaces, history, .. } => {
                replaces.len().saturating_mul(4).saturating_add(history.len().saturating_mul(8))
            }
        };
        lists.saturating_add(LISTS + CHECK).div_ceil(BLOCK)
    }

    /// Writes the header. Fails only where the lists of a packed segment do not fit a MiB.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Unfit> {
        let blocks = self.blocks();
        if blocks > MAX_BLOCKS {
            return Err(Unfit("the list of replaced segments"));
        }
        let mut out = Vec::with_capacity(blocks * BLOCK);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u16::try_from(blocks).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(&[self.kind(), 0, 0, 0]);
        out.extend_from_slice(&self.store_id);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.base_seq.to_le_bytes());
        self.role.write(&mut out);
        out.resize(blocks * BLOCK - CHECK, 0);
        let check = first8(blake3::hash(&out).as_bytes());
        out.extend_from_slice(&check);
        Ok(out)
    }

    const fn kind(&self) -> u8 {
        match self.role {
            SegmentRole::Log { .. } => 1,
            SegmentRole::Packed { .. } => 2,
        }
    }

    /// Reads the header off the start of a segment, of which `bytes` holds at least the header. Total.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let (version, len) = envelope(bytes)?;
        let whole = bytes.get(..len).ok_or(BadHeader::Damaged("it is cut off"))?;
        let (checked, check) =
            whole.split_last_chunk::<CHECK>().ok_or(BadHeader::Damaged("it is cut off"))?;
        if first8(blake3::hash(checked).as_bytes()) != *check {
            return Err(BadHeader::Damaged("its check is wrong"));
        }
        if version != VERSION {
            return Err(BadHeader::Unsupported { found: version });
        }
        let header = Self::read(checked).ok_or(BadHeader::Damaged("a field is wrong"))?;
        if header.len() == len as u64 { Ok(header) } else { Err(BadHeader::Damaged("its length is wrong")) }
    }

    fn read(checked: &[u8]) -> Option<Self> {
        let mut fields = Fields(checked);
        let _envelope: [u8; 12] = fields.array()?;
        let kind = fields.u8()?;
        let _zero: [u8; 3] = fields.array()?;
        let store_id = fields.array()?;
        let segment = fields.u32().filter(|id| *id != 0)?;
        let _zero: [u8; 4] = fields.array()?;
        let (key, base_seq) = (fields.array()?, fields.u64()?);
        let role = match kind {
            1 => SegmentRole::read_log(&mut fields, base_seq)?,
            2 => SegmentRole::read_packed(&mut fields, segment)?,
            _ => return None,
        };
        let prev_is_older = match role {
            SegmentRole::Log { prev_id, .. } => prev_id < segment,
            SegmentRole::Packed { .. } => true,
        };
        prev_is_older.then_some(Self { store_id, segment, key, base_seq, role })
    }

    /// Reads the header of an open segment.
    ///
    /// # Errors
    ///
    /// The outer error is the system's, the inner says what is wrong with the header.
    pub(crate) fn load(file: &dyn VfsFile) -> io::Result<Result<Self, BadHeader>> {
        let mut bytes = vec![0; BLOCK];
        if let Err(e) = file.read_exact_at(&mut bytes, 0) {
            return cut_off(e);
        }
        match envelope(&bytes) {
            Err(bad) => return Ok(Err(bad)),
            Ok((_, len)) => bytes.resize(len, 0),
        }
        if let Some(rest) = bytes.get_mut(BLOCK..)
            && let Err(e) = file.read_exact_at(rest, BLOCK as u64)
        {
            return cut_off(e);
        }
        Ok(Self::decode(&bytes))
    }
}

/// A file that ends inside its header is damaged, everything else is an error of the system.
fn cut_off<T>(e: io::Error) -> io::Result<Result<T, BadHeader>> {
    if e.kind() == io::ErrorKind::UnexpectedEof {
        Ok(Err(BadHeader::Damaged("it is cut off")))
    } else {
        Err(e)
    }
}

/// Version and length in bytes, which have their places in all versions.
fn envelope(bytes: &[u8]) -> Result<(u16, usize), BadHeader> {
    let mut fields = Fields(bytes);
    if fields.array() != Some(MAGIC) {
        return Err(BadHeader::Damaged("it does not start as one"));
    }
    let (Some(version), Some(blocks)) = (fields.u16(), fields.u16()) else {
        return Err(BadHeader::Damaged("it is cut off"));
    };
    let blocks = usize::from(blocks);
    if (1..=MAX_BLOCKS).contains(&blocks) {
        Ok((version, blocks * BLOCK))
    } else {
        Err(BadHeader::Damaged("its length is wrong"))
    }
}

impl SegmentRole {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Log { prev_id, prev_end, prev_last_seq } => {
                out.extend_from_slice(&prev_id.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&prev_end.to_le_bytes());
                out.extend_from_slice(&prev_last_seq.to_le_bytes());
            }
            Self::Packed { built_at, replaces, history } => {
                out.extend_from_slice(&built_at.to_le_bytes());
                for n in [replaces.len(), history.len()] {
                    out.extend_from_slice(&u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes());
                }
                for id in replaces {
                    out.extend_from_slice(&id.to_le_bytes());
                }
                for ids in history {
                    out.extend_from_slice(&ids.start().to_le_bytes());
                    out.extend_from_slice(&ids.end().to_le_bytes());
                }
            }
        }
    }

    fn read_log(fields: &mut Fields<'_>, base_seq: u64) -> Option<Self> {
        let prev_id = fields.u32()?;
        let _zero: [u8; 4] = fields.array()?;
        let (prev_end, prev_last_seq) = (fields.u64()?, fields.u64()?);
        // E14: seqs only rise, also across a gap between segments.
        (base_seq > prev_last_seq).then_some(Self::Log { prev_id, prev_end, prev_last_seq })
    }

    fn read_packed(fields: &mut Fields<'_>, segment: u32) -> Option<Self> {
        let built_at = fields.u64()?;
        let (n_replaces, n_history) = (fields.u32()?, fields.u32()?);
        // The header is a MiB at most, which bounds what may be reserved.
        let lists = usize::try_from(u64::from(n_replaces) * 4 + u64::from(n_history) * 8).ok()?;
        let mut lists = Fields(fields.take(lists)?);
        let replaces: Vec<u32> = (0..n_replaces).map(|_| lists.u32()).collect::<Option<_>>()?;
        let history: Vec<_> =
            (0..n_history).map(|_| Some(lists.u32()?..=lists.u32()?)).collect::<Option<_>>()?;
        let in_order = replaces.is_sorted_by(|a, b| a < b)
            && replaces.iter().all(|id| (1..segment).contains(id))
            && history.is_sorted_by(|a, b| a.end() < b.start())
            && history.iter().all(|ids| *ids.start() >= 1 && ids.start() <= ids.end());
        in_order.then_some(Self::Packed { built_at, replaces, history })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vfs::{RealVfs, Vfs};

    fn log() -> SegmentHeader {
        SegmentHeader {
            store_id: [1; 16],
            segment: 3,
            key: [2; 32],
            base_seq: 10,
            role: SegmentRole::Log { prev_id: 2, prev_end: 8192, prev_last_seq: 9 },
        }
    }

    fn packed(replaces: Vec<u32>, history: Vec<RangeInclusive<u32>>) -> SegmentHeader {
        SegmentHeader {
            segment: 1 << 30,
            role: SegmentRole::Packed { built_at: 9, replaces, history },
            ..log()
        }
    }

    /// Changes bytes of a header and corrects its check.
    fn rewritten(header: &SegmentHeader, offset: usize, bytes: &[u8]) -> Vec<u8> {
        let mut out = header.encode().unwrap();
        out[offset..offset + bytes.len()].copy_from_slice(bytes);
        let end = out.len() - CHECK;
        let check = first8(blake3::hash(&out[..end]).as_bytes());
        out[end..].copy_from_slice(&check);
        out
    }

    #[test]
    fn log_header_has_the_bytes_of_the_format() {
        let mut expected = b"BLOBSEG1\x01\0\x01\0\x01\0\0\0".to_vec();
        expected.extend_from_slice(&[1; 16]);
        expected.extend_from_slice(b"\x03\0\0\0\0\0\0\0");
        expected.extend_from_slice(&[2; 32]);
        expected
            .extend_from_slice(b"\x0a\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\x09\0\0\0\0\0\0\0");
        expected.resize(4088, 0);
        let check = blake3::hash(&expected);
        expected.extend_from_slice(&check.as_bytes()[..8]);
        assert_eq!(log().encode().unwrap(), expected);
        assert_eq!(log().len(), 4096);
    }

    #[test]
    fn lists_take_as_many_blocks_as_they_need() {
        // 96 bytes before the lists, 8 for the check.
        for (n, len) in [(0, 4096), (998, 4096), (999, 8192), (262_118, 1 << 20)] {
            let header = packed((1..=n).collect(), Vec::new());
            let bytes = header.encode().unwrap();
            assert_eq!((bytes.len(), header.len()), (len, len as u64));
            assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        }
        assert!(packed((1..=262_119).collect(), Vec::new()).encode().is_err());
    }

    #[test]
    fn newer_version_is_told_from_damage() {
        let newer = rewritten(&log(), 8, &[2, 0]);
        assert_eq!(SegmentHeader::decode(&newer), Err(BadHeader::Unsupported { found: 2 }));
        let mut flipped = log().encode().unwrap();
        flipped[8] = 2;
        assert!(matches!(SegmentHeader::decode(&flipped), Err(BadHeader::Damaged(_))));
    }

    #[test]
    fn any_changed_byte_is_damage() {
        let good = packed(vec![1, 2, 5], vec![3..=4]).encode().unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 0x10;
            assert!(matches!(SegmentHeader::decode(&bad), Err(BadHeader::Damaged(_))), "byte {index}");
        }
    }

    #[test]
    fn whole_header_that_contradicts_itself_is_damage() {
        let lists = packed(vec![1, 2, 5], vec![3..=4, 6..=6]);
        let empty = packed(Vec::new(), Vec::new());
        for bad in [
            rewritten(&log(), 10, &[2]),         // two blocks, of which one is there
            rewritten(&log(), 12, &[3]),         // kind
            rewritten(&empty, 32, &[0; 4]),      // segment 0
            rewritten(&log(), 80, &[3]),         // its own predecessor
            rewritten(&log(), 96, &[10]),        // seqs do not rise
            rewritten(&lists, 88, &[255; 4]),    // more ids than the header has room for
            rewritten(&lists, 96, &[0]),         // replaces segment 0
            rewritten(&lists, 96, &[2]),         // one twice
            rewritten(&lists, 96 + 15, &[0x80]), // history that ends before it begins
            rewritten(&lists, 96 + 20, &[4]),    // ranges that overlap
        ] {
            assert!(matches!(SegmentHeader::decode(&bad), Err(BadHeader::Damaged(_))));
        }
    }

    #[test]
    fn header_longer_than_its_lists_need_is_damage() {
        let mut bytes = log().encode().unwrap();
        bytes[10] = 2;
        bytes.resize(2 * BLOCK - CHECK, 0);
        let check = first8(blake3::hash(&bytes).as_bytes());
        bytes.extend_from_slice(&check);
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged("its length is wrong")));
    }

    #[test]
    fn header_is_loaded_from_a_file_and_a_short_file_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let header = packed((1..=5000).collect(), vec![7000..=8000]);
        let bytes = header.encode().unwrap();
        let file = RealVfs::default().create_new(&dir.path().join("segment")).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        assert_eq!(SegmentHeader::load(&*file).unwrap(), Ok(header));
        for len in [0, 11, 4095, 4096, bytes.len() as u64 - 1] {
            file.set_len(len).unwrap();
            assert!(matches!(SegmentHeader::load(&*file).unwrap(), Err(BadHeader::Damaged(_))), "{len}");
        }
    }

    proptest! {
        #[test]
        fn headers_come_back(
            (store_id, key) in any::<([u8; 16], [u8; 32])>(),
            base_seq in 1..u64::MAX,
            ids in prop::collection::btree_set(1..1000_u32, 0..50),
            (prev_end, is_log) in any::<(u64, bool)>(),
        ) {
            let role = if is_log {
                SegmentRole::Log { prev_id: 5, prev_end, prev_last_seq: base_seq - 1 }
            } else {
                let history = ids.iter().map(|id| id * 10..=id * 10 + 8).collect();
                SegmentRole::Packed { built_at: prev_end, replaces: ids.into_iter().collect(), history }
            };
            let header = SegmentHeader { store_id, segment: 5000, key, base_seq, role };
            let mut bytes = header.encode().unwrap();
            bytes.extend_from_slice(b"records");
            prop_assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        }

        #[test]
        fn decoder_is_total(offset in 8..200_usize, patch in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = SegmentHeader::decode(&rewritten(&packed(vec![1, 2], vec![3..=4]), offset, &patch));
            let _ = SegmentHeader::decode(&patch);
        }
    }
}
