//! The bytes of segments, read and forged without the store's own code.

use std::{fs, ops::Range, path::Path};

pub(crate) const HEADER: usize = 4096;
pub(crate) const RECORD: usize = 80;
pub(crate) const SMALL: u8 = 1;
pub(crate) const DELETE: u8 = 5;
pub(crate) const TAG_SET: u8 = 6;
pub(crate) const TAG_DELETE: u8 = 7;
pub(crate) const MARK: u8 = 9;

/// A record as it lies in a segment.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    /// With the padding.
    pub(crate) range: Range<usize>,
    /// Where the padding starts.
    pub(crate) payload_end: usize,
    pub(crate) kind: u8,
    pub(crate) seq: u64,
}

/// The records of a segment that is whole.
pub(crate) fn records(segment: &Path) -> Vec<Raw> {
    let bytes = fs::read(segment).unwrap();
    let mut records = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let record = &bytes[at..];
        assert!(record.starts_with(b"BREC"));
        let payload = u32::from_le_bytes(record[56..60].try_into().unwrap()) as usize;
        let payload_end = at + RECORD + payload;
        let end = payload_end.next_multiple_of(8);
        let seq = u64::from_le_bytes(record[8..16].try_into().unwrap());
        records.push(Raw { range: at..end, payload_end, kind: record[4], seq });
        at = end;
    }
    records
}

/// What a segment is for: 1 log, 2 packed.
pub(crate) fn kind_of_segment(segment: &Path) -> u8 {
    fs::read(segment).unwrap()[12]
}

/// Changes the bytes of a file.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Appends a record of any kind, without payload, with the checks of this segment.
pub(crate) fn append_record(segment: &Path, kind: u8, seq: u64) {
    change(segment, |bytes| {
        let mut record = b"BREC".to_vec();
        record.extend([kind, 0, 0, 0]);
        record.extend(seq.to_le_bytes());
        record.resize(RECORD - 8, 0);
        let mut hasher = blake3::Hasher::new_keyed(bytes[40..72].try_into().unwrap());
        hasher.update(&bytes[32..36]).update(&(bytes.len() as u64).to_le_bytes()).update(&record);
        record.extend(&hasher.finalize().as_bytes()[..8]);
        bytes.extend(record);
    });
}

/// Gives a segment another version, with a header that is right otherwise.
pub(crate) fn set_version(segment: &Path, version: u16) {
    change(segment, |bytes| {
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        let check = blake3::hash(&bytes[..HEADER - 8]);
        bytes[HEADER - 8..HEADER].copy_from_slice(&check.as_bytes()[..8]);
    });
}
