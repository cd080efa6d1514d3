//! What the index keeps of a blob and of a tag.

use blob_traits::{BlobFormat, Hash, HashAndFormat};

use crate::{
    format::record::{CameFrom, outboard_len, padded_len},
    layout::FileNo,
};

/// Where a record starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

/// The state of a blob, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobState {
    /// Complete; data and outboard lie in the record.
    Small { size: u32 },
    /// Complete; data and outboard are files.
    Large { size: u64, no: FileNo },
    /// Complete; the data is a file of the user's, named in the record; the outboard is a file unless `no` is zero.
    Referenced { size: u64, no: FileNo },
    /// Partial; data, outboard and bits are files.
    Partial { no: FileNo, origin: Origin },
}

/// How a blob came to be partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has not been complete yet.
    Begun,
    /// It was demoted: it was complete, or had more.
    Demoted,
}

impl Origin {
    /// What a record says of it.
    pub(crate) fn of(came_from: CameFrom) -> Self {
        if came_from == CameFrom::Data { Self::Demoted } else { Self::Begun }
    }

    /// How it is said in a record.
    pub(crate) fn came_from(self) -> CameFrom {
        match self {
            Self::Begun => CameFrom::Partial,
            Self::Demoted => CameFrom::Data,
        }
    }
}

impl BlobState {
    /// The size of a complete blob.
    pub(crate) fn complete_size(self) -> Option<u64> {
        match self {
            Self::Small { size } => Some(u64::from(size)),
            Self::Large { size, .. } | Self::Referenced { size, .. } => Some(size),
            Self::Partial { .. } => None,
        }
    }

    /// Whether this is a partial blob in the files of this number.
    pub(crate) fn is_partial_in(self, number: FileNo) -> bool {
        matches!(self, Self::Partial { no, .. } if no == number)
    }

    /// The number of its files.
    pub(crate) fn file_no(self) -> Option<FileNo> {
        let no = match self {
            Self::Small { .. } => FileNo::NONE,
            Self::Large { no, .. } | Self::Referenced { no, .. } | Self::Partial { no, .. } => no,
        };
        (no != FileNo::NONE).then_some(no)
    }

    /// How many bytes the record takes in the log (E54).
    pub(crate) fn log_len(self) -> u64 {
        record_len(match self {
            Self::Small { size } => u64::from(size) + outboard_len(u64::from(size)),
            Self::Large { .. } => 17,
            Self::Referenced { .. } => REFERENCED,
            Self::Partial { .. } => 9,
        })
    }

    /// How many bytes the files of the store take for a complete blob.
    pub(crate) fn file_len(self) -> u64 {
        match self {
            Self::Large { size, .. } => size.saturating_add(outboard_len(size)),
            Self::Referenced { size, no } if no != FileNo::NONE => outboard_len(size),
            Self::Referenced { .. } | Self::Small { .. } | Self::Partial { .. } => 0,
        }
    }
}

/// The last record of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) seq: u64,
    pub(crate) place: Place,
    pub(crate) state: BlobState,
}

/// The last record of a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TagRow {
    pub(crate) seq: u64,
    pub(crate) place: Place,
    pub(crate) content: HashAndFormat,
}

/// The length of an encoded [`BlobRow`], and of an encoded [`TagRow`].
const BLOB_ROW: usize = 33;
const TAG_ROW: usize = 49;

/// What the payload of a referenced blob is taken to be long; the row does not know its paths.
const REFERENCED: u64 = 160;

fn record_len(payload: u64) -> u64 {
    padded_len(u32::try_from(payload).unwrap_or(u32::MAX))
}

impl BlobRow {
    /// The length of an encoded row.
    pub(crate) const LEN: usize = BLOB_ROW;

    /// Kind, seq, segment, offset, size, number; integers little endian.
    pub(crate) fn encode(&self) -> [u8; BLOB_ROW] {
        let (kind, size, no) = match self.state {
            BlobState::Small { size } => (1, u64::from(size), FileNo::NONE),
            BlobState::Large { size, no } => (2, size, no),
            BlobState::Referenced { size, no } => (3, size, no),
            BlobState::Partial { no, origin: Origin::Begun } => (4, 0, no),
            BlobState::Partial { no, origin: Origin::Demoted } => (5, 0, no),
        };
        let mut row = Writer::<BLOB_ROW>::default();
        row.put(&[kind]).put(&self.seq.to_le_bytes()).place(self.place);
        row.put(&size.to_le_bytes()).put(&no.0.to_le_bytes());
        row.bytes
    }

    /// `None` for bytes that no row encodes to.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader(bytes);
        let kind = row.array::<1>()?;
        let (seq, place) = (row.u64()?, row.place()?);
        let (size, no) = (row.u64()?, FileNo(row.u64()?));
        let state = match kind {
            [1] => BlobState::Small { size: size.try_into().ok()? },
            [2] => BlobState::Large { size, no },
            [3] => BlobState::Referenced { size, no },
            [4] => BlobState::Partial { no, origin: Origin::Begun },
            [5] => BlobState::Partial { no, origin: Origin::Demoted },
            _ => return None,
        };
        row.0.is_empty().then_some(Self { seq, place, state })
    }
}

impl TagRow {
    /// The length of an encoded row.
    pub(crate) const LEN: usize = TAG_ROW;

    /// How many bytes the record takes in the log (E54).
    pub(crate) fn log_len(name: usize) -> u64 {
        record_len(1 + name as u64)
    }

    /// Seq, segment, offset, format, hash.
    pub(crate) fn encode(&self) -> [u8; TAG_ROW] {
        let mut row = Writer::<TAG_ROW>::default();
        row.put(&self.seq.to_le_bytes()).place(self.place);
        row.put(&[u8::from(self.content.format.is_hash_seq())]).put(self.content.hash.as_bytes());
        row.bytes
    }

    /// `None` for bytes that no row encodes to.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader(bytes);
        let (seq, place) = (row.u64()?, row.place()?);
        let format = match row.array::<1>()? {
            [0] => BlobFormat::Raw,
            [1] => BlobFormat::HashSeq,
            _ => return None,
        };
        let hash = Hash::from_bytes(row.array()?);
        row.0.is_empty().then_some(Self { seq, place, content: HashAndFormat { hash, format } })
    }
}

/// Where the log ends as far as the index has it: the last record that is in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// The segment of the record, 0 while there is none.
    pub(crate) segment: u32,
    /// Where the record starts.
    pub(crate) start: u64,
    /// Where it ends, padding included.
    pub(crate) end: u64,
    pub(crate) seq: u64,
    /// The record's check.
    pub(crate) check: [u8; 8],
}

const CHECKPOINT: usize = 36;

impl Checkpoint {
    pub(crate) fn encode(&self) -> [u8; CHECKPOINT] {
        let mut row = Writer::<CHECKPOINT>::default();
        row.put(&self.segment.to_le_bytes()).put(&self.start.to_le_bytes()).put(&self.end.to_le_bytes());
        row.put(&self.seq.to_le_bytes()).put(&self.check);
        row.bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut row = Reader(bytes);
        let segment = u32::from_le_bytes(row.array()?);
        let (start, end, seq, check) = (row.u64()?, row.u64()?, row.u64()?, row.array()?);
        row.0.is_empty().then_some(Self { segment, start, end, seq, check })
    }
}

struct Writer<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Writer<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Writer<N> {
    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.len += bytes.len();
        debug_assert!(self.len <= N);
        self
    }

    fn place(&mut self, place: Place) -> &mut Self {
        self.put(&place.segment.to_le_bytes()).put(&place.offset.to_le_bytes())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { segment: u32::from_le_bytes(self.array()?), offset: u32::from_le_bytes(self.array()?) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = BlobState> {
        prop_oneof![
            any::<u32>().prop_map(|size| BlobState::Small { size }),
            any::<(u64, u64)>().prop_map(|(size, no)| BlobState::Large { size, no: FileNo(no) }),
            any::<(u64, u64)>().prop_map(|(size, no)| BlobState::Referenced { size, no: FileNo(no) }),
            (any::<u64>(), prop::sample::select(vec![Origin::Begun, Origin::Demoted]))
                .prop_map(|(no, origin)| BlobState::Partial { no: FileNo(no), origin }),
        ]
    }

    proptest! {
        #[test]
        fn rows_come_back(seq: u64, segment: u32, offset: u32, state in state(), hash: [u8; 32], seq_format: bool) {
            let place = Place { segment, offset };
            let row = BlobRow { seq, place, state };
            prop_assert_eq!(BlobRow::decode(&row.encode()), Some(row));
            let format = if seq_format { BlobFormat::HashSeq } else { BlobFormat::Raw };
            let row = TagRow { seq, place, content: HashAndFormat { hash: hash.into(), format } };
            prop_assert_eq!(TagRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(row) = BlobRow::decode(&bytes) {
                prop_assert_eq!(&row.encode()[..], &bytes[..]);
            }
            if let Some(row) = TagRow::decode(&bytes) {
                prop_assert_eq!(&row.encode()[..], &bytes[..]);
            }
            if let Some(row) = Checkpoint::decode(&bytes) {
                prop_assert_eq!(&row.encode()[..], &bytes[..]);
            }
        }
    }
}
