//! Records of the log (E12, E13): what they say, and their headers.
//!
//! A record is a header of 80 bytes, its payload, and zeros up to the next multiple of 8. All integers are little
//! endian. The header:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | magic `BREC` |
//! | 4 | 1 | kind; bit 7 set: a reader that does not know the kind may skip the record |
//! | 5 | 1 | flags: 1 MORE, 2 UNSYNCED |
//! | 6 | 2 | zero |
//! | 8 | 8 | seq |
//! | 16 | 8 | `durable_seq` |
//! | 24 | 32 | hash; the target in a `TagSet`; zero in `Delete`, `TagDelete`, `PackEnd`, `Mark` |
//! | 56 | 4 | payload length, at most 16 MiB |
//! | 60 | 4 | data length in a `Small`, else zero |
//! | 64 | 4 | `kills`; zero in `Delete`, `TagDelete`, `PackEnd`, `Mark` |
//! | 68 | 4 | CRC-32C of the payload |
//! | 72 | 8 | first 8 bytes of keyed BLAKE3, key = the segment's, over segment id u32, offset u64, bytes 0..72 |
//!
//! The payloads are described at [`Body`].

mod encoding;
mod fields;
mod parts;
mod reading;
mod writing;

use blob_traits::Hash;

pub(crate) use self::{
    encoding::{encode, encode_copy},
    fields::Fields,
    parts::{CameFrom, FileIdentity, MAX_PATH, MAX_TAG_DELETES, outboard_len},
    reading::Body,
    writing::Record,
};
use super::{ALIGN, MAX_PAYLOAD, RECORD_HEADER};

/// [`RECORD_HEADER`] as a length in memory.
pub(crate) const HEADER_LEN: usize = 80;
/// The length of a PackEnd in the log.
pub(crate) const PACK_END_LEN: u64 = 96;
/// The first bytes of every record.
pub(crate) const MAGIC: [u8; 4] = *b"BREC";
/// Set in kinds that a reader may skip without knowing them (E16).
const SKIPPABLE: u8 = 0x80;

/// The numbers of the kinds (E13).
pub(crate) mod kind {
    pub(crate) const SMALL: u8 = 1;
    pub(crate) const LARGE: u8 = 2;
    pub(crate) const REFERENCED: u8 = 3;
    pub(crate) const PARTIAL_BEGIN: u8 = 4;
    pub(crate) const DELETE: u8 = 5;
    pub(crate) const TAG_SET: u8 = 6;
    pub(crate) const TAG_DELETE: u8 = 7;
    pub(crate) const PACK_END: u8 = 8;
    pub(crate) const MARK: u8 = 9;
}

/// The flags of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// The transaction goes on with the next record (E17).
    pub(crate) more: bool,
    /// The files of this record may not be durable (E44).
    pub(crate) unsynced: bool,
}

impl Flags {
    const MORE: u8 = 1;
    const UNSYNCED: u8 = 2;

    fn to_byte(self) -> u8 {
        (u8::from(self.more) * Self::MORE) | (u8::from(self.unsynced) * Self::UNSYNCED)
    }

    fn from_byte(byte: u8) -> Self {
        Self { more: byte & Self::MORE != 0, unsynced: byte & Self::UNSYNCED != 0 }
    }
}

/// The place of a record, which its check is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// The key of the segment.
    pub(crate) key: &'a [u8; 32],
    /// The id of the segment.
    pub(crate) segment: u32,
    /// Where in the segment the record starts.
    pub(crate) offset: u64,
}

impl Place<'_> {
    /// The keyed check of a header (E12): the first 72 bytes are what counts.
    fn check(&self, header: &[u8; HEADER_LEN]) -> [u8; 8] {
        let [checked @ .., _, _, _, _, _, _, _, _] = header;
        let mut hasher = blake3::Hasher::new_keyed(self.key);
        hasher.update(&self.segment.to_le_bytes()).update(&self.offset.to_le_bytes()).update(checked);
        first8(hasher.finalize().as_bytes())
    }
}

/// What a record carries apart from what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) seq: u64,
    /// The highest seq known durable when this was written.
    pub(crate) durable_seq: u64,
    /// The segment of the record of the same key that this one makes dead, 0 for none (E56).
    pub(crate) kills: u32,
    pub(crate) flags: Flags,
}

/// A record's header, without magic and check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: Flags,
    pub(crate) seq: u64,
    pub(crate) durable_seq: u64,
    pub(crate) hash: Hash,
    pub(crate) payload_len: u32,
    pub(crate) data_len: u32,
    pub(crate) kills: u32,
    pub(crate) payload_crc: u32,
}

/// Why 80 bytes are no header of a record at their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHeader {
    /// Nothing of ours at this place: torn, damaged, or somebody's data.
    #[error("no record")]
    NotARecord,
    /// Ours, but a field has a value that it cannot have.
    #[error("a record whose {0} is wrong")]
    Field(&'static str),
    /// Ours, of a kind that must not be skipped and that this version does not know (E16).
    #[error("a record of unknown kind {0}")]
    UnknownKind(u8),
    /// Ours, with a flag that this version does not know (E16).
    #[error("a record with unknown flags {0:#04x}")]
    UnknownFlags(u8),
}

impl BadHeader {
    /// Whether a newer version wrote this, as opposed to damage.
    pub(crate) fn is_unsupported(self) -> bool {
        matches!(self, Self::UnknownKind(_) | Self::UnknownFlags(_))
    }
}

/// What does not fit the limits of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be recorded: {0} is not within the limits")]
pub(crate) struct Unfit(pub(crate) &'static str);

/// The length of a record in the log: header, payload, padding.
pub(crate) fn padded_len(payload_len: u32) -> u64 {
    (RECORD_HEADER + u64::from(payload_len)).next_multiple_of(ALIGN)
}

/// Writes a header with magic and check.
pub(crate) fn encode_header(place: Place<'_>, header: &Header) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    let mut rest = &mut bytes[..];
    let mut put = |field: &[u8]| {
        if let Some((into, after)) = std::mem::take(&mut rest).split_at_mut_checked(field.len()) {
            into.copy_from_slice(field);
            rest = after;
        }
    };
    put(&MAGIC);
    put(&[header.kind, header.flags.to_byte(), 0, 0]);
    put(&header.seq.to_le_bytes());
    put(&header.durable_seq.to_le_bytes());
    put(header.hash.as_bytes());
    put(&header.payload_len.to_le_bytes());
    put(&header.data_len.to_le_bytes());
    put(&header.kills.to_le_bytes());
    put(&header.payload_crc.to_le_bytes());
    let check = place.check(&bytes);
    if let Some(last) = bytes.last_chunk_mut() {
        *last = check;
    }
    bytes
}

/// Reads a header and checks everything about it that needs nothing else.
pub(crate) fn decode_header(bytes: &[u8; HEADER_LEN], place: Place<'_>) -> Result<Header, BadHeader> {
    if !bytes.starts_with(&MAGIC) || bytes.last_chunk() != Some(&place.check(bytes)) {
        return Err(BadHeader::NotARecord);
    }
    let mut fields = Fields(bytes.as_slice());
    let header = read_fields(&mut fields).ok_or(BadHeader::NotARecord)?;
    let (header, flags, reserved) = header;
    let skippable = header.kind & SKIPPABLE != 0;
    let known = (kind::SMALL..=kind::MARK).contains(&header.kind);
    if !known && !skippable {
        return Err(BadHeader::UnknownKind(header.kind));
    }
    if flags & !(Flags::MORE | Flags::UNSYNCED) != 0 && !skippable {
        return Err(BadHeader::UnknownFlags(flags));
    }
    let keyless = matches!(header.kind, kind::DELETE | kind::TAG_DELETE | kind::PACK_END | kind::MARK);
    let zero_hash = *header.hash.as_bytes() == [0; 32];
    let data_len = u64::from(header.data_len);
    let data_fits = match header.kind {
        kind::SMALL => u64::from(header.payload_len) == data_len + outboard_len(data_len),
        _ => skippable || data_len == 0,
    };
    for (ok, field) in [
        (header.payload_len <= MAX_PAYLOAD, "payload length"),
        (skippable || reserved == 0, "reserved field"),
        (data_fits, "data length"),
        (!keyless || zero_hash, "hash"),
        (!keyless || header.kills == 0, "kills"),
    ] {
        if !ok {
            return Err(BadHeader::Field(field));
        }
    }
    Ok(header)
}

fn read_fields(fields: &mut Fields<'_>) -> Option<(Header, u8, u16)> {
    let _magic: [u8; 4] = fields.array()?;
    let (kind, flags, reserved) = (fields.u8()?, fields.u8()?, fields.u16()?);
    let header = Header {
        kind,
        flags: Flags::from_byte(flags),
        seq: fields.u64()?,
        durable_seq: fields.u64()?,
        hash: Hash::from_bytes(fields.array()?),
        payload_len: fields.u32()?,
        data_len: fields.u32()?,
        kills: fields.u32()?,
        payload_crc: fields.u32()?,
    };
    Some((header, flags, reserved))
}

impl Header {
    /// Whether these are the bytes that were recorded.
    pub(crate) fn payload_matches(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.payload_len) && crc32c::crc32c(payload) == self.payload_crc
    }

    /// The length of the whole record in the log.
    pub(crate) fn padded_len(&self) -> u64 {
        padded_len(self.payload_len)
    }
}

/// The first 8 of 32 bytes.
pub(crate) fn first8(bytes: &[u8; 32]) -> [u8; 8] {
    bytes.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const PLACE: Place<'_> = Place { key: &KEY, segment: 3, offset: 4096 };

    fn header() -> Header {
        Header {
            kind: kind::TAG_SET,
            flags: Flags { more: true, unsynced: false },
            seq: 0x0102_0304_0506_0708,
            durable_seq: 9,
            hash: Hash::EMPTY,
            payload_len: 5,
            data_len: 0,
            kills: 2,
            payload_crc: 0xdead_beef,
        }
    }

    #[test]
    fn header_has_the_bytes_of_the_format() {
        let bytes = encode_header(PLACE, &header());
        let mut expected = Vec::new();
        expected.extend_from_slice(b"BREC\x06\x01\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x09\0\0\0\0\0\0\0");
        expected.extend_from_slice(Hash::EMPTY.as_bytes());
        expected.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x02\0\0\0\xef\xbe\xad\xde");
        let mut checked = b"\x03\0\0\0\0\x10\0\0\0\0\0\0".to_vec();
        checked.extend_from_slice(&expected);
        expected.extend_from_slice(&blake3::keyed_hash(&KEY, &checked).as_bytes()[..8]);
        assert_eq!(bytes.as_slice(), expected);
        assert_eq!(decode_header(&bytes, PLACE), Ok(header()));
    }

    #[test]
    fn header_counts_at_its_place_alone() {
        let bytes = encode_header(PLACE, &header());
        for place in
            [Place { offset: 4104, ..PLACE }, Place { segment: 4, ..PLACE }, Place { key: &[8; 32], ..PLACE }]
        {
            assert_eq!(decode_header(&bytes, place), Err(BadHeader::NotARecord));
        }
    }

    #[test]
    fn header_with_any_bit_flipped_is_no_record() {
        let bytes = encode_header(PLACE, &header());
        for bit in 0..HEADER_LEN * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode_header(&flipped, PLACE), Err(BadHeader::NotARecord), "bit {bit}");
        }
    }

    #[test]
    fn unknown_kind_is_refused_unless_it_may_be_skipped() {
        for kind in [0, 10, 0x7f] {
            let bytes = encode_header(PLACE, &Header { kind, ..header() });
            assert_eq!(decode_header(&bytes, PLACE), Err(BadHeader::UnknownKind(kind)));
        }
        for kind in [0x80, 0x85, 0xff] {
            let unknown = Header { kind, data_len: 3, ..header() };
            assert_eq!(decode_header(&encode_header(PLACE, &unknown), PLACE), Ok(unknown));
        }
    }

    /// Writes a header whose raw byte 5, 6 or 7 no encoder would write, with the right check.
    fn with_raw(index: usize, byte: u8, header: &Header) -> [u8; HEADER_LEN] {
        let mut bytes = encode_header(PLACE, header);
        bytes[index] = byte;
        let check = PLACE.check(&bytes);
        bytes[72..].copy_from_slice(&check);
        bytes
    }

    #[test]
    fn unknown_flag_is_refused_unless_the_record_may_be_skipped() {
        let known = with_raw(5, 0x04, &header());
        assert_eq!(decode_header(&known, PLACE), Err(BadHeader::UnknownFlags(4)));
        assert!(BadHeader::UnknownFlags(4).is_unsupported());
        let skippable = with_raw(5, 0x05, &Header { kind: 0x80, ..header() });
        assert!(decode_header(&skippable, PLACE).unwrap().flags.more);
    }

    #[test]
    fn field_out_of_its_limits_is_refused() {
        let zero = Hash::from_bytes([0; 32]);
        let small = Header { kind: kind::SMALL, data_len: 5, ..header() };
        let delete = Header { kind: kind::DELETE, hash: zero, kills: 0, payload_len: 36, ..header() };
        assert!(decode_header(&encode_header(PLACE, &small), PLACE).is_ok());
        assert!(decode_header(&encode_header(PLACE, &delete), PLACE).is_ok());
        for (bad, field) in [
            (Header { payload_len: MAX_PAYLOAD + 1, ..header() }, "payload length"),
            (Header { data_len: 1, ..header() }, "data length"),
            (Header { data_len: 4, ..small }, "data length"),
            (Header { data_len: u32::MAX, ..small }, "data length"),
            (Header { hash: Hash::EMPTY, ..delete }, "hash"),
            (Header { kills: 1, ..delete }, "kills"),
        ] {
            assert_eq!(decode_header(&encode_header(PLACE, &bad), PLACE), Err(BadHeader::Field(field)));
        }
        assert_eq!(decode_header(&with_raw(7, 1, &header()), PLACE), Err(BadHeader::Field("reserved field")));
    }

    proptest! {
        #[test]
        fn decoder_is_total(mut bytes in any::<[u8; 32]>(), (kind, valid) in any::<(u8, bool)>()) {
            let mut record = [0; HEADER_LEN];
            bytes[4] = kind;
            record[..32].copy_from_slice(&bytes);
            record[48..].copy_from_slice(&bytes);
            if valid {
                record[..4].copy_from_slice(&MAGIC);
                let check = PLACE.check(&record);
                record[72..].copy_from_slice(&check);
            }
            if let Ok(header) = decode_header(&record, PLACE) {
                prop_assert!(valid);
                prop_assert!(kind >= 0x80 || encode_header(PLACE, &header) == record);
            }
        }
    }
}
