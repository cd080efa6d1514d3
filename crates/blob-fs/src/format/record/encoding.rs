//! Appending records to what will be written.

use super::{HEADER_LEN, Header, Place, Record, Stamp, Unfit, encode_header, padded_len};
use crate::format::{MAX_PAYLOAD, RECORD_HEADER};

/// Appends a record to `out` and returns its padded length. Allocates nothing but room in `out`.
///
/// `place.offset` is where the record will start in the segment. On an error `out` is as it was.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    place: Place<'_>,
    record: &Record<'_>,
    stamp: Stamp,
) -> Result<u64, Unfit> {
    let payload_len = record.payload_len()?;
    let start = begin(out, payload_len);
    record.write_payload(out);
    let header = Header {
        kind: record.kind(),
        flags: stamp.flags,
        seq: stamp.seq,
        durable_seq: stamp.durable_seq,
        hash: record.hash(),
        payload_len,
        data_len: record.data_len(),
        kills: stamp.kills,
        payload_crc: 0, // filled in by `finish`
    };
    Ok(finish(out, start, place, header))
}

/// Appends a record that was read elsewhere, for compaction: as [`encode`], with kind, hash, lengths and flags of
/// `header` and the seq, `durable_seq` and `kills` it holds by then. The CRC is computed anew.
pub(crate) fn encode_copy(
    out: &mut Vec<u8>,
    place: Place<'_>,
    header: &Header,
    payload: &[u8],
) -> Result<u64, Unfit> {
    let payload_len =
        u32::try_from(payload.len()).ok().filter(|len| *len <= MAX_PAYLOAD).ok_or(Unfit("a payload"))?;
    let start = begin(out, payload_len);
    out.extend_from_slice(payload);
    Ok(finish(out, start, place, Header { payload_len, ..*header }))
}

/// Makes room for a record and leaves a gap for its header.
fn begin(out: &mut Vec<u8>, payload_len: u32) -> usize {
    let start = out.len();
    out.reserve(usize::try_from(padded_len(payload_len)).unwrap_or(0));
    out.resize(start + HEADER_LEN, 0);
    start
}

/// Fills the gap that `begin` left and pads.
fn finish(out: &mut Vec<u8>, start: usize, place: Place<'_>, mut header: Header) -> u64 {
    let padded = padded_len(header.payload_len);
    if let Some((gap, payload)) = out.get_mut(start..).and_then(|new| new.split_first_chunk_mut()) {
        header.payload_crc = crc32c::crc32c(payload);
        *gap = encode_header(place, &header);
    }
    let padding = padded - RECORD_HEADER - u64::from(header.payload_len);
    out.extend(std::iter::repeat_n(0, usize::try_from(padding).unwrap_or(0)));
    padded
}

#[cfg(test)]
mod tests {
    use blob_traits::Hash;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        format::record::{Body, CameFrom, FileIdentity, Flags, MAX_TAG_DELETES, decode_header, outboard_len},
        layout::FileNo,
    };

    const KEY: [u8; 32] = [7; 32];

    fn place(offset: u64) -> Place<'static> {
        Place { key: &KEY, segment: 3, offset }
    }

    fn encoded(record: &Record<'_>, stamp: Stamp) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, place(64), record, stamp).unwrap();
        out
    }

    /// Reads back what `encode` wrote at offset 64.
    fn decoded(bytes: &[u8]) -> (Header, Body, &[u8]) {
        let (head, rest) = bytes.split_first_chunk().unwrap();
        let header = decode_header(head, place(64)).unwrap();
        let (payload, padding) = rest.split_at(header.payload_len as usize);
        assert!(header.payload_matches(payload));
        assert!(padding.len() < 8 && padding.iter().all(|byte| *byte == 0));
        (header, Body::decode(&header, payload).unwrap(), payload)
    }

    /// A record as a reader sees it, and for a `Small` its payload.
    fn bodies() -> impl Strategy<Value = (Body, Vec<u8>)> {
        let no = any::<u64>().prop_map(FileNo);
        let from = prop::sample::select(vec![CameFrom::Temp, CameFrom::Partial, CameFrom::Data]);
        let name = prop::collection::vec(any::<u8>(), 0..40);
        let hash = any::<[u8; 32]>().prop_map(Hash::from_bytes);
        prop_oneof![
            prop::sample::select(vec![0_u32, 1, 7, 8, 16384, 16385, 40000]).prop_map(|data_len| {
                let len = u64::from(data_len) + outboard_len(data_len.into());
                (Body::Small { data_len }, (0..len).map(|i| (i % 251) as u8).collect())
            }),
            (any::<u64>(), no.clone(), from.clone())
                .prop_map(|(size, no, came_from)| (Body::Large { size, no, came_from }, Vec::new())),
            (any::<u64>(), no.clone(), prop::collection::vec(identities(), 1..=8))
                .prop_map(|(size, no, paths)| (Body::Referenced { size, no, paths }, Vec::new())),
            (no, from).prop_map(|(no, came_from)| (Body::PartialBegin { no, came_from }, Vec::new())),
            prop::collection::vec((hash, any::<u32>()), 0..5)
                .prop_map(|list| (Body::Delete(list), Vec::new())),
            (any::<u8>(), name.clone())
                .prop_map(|(format, name)| (Body::TagSet { format, name }, Vec::new())),
            prop::collection::vec((any::<u32>(), name), 0..5)
                .prop_map(|list| (Body::TagDelete(list), Vec::new())),
            (any::<u64>(), any::<u32>()).prop_map(|(count, crc)| (Body::PackEnd { count, crc }, Vec::new())),
            Just((Body::Mark, Vec::new())),
        ]
    }

    fn identities() -> impl Strategy<Value = FileIdentity> {
        let path = "/[a-z\u{e9}/]{0,30}";
        (path, any::<(u64, u64, u64, i64, i64, bool)>()).prop_map(
            |(path, (dev, ino, size, mtime_ns, ctime_ns, racy))| FileIdentity {
                path: path.into(),
                dev,
                ino,
                size,
                mtime_ns,
                ctime_ns,
                racy,
            },
        )
    }

    fn encode_body(hash: Hash, body: &Body, payload: &[u8], stamp: Stamp) -> Vec<u8> {
        match body {
            Body::Small { data_len } => {
                let (data, outboard) = payload.split_at(*data_len as usize);
                encoded(&Record::Small { hash, data, outboard }, stamp)
            }
            Body::Large { size, no, came_from } => {
                encoded(&Record::Large { hash, size: *size, no: *no, came_from: *came_from }, stamp)
            }
            Body::Referenced { size, no, paths } => {
                encoded(&Record::Referenced { hash, size: *size, no: *no, paths }, stamp)
            }
            Body::PartialBegin { no, came_from } => {
                encoded(&Record::PartialBegin { hash, no: *no, came_from: *came_from }, stamp)
            }
            Body::Delete(list) => encoded(&Record::Delete(list), stamp),
            Body::TagSet { format, name } => {
                encoded(&Record::TagSet { target: hash, format: *format, name }, stamp)
            }
            Body::TagDelete(list) => {
                let list: Vec<_> = list.iter().map(|(kills, name)| (*kills, name.as_slice())).collect();
                encoded(&Record::TagDelete(&list), stamp)
            }
            Body::PackEnd { count, crc } => encoded(&Record::PackEnd { count: *count, crc: *crc }, stamp),
            Body::Mark => encoded(&Record::Mark, stamp),
            Body::Unknown => unreachable!("nobody writes what nobody knows"),
        }
    }

    fn keyless(body: &Body) -> bool {
        matches!(body, Body::Delete(_) | Body::TagDelete(_) | Body::PackEnd { .. } | Body::Mark)
    }

    proptest! {
        #[test]
        fn records_come_back(
            (body, small) in bodies(),
            hash in any::<[u8; 32]>(),
            (seq, durable_seq, kills) in any::<(u64, u64, u32)>(),
            (more, unsynced) in any::<(bool, bool)>(),
        ) {
            let (hash, kills) = if keyless(&body) { ([0; 32], 0) } else { (hash, kills) };
            let stamp = Stamp { seq, durable_seq, kills, flags: Flags { more, unsynced } };
            let bytes = encode_body(Hash::from_bytes(hash), &body, &small, stamp);
            let (header, read, payload) = decoded(&bytes);
            prop_assert_eq!(bytes.len() as u64, header.padded_len());
            prop_assert_eq!(read, body);
            prop_assert!(small.is_empty() || small == payload);
            let Header { flags, hash: read_hash, .. } = header;
            let back = Stamp { seq: header.seq, durable_seq: header.durable_seq, kills: header.kills, flags };
            prop_assert_eq!((back, *read_hash.as_bytes()), (stamp, hash));
        }

        #[test]
        fn copies_say_the_same_elsewhere((body, small) in bodies(), seq in any::<u64>()) {
            let bytes = encode_body(Hash::from_bytes([0; 32]), &body, &small, Stamp { seq, ..Stamp::default() });
            let (header, _, payload) = decoded(&bytes);
            let mut out = vec![1, 2, 3, 4, 5, 6, 7, 8];
            let elsewhere = Place { key: &[9; 32], segment: 8, offset: 4096 };
            let len = encode_copy(&mut out, elsewhere, &header, payload).unwrap();
            prop_assert_eq!(len, bytes.len() as u64);
            prop_assert_eq!(decode_header(out[8..].first_chunk().unwrap(), elsewhere), Ok(header));
            prop_assert_eq!(&out[8 + HEADER_LEN..], &bytes[HEADER_LEN..]);
        }
    }

    #[test]
    fn what_the_reader_would_refuse_is_not_written() {
        let hash = Hash::EMPTY;
        let file = |path: &str| FileIdentity {
            path: path.into(),
            dev: 1,
            ino: 1,
            size: 1,
            mtime_ns: 1,
            ctime_ns: 1,
            racy: false,
        };
        let (no, size) = (FileNo::NONE, 1);
        let nine = vec![file("/a"); 9];
        let long = vec![0; 4097];
        let many = vec![(0, b"".as_slice()); MAX_TAG_DELETES + 1];
        let deletes = vec![(hash, 0); (MAX_PAYLOAD / 36) as usize + 1];
        let records = [
            Record::Small { hash, data: &vec![0; 16385], outboard: &[] },
            Record::Small { hash, data: &[0; 5], outboard: &[0; 64] },
            Record::Small { hash, data: &vec![0; MAX_PAYLOAD as usize], outboard: &vec![0; 1023 * 64] },
            Record::Referenced { hash, size, no, paths: &[] },
            Record::Referenced { hash, size, no, paths: &nine },
            Record::Referenced { hash, size, no, paths: &[file("")] },
            Record::Referenced { hash, size, no, paths: &[file("/a\0b")] },
            Record::Referenced { hash, size, no, paths: &[file(&"a".repeat(4097))] },
            Record::TagSet { target: hash, format: 0, name: &long },
            Record::TagDelete(&[(0, &long)]),
            Record::TagDelete(&many),
            Record::Delete(&deletes),
        ];
        for record in records {
            let mut out = vec![1];
            assert!(encode(&mut out, place(0), &record, Stamp::default()).is_err());
            assert_eq!(out, [1]);
        }
        let header = decoded(&encoded(&Record::Mark, Stamp::default())).0;
        let payload = vec![0; MAX_PAYLOAD as usize + 1];
        assert!(encode_copy(&mut Vec::new(), place(0), &header, &payload).is_err());
    }

    #[test]
    fn longest_records_come_back() {
        let longest = vec![b'x'; 4096];
        let names = vec![(1, longest.as_slice()); 4000];
        let bytes = encoded(&Record::TagDelete(&names), Stamp::default());
        assert_eq!(decoded(&bytes).0.payload_len, 4000 * (6 + 4096));
        let entries = vec![(Hash::EMPTY, 1); (MAX_PAYLOAD / 36) as usize];
        let bytes = encoded(&Record::Delete(&entries), Stamp::default());
        assert_eq!(decoded(&bytes).1, Body::Delete(entries));
    }
}
