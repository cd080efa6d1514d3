//! What a payload says.

use blob_traits::Hash;

use super::{
    CameFrom, Fields, FileIdentity, Header, MAX_TAG_DELETES, SKIPPABLE, kind, outboard_len,
    parts::{MAX_PATHS, read_short},
};
use crate::{format::MAX_TAG, layout::FileNo};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Kind 1. Payload: the data (the header's data length), then its outboard in pre-order over groups of 16 KiB
    /// (64 bytes for each group but one; nothing up to 16 KiB). The bytes stay in the payload.
    Small { data_len: u32 },
    /// Kind 2. Payload, 17 bytes: size u64, no u64, came_from u8 (1 temp, 2 partial, 3 data).
    Large { size: u64, no: FileNo, came_from: CameFrom },
    /// Kind 3. Payload: size u64, no u64 of the outboard (0 for none), count u8 (1 to 8), then for each file: device
    /// u64, inode u64, size u64, mtime i64, ctime i64 (both nanoseconds since 1970), racy u8 (0 or 1), path length
    /// u16 (1 to 4096), path.
    Referenced { size: u64, no: FileNo, paths: Vec<FileIdentity> },
    /// Kind 4. Payload, 9 bytes: no u64, came_from u8 as in kind 2; 3 says that the blob was demoted.
    PartialBegin { no: FileNo, came_from: CameFrom },
    /// Kind 5. Payload: for each blob hash 32 bytes, kills u32. Hash and kills of the header are zero.
    Delete(Vec<(Hash, u32)>),
    /// Kind 6. Payload: format u8, then the name, at most 4096 bytes. The header's hash is the target.
    TagSet { format: u8, name: Vec<u8> },
    /// Kind 7. Payload: for each tag kills u32, length u16 (at most 4096), name; at most 65,536 tags. Hash and kills
    /// of the header are zero.
    TagDelete(Vec<(u32, Vec<u8>)>),
    /// Kind 8. Payload, 12 bytes: number of records before this one u64, CRC-32C of their headers u32. Hash and
    /// kills of the header are zero.
    PackEnd { count: u64, crc: u32 },
    /// Kind 9. No payload. Hash and kills of the header are zero.
    Mark,
    /// Kind 128 and above: written by a newer version that lets us skip it (E16).
    Unknown,
}

/// A payload that is none of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of kind {kind} with a payload that is none")]
pub(crate) struct BadBody {
    pub(crate) kind: u8,
}

impl Body {
    /// Reads the payload of a record; total, and needs no more memory than the payload has bytes, roughly (E15).
    ///
    /// Does not compute the CRC: ask [`Header::payload_matches`].
    pub(crate) fn decode(header: &Header, payload: &[u8]) -> Result<Self, BadBody> {
        let mut fields = Fields(payload);
        let whole = payload.len() as u64 == u64::from(header.payload_len);
        Self::read(header, &mut fields)
            .filter(|_| whole && fields.is_empty())
            .ok_or(BadBody { kind: header.kind })
    }

    fn read(header: &Header, fields: &mut Fields<'_>) -> Option<Self> {
        match header.kind {
            kind::SMALL => {
                let data_len = u64::from(header.data_len);
                fields.take(usize::try_from(data_len + outboard_len(data_len)).ok()?)?;
                Some(Self::Small { data_len: header.data_len })
            }
            kind::LARGE => Some(Self::Large {
                size: fields.u64()?,
                no: FileNo(fields.u64()?),
                came_from: CameFrom::from_byte(fields.u8()?)?,
            }),
            kind::REFERENCED => {
                let (size, no) = (fields.u64()?, FileNo(fields.u64()?));
                let count = Some(usize::from(fields.u8()?)).filter(|n| (1..=MAX_PATHS).contains(n))?;
                let paths = (0..count).map(|_| FileIdentity::read(fields)).collect::<Option<_>>()?;
                Some(Self::Referenced { size, no, paths })
            }
            kind::PARTIAL_BEGIN => Some(Self::PartialBegin {
                no: FileNo(fields.u64()?),
                came_from: CameFrom::from_byte(fields.u8()?)?,
            }),
            kind::DELETE => read_deletes(fields),
            kind::TAG_SET => {
                let format = fields.u8()?;
                let name = fields.take(fields.0.len())?;
                (name.len() <= MAX_TAG).then(|| Self::TagSet { format, name: name.to_vec() })
            }
            kind::TAG_DELETE => read_tag_deletes(fields),
            kind::PACK_END => Some(Self::PackEnd { count: fields.u64()?, crc: fields.u32()? }),
            kind::MARK => Some(Self::Mark),
            kind if kind & SKIPPABLE != 0 => {
                fields.take(fields.0.len())?;
                Some(Self::Unknown)
            }
            _ => None,
        }
    }
}

fn read_deletes(fields: &mut Fields<'_>) -> Option<Body> {
    let mut entries = Vec::with_capacity(fields.0.len() / 36);
    while !fields.is_empty() {
        entries.push((Hash::from_bytes(fields.array()?), fields.u32()?));
    }
    Some(Body::Delete(entries))
}

fn read_tag_deletes(fields: &mut Fields<'_>) -> Option<Body> {
    let mut tags = Vec::new();
    while !fields.is_empty() {
        let kills = fields.u32()?;
        let name = read_short(fields).filter(|name| name.len() <= MAX_TAG)?;
        if tags.len() == MAX_TAG_DELETES {
            return None;
        }
        tags.push((kills, name.to_vec()));
    }
    Some(Body::TagDelete(tags))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::record::Flags;

    fn header(kind: u8, payload_len: usize) -> Header {
        Header {
            kind,
            flags: Flags::default(),
            seq: 1,
            durable_seq: 0,
            hash: Hash::from_bytes([0; 32]),
            payload_len: u32::try_from(payload_len).unwrap(),
            data_len: 0,
            kills: 0,
            payload_crc: 0,
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Body, BadBody> {
        Body::decode(&header(kind, payload.len()), payload)
    }

    #[test]
    fn payloads_have_the_bytes_of_the_format() {
        let large = b"\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x02";
        let (size, no, came_from) = (5, FileNo(6), CameFrom::Partial);
        assert_eq!(decode(kind::LARGE, large), Ok(Body::Large { size, no, came_from }));
        let begin = b"\x06\0\0\0\0\0\0\0\x03";
        assert_eq!(
            decode(kind::PARTIAL_BEGIN, begin),
            Ok(Body::PartialBegin { no, came_from: CameFrom::Data })
        );
        let tags = vec![(7, b"ab".to_vec()), (0, Vec::new())];
        assert_eq!(decode(kind::TAG_DELETE, b"\x07\0\0\0\x02\0ab\0\0\0\0\0\0"), Ok(Body::TagDelete(tags)));
        assert_eq!(decode(kind::TAG_SET, b"\x01ab"), Ok(Body::TagSet { format: 1, name: b"ab".to_vec() }));
        let end = b"\x02\0\0\0\0\0\0\0\x03\0\0\0";
        assert_eq!(decode(kind::PACK_END, end), Ok(Body::PackEnd { count: 2, crc: 3 }));
    }

    #[test]
    fn payload_with_a_byte_missing_or_too_many_is_none() {
        let one_path = [&[0; 16][..], &[1], &[0; 41], &[2, 0], b"/a"].concat();
        for (kind, good) in [
            (kind::LARGE, [&[0; 16][..], &[1]].concat()),
            (kind::REFERENCED, one_path),
            (kind::PARTIAL_BEGIN, [&[0; 8][..], &[1]].concat()),
            (kind::DELETE, vec![0; 36]),
            (kind::TAG_DELETE, vec![0, 0, 0, 0, 1, 0, b'a']),
            (kind::PACK_END, vec![0; 12]),
            (kind::MARK, Vec::new()),
        ] {
            assert!(decode(kind, &good).is_ok(), "{kind}");
            assert_eq!(decode(kind, &[&good[..], &[0]].concat()), Err(BadBody { kind }));
            if let Some((_, shorter)) = good.split_last() {
                assert_eq!(decode(kind, shorter), Err(BadBody { kind }));
                assert_eq!(Body::decode(&header(kind, good.len()), shorter), Err(BadBody { kind }));
            }
        }
        assert_eq!(decode(kind::TAG_SET, &[]), Err(BadBody { kind: kind::TAG_SET }));
    }

    #[test]
    fn value_that_means_nothing_is_none() {
        for byte in [0, 4] {
            assert!(decode(kind::LARGE, &[&[0; 16][..], &[byte]].concat()).is_err());
        }
        let path = |count: u8, racy: u8, path: &[u8]| {
            let len = u16::try_from(path.len()).unwrap().to_le_bytes();
            decode(kind::REFERENCED, &[&[0; 16][..], &[count], &[0; 40], &[racy], &len, path].concat())
        };
        assert!(path(1, 1, b"/a").is_ok());
        assert!(path(1, 2, b"/a").is_err());
        assert!(path(0, 0, b"/a").is_err());
        assert!(path(9, 0, b"/a").is_err());
        assert!(path(1, 0, b"").is_err());
        assert!(path(1, 0, b"/a\0b").is_err());
        assert!(path(1, 0, &[b'a'; 4097]).is_err());
        assert!(decode(kind::TAG_SET, &[0; 4098]).is_err());
        let too_many = vec![0; 6 * (MAX_TAG_DELETES + 1)];
        assert!(decode(kind::TAG_DELETE, &too_many).is_err());
        assert!(decode(kind::TAG_DELETE, &too_many[6..]).is_ok());
    }

    proptest! {
        #[test]
        fn reader_is_total(
            kind in prop_oneof![1..10_u8, any::<u8>()],
            payload in prop::collection::vec(prop_oneof![0..4_u8, any::<u8>()], 0..200),
            (data_len, payload_len) in any::<(Option<u32>, Option<u32>)>(),
        ) {
            let mut header = header(kind, payload.len());
            header.data_len = data_len.unwrap_or(header.payload_len);
            header.payload_len = payload_len.unwrap_or(header.payload_len);
            prop_assert_eq!(Body::decode(&header, &payload) == Ok(Body::Unknown), kind >= 0x80
                && header.payload_len as usize == payload.len());
        }
    }
}
