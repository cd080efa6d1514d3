//! Reading a segment from some record on: transactions, damage, and where the log ends (E63, E68).

mod window;

use std::{io, ops::Range};

use self::window::Window;
use super::{
    ALIGN, MAX_TXN, RECORD_HEADER,
    header::SegmentHeader,
    record::{BadHeader, Body, HEADER_LEN, Header, Place, decode_header, kind},
};
use crate::vfs::VfsFile;

/// Where reading starts, and with which seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanFrom {
    pub(crate) offset: u64,
    pub(crate) next_seq: u64,
}

/// What is known about the segment from elsewhere.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScanLimits {
    /// Where it ends, by its successor (`prev_end`) or as a sealed segment: anything invalid before is damage.
    pub(crate) known_end: Option<u64>,
    /// All seqs up to this one have been durable (E63).
    pub(crate) checkpoint_seq: u64,
    pub(crate) seqs: SeqRule,
    pub(crate) small: SmallPayloads,
}

/// How seqs go on from record to record (E14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeqRule {
    /// By exactly one: log segments.
    Consecutive,
    /// Upwards: packed segments.
    Ascending,
}

impl SeqRule {
    fn allows(self, due: u64, seq: u64) -> bool {
        match self {
            Self::Consecutive => seq == due,
            Self::Ascending => seq >= due,
        }
    }
}

/// Whether the bytes of small blobs are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SmallPayloads {
    /// Read, checked against the CRC, and handed on.
    Read,
    /// Neither read nor checked (E64).
    Skip,
}

/// What a scan meets, in the order of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    /// Records to be applied together (E17).
    Transaction(Transaction),
    /// Bytes that hold no readable record, or a transaction with a part missing.
    Damage(Damage),
}

/// A whole transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transaction {
    /// At least one.
    pub(crate) records: Vec<ScannedRecord>,
    /// Where the next record starts.
    pub(crate) end: u64,
    /// It is the first after damage, so its beginning may be missing.
    pub(crate) follows_damage: bool,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScannedRecord {
    pub(crate) offset: u64,
    pub(crate) header: Header,
    pub(crate) body: Body,
    /// The payload of a `Small` that was read, data and outboard; empty for all others.
    pub(crate) payload: Vec<u8>,
}

/// A damaged range of a segment (E68).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Empty where seqs are missing and no bytes.
    pub(crate) range: Range<u64>,
    /// The first seq that is missing.
    pub(crate) first_seq: u64,
    /// The seq of the record that follows, if one does.
    pub(crate) next_seq: Option<u64>,
}

/// Where and why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScanEnd {
    /// The offset after the last whole transaction.
    pub(crate) end: u64,
    /// The seq of the last record of that transaction; one less than the first due where there was none.
    pub(crate) last_seq: u64,
    pub(crate) reason: EndReason,
    /// How many damaged ranges were reported.
    pub(crate) n_damaged: u64,
}

/// Why a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// At the known end, or at the end of the file.
    Clean,
    /// At a write that had not been finished: bytes from `end` on are not part of the log (E63).
    Torn,
    /// In damage that reaches to the end.
    Damaged,
}

/// Why a scan could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    /// The segment could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A newer version wrote this (E16).
    #[error("at offset {offset}: {cause}")]
    Unsupported { offset: u64, cause: BadHeader },
}

/// Reads a segment and hands on what is in it, in order.
///
/// Of the file, one transaction and a window of a MiB (or one payload) are in memory at a time.
pub(crate) fn scan<E: From<ScanError>>(
    file: &dyn VfsFile,
    segment: &SegmentHeader,
    from: ScanFrom,
    limits: ScanLimits,
    visit: &mut dyn FnMut(Scanned) -> Result<(), E>,
) -> Result<ScanEnd, E> {
    let len = file.stat().map_err(ScanError::from)?.size;
    let readable = limits.known_end.map_or(len, |end| end.min(len));
    let mut scanner = Scanner { window: Window::new(file, readable), segment, limits };
    let mut at = Position::new(from);
    loop {
        if at.offset == limits.known_end.unwrap_or(len) && at.open.is_empty() {
            return Ok(at.end(EndReason::Clean));
        }
        let proven = match scanner.due(&at)? {
            Due::Record(record) => {
                if let Some(transaction) = at.push(*record) {
                    visit(Scanned::Transaction(transaction))?;
                }
                continue;
            }
            Due::Missing => scanner.must_exist(&at),
            Due::Nonsense => true,
        };
        let found = scanner.search(&at, proven)?;
        if !found.proves_damage {
            return Ok(at.end(EndReason::Torn));
        }
        let end = found.next.map_or(limits.known_end.unwrap_or(len), |next| next.offset);
        visit(Scanned::Damage(at.skip(end, found.next)))?;
        if found.next.is_none() {
            return Ok(at.end(EndReason::Damaged));
        }
    }
}

fn place(segment: &SegmentHeader, offset: u64) -> Place<'_> {
    Place { key: &segment.key, segment: segment.segment, offset }
}

/// How far a scan has come.
#[derive(Debug)]
struct Position {
    /// Where the next record is due, and its seq.
    offset: u64,
    due: u64,
    /// Where the open transaction starts, and its first seq.
    whole: u64,
    whole_due: u64,
    open: Vec<ScannedRecord>,
    follows_damage: bool,
    n_damaged: u64,
}

impl Position {
    fn new(from: ScanFrom) -> Self {
        let ScanFrom { offset, next_seq } = from;
        Self {
            offset,
            due: next_seq,
            whole: offset,
            whole_due: next_seq,
            open: Vec::new(),
            follows_damage: false,
            n_damaged: 0,
        }
    }

    /// Goes past a record, and returns the transaction if that ends with it.
    fn push(&mut self, record: ScannedRecord) -> Option<Transaction> {
        let Header { flags, seq, .. } = record.header;
        self.offset = record.offset.saturating_add(record.header.padded_len());
        self.due = seq.saturating_add(1);
        self.open.push(record);
        if flags.more {
            return None;
        }
        (self.whole, self.whole_due) = (self.offset, self.due);
        let records = std::mem::take(&mut self.open);
        let follows_damage = std::mem::take(&mut self.follows_damage);
        Some(Transaction { records, end: self.offset, follows_damage })
    }

    /// Goes past damage. An open transaction is lost with it: it is applied whole or not at all.
    fn skip(&mut self, end: u64, next: Option<Found>) -> Damage {
        let damage = Damage {
            range: self.whole..end.max(self.whole),
            first_seq: self.whole_due,
            next_seq: next.map(|found| found.seq),
        };
        self.open.clear();
        self.n_damaged += 1;
        self.follows_damage = true;
        if let Some(Found { offset, seq }) = next {
            (self.offset, self.due) = (offset, seq);
            (self.whole, self.whole_due) = (offset, seq);
        }
        damage
    }

    fn end(&self, reason: EndReason) -> ScanEnd {
        let last_seq = self.whole_due.saturating_sub(1);
        ScanEnd { end: self.whole, last_seq, reason, n_damaged: self.n_damaged }
    }

    /// Whether a record of this length still fits the open transaction.
    fn has_room(&self, padded_len: u64) -> bool {
        self.open.is_empty() || self.offset - self.whole + padded_len <= MAX_TXN
    }
}

/// What is at the place where a record is due.
#[derive(Debug)]
enum Due {
    Record(Box<ScannedRecord>),
    /// No valid record that may follow.
    Missing,
    /// A record with the right checks and a payload that means nothing. No torn write looks like that.
    Nonsense,
}

/// A valid record that was come upon while searching.
#[derive(Clone, Copy, Debug)]
struct Found {
    offset: u64,
    seq: u64,
}

/// What a search brought to light.
#[derive(Clone, Copy, Debug)]
struct SearchResult {
    /// The next record that may follow in the log.
    next: Option<Found>,
    /// What is missing has been durable.
    proves_damage: bool,
}

#[derive(Debug)]
struct Scanner<'a> {
    window: Window<'a>,
    segment: &'a SegmentHeader,
    limits: ScanLimits,
}

impl Scanner<'_> {
    /// Reads the record that is due.
    fn due(&mut self, at: &Position) -> Result<Due, ScanError> {
        let Some(header) = self.header(at.offset)?.filter(|header| self.may_follow(at, header)) else {
            return Ok(Due::Missing);
        };
        let offset = at.offset;
        if self.window.end() - offset < header.padded_len() {
            return Ok(Due::Missing);
        }
        if header.kind == kind::SMALL && self.limits.small == SmallPayloads::Skip {
            let body = Body::Small { data_len: header.data_len };
            return Ok(Due::Record(Box::new(ScannedRecord { offset, header, body, payload: Vec::new() })));
        }
        let payload = self.window.get(offset + RECORD_HEADER, header.payload_len as usize)?;
        let Some(payload) = payload.filter(|payload| header.payload_matches(payload)) else {
            return Ok(Due::Missing);
        };
        let Ok(body) = Body::decode(&header, payload) else { return Ok(Due::Nonsense) };
        let payload = if header.kind == kind::SMALL { payload.to_vec() } else { Vec::new() };
        Ok(Due::Record(Box::new(ScannedRecord { offset, header, body, payload })))
    }

    /// Whether a record continues the log and the open transaction.
    fn may_follow(&self, at: &Position, header: &Header) -> bool {
        self.limits.seqs.allows(at.due, header.seq) && at.has_room(header.padded_len())
    }

    /// Reads the header at `offset`; `None`: there is none.
    fn header(&mut self, offset: u64) -> Result<Option<Header>, ScanError> {
        let bytes = self.window.get(offset, HEADER_LEN)?;
        match bytes.and_then(<[u8]>::first_chunk) {
            Some(bytes) => valid_header(bytes, self.segment, offset),
            None => Ok(None),
        }
    }

    /// Whether the missing record has been durable, by what is known without searching.
    fn must_exist(&self, at: &Position) -> bool {
        self.limits.known_end.is_some() || at.whole_due <= self.limits.checkpoint_seq
    }

    /// Looks for valid records after the place where none was (E63).
    fn search(&mut self, at: &Position, proven: bool) -> Result<SearchResult, ScanError> {
        let mut result = SearchResult { next: None, proves_damage: proven };
        // What is here may itself be valid, and merely not the one that is due.
        if let Some(header) = self.header(at.offset)? {
            result.note(at, &header, at.offset, !self.may_follow(at, &header));
        }
        let mut from = at.offset.checked_add(1).and_then(|offset| offset.checked_next_multiple_of(ALIGN));
        while let Some(offset) = from
            && !(result.proves_damage && result.next.is_some())
            && let Some(offset) = self.window.find_magic(offset)?
        {
            if let Some(header) = self.header(offset)? {
                result.note(at, &header, offset, true);
            }
            from = offset.checked_add(ALIGN);
        }
        Ok(result)
    }
}

impl SearchResult {
    /// Takes a valid record into account. `usable`: reading may go on with it, if its seq is not in the past.
    fn note(&mut self, at: &Position, header: &Header, offset: u64, usable: bool) {
        self.proves_damage |= header.durable_seq >= at.whole_due;
        if usable && self.next.is_none() && header.seq >= at.due {
            self.next = Some(Found { offset, seq: header.seq });
        }
    }
}

/// Reads a header; a record of a newer version is an error, anything else that is no record is `None`.
fn valid_header(
    bytes: &[u8; HEADER_LEN],
    segment: &SegmentHeader,
    offset: u64,
) -> Result<Option<Header>, ScanError> {
    match decode_header(bytes, place(segment, offset)) {
        Ok(header) => Ok(Some(header)),
        Err(cause) if cause.is_unsupported() => Err(ScanError::Unsupported { offset, cause }),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
