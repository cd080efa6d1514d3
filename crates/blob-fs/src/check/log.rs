//! The log against the index: each row's record is where the row says, and each byte of the log can be read (E68).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Range,
};

use blob_traits::{Error, Hash, Result, TagRange};

use super::{Check, salvage::Patient};
use crate::{
    compact::Compactor,
    format::{
        header::SegmentHeader,
        record::{Body, HEADER_LEN, Header, Place as RecordPlace, decode_header},
        scan::{ScanError, ScanFrom, ScanLimits, Scanned, ScannedRecord, SeqRule, SmallPayloads, scan},
    },
    list,
    row::{BlobRow, BlobState, Checkpoint, Origin, Place, TagRow},
    segments::{self, Flaw, Segments},
};

/// So many rows are in memory at a time, of whole segments.
const ROWS: u64 = 1 << 19;

/// The last record of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    Blob(Hash, BlobRow),
    Tag(blob_traits::Tag, TagRow),
}

impl Row {
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Blob(_, row) => row.place,
            Self::Tag(_, row) => row.place,
        }
    }

    pub(super) fn seq(&self) -> u64 {
        match self {
            Self::Blob(_, row) => row.seq,
            Self::Tag(_, row) => row.seq,
        }
    }

    /// Whether a record is the one that the row was made of.
    fn is_of(&self, header: &Header, body: &Body) -> bool {
        if header.seq != self.seq() {
            return false;
        }
        match self {
            Self::Blob(hash, row) => header.hash == *hash && state(body) == Some(row.state),
            Self::Tag(tag, row) => {
                matches!(body, Body::TagSet { name, .. } if name.as_slice() == tag.as_ref())
                    && header.hash == row.content.hash
            }
        }
    }
}

/// What a record makes of a blob.
fn state(body: &Body) -> Option<BlobState> {
    match body {
        Body::Small { data_len } => Some(BlobState::Small { size: *data_len }),
        Body::Large { size, no, .. } => Some(BlobState::Large { size: *size, no: *no }),
        Body::Referenced { size, no, .. } => Some(BlobState::Referenced { size: *size, no: *no }),
        Body::PartialBegin { no, came_from } => {
            Some(BlobState::Partial { no: *no, origin: Origin::of(*came_from) })
        }
        _ => None,
    }
}

/// A segment of which a part cannot be read, or that is not there.
#[derive(Debug)]
pub(super) struct Sick {
    pub(super) id: u32,
    /// Bytes without a readable record.
    pub(super) damaged: Vec<Range<u64>>,
    /// Rows whose record cannot be read.
    pub(super) lost: Vec<Row>,
    /// Rows whose record can be read, though it lies in a damaged range.
    pub(super) stranded: Vec<Row>,
}

/// What reading a segment has shown.
#[derive(Debug)]
enum Looked {
    Well,
    Sick(Sick),
    /// It could not be read this time. What lies there may be sound.
    Unreadable,
}

/// A segment that is there, and how to read it.
struct Readable {
    header: SegmentHeader,
    end: u64,
    seqs: SeqRule,
}

impl Check {
    /// Returns whether nothing is wrong with the log now.
    pub(super) fn check_log(&self, compactor: &mut Compactor) -> Result<bool> {
        let rows = self.count_rows()?;
        let published = self.engine().state().published;
        let (segments, flaws) = self.inspect()?;
        for flaw in &flaws {
            let path = self.shown(&flaw.path);
            self.report.error(format!("{path}: {}", flaw.what), None)?;
        }
        let readable = readable(&segments, &published);
        let ids: BTreeSet<u32> = readable.keys().copied().chain(rows.keys().copied()).collect();
        let (mut sick, mut unreadable) = (Vec::new(), BTreeSet::new());
        for group in groups(&ids, &rows) {
            let mut expected = self.rows_in(&group, published.seq)?;
            for id in group {
                self.go_on()?;
                let rows = expected.remove(&id).unwrap_or_default();
                match self.check_segment(id, readable.get(&id), &rows)? {
                    Looked::Well => {}
                    Looked::Sick(found) => sick.push(found),
                    Looked::Unreadable => drop(unreadable.insert(id)),
                }
            }
        }
        let unrepaired = self.report_unrepaired(&sick)?;
        if sick.is_empty() && flaws.is_empty() && !unrepaired.holds_collection {
            return Ok(unreadable.is_empty());
        }
        if !self.repairs() {
            return Ok(false);
        }
        self.salvage(compactor, &Patient { sick, flaws, unrepaired, unreadable })
    }

    /// Looks at the log alone, without the rows of an index: whether one that is made of it has all there is.
    pub(super) fn log_is_sound(&self) -> Result<bool> {
        let published = self.engine().state().published;
        let (segments, flaws) = self.inspect()?;
        for flaw in &flaws {
            let path = self.shown(&flaw.path);
            self.report.error(format!("{path}: {}", flaw.what), None)?;
        }
        let mut sick = Vec::new();
        let mut is_sound = flaws.is_empty();
        for (id, readable) in &readable(&segments, &published) {
            self.go_on()?;
            match self.check_segment(*id, Some(readable), &[])? {
                Looked::Well => {}
                Looked::Sick(found) => sick.push(found),
                Looked::Unreadable => is_sound = false,
            }
        }
        let unrepaired = self.report_unrepaired(&sick)?;
        Ok(is_sound && sick.is_empty() && unrepaired.damaged.is_empty() && !unrepaired.holds_collection)
    }

    /// Lists the segments; once more where one was just being begun.
    fn inspect(&self) -> Result<(Segments, Vec<Flaw>)> {
        let inspect = || segments::inspect(&*self.engine().vfs, &self.engine().layout);
        match inspect() {
            Ok((segments, flaws)) if flaws.is_empty() => Ok((segments, flaws)),
            _ => inspect(),
        }
    }

    /// How many rows have their record in each segment.
    fn count_rows(&self) -> Result<BTreeMap<u32, u64>> {
        let mut counts = BTreeMap::new();
        self.each_row(|row| {
            *counts.entry(row.place().segment).or_default() += 1;
            Ok(())
        })?;
        Ok(counts)
    }

    /// Those that come later than `last` are left out.
    fn rows_in(&self, group: &[u32], last: u64) -> Result<BTreeMap<u32, Vec<Row>>> {
        let mut rows: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
        self.each_row(|row| {
            if row.seq() <= last && group.binary_search(&row.place().segment).is_ok() {
                rows.entry(row.place().segment).or_default().push(row);
            }
            Ok(())
        })?;
        for rows in rows.values_mut() {
            rows.sort_unstable_by_key(|row| row.place().offset);
        }
        Ok(rows)
    }

    fn each_row(&self, mut visit: impl FnMut(Row) -> Result<()>) -> Result<()> {
        for item in list::rows(self.engine())?.into_blocking() {
            let (hash, row) = item?;
            visit(Row::Blob(hash, row))?;
        }
        for item in list::tags(self.engine(), &TagRange::all())?.into_blocking() {
            let (tag, row) = item?;
            visit(Row::Tag(tag, row))?;
        }
        self.go_on()
    }

    fn check_segment(&self, id: u32, readable: Option<&Readable>, rows: &[Row]) -> Result<Looked> {
        let path = self.shown(&self.engine().layout.segment(id));
        // What fails once may pass.
        let looked = match self.look_at(id, readable, rows) {
            Err(Error::Io { .. }) => self.look_at(id, readable, rows),
            looked => looked,
        };
        let (mut sick, missed) = match looked {
            Err(error @ Error::Io { .. }) => {
                self.report_unreadable(&self.engine().layout.segment(id), &error)?;
                return Ok(Looked::Unreadable);
            }
            looked => looked?,
        };
        for row in missed {
            // It may have been replaced by now.
            if self.is_current(&row)? {
                self.report_row(&path, &row)?;
                sick.lost.push(row);
            }
        }
        for range in &sick.damaged {
            let n = sick.lost.iter().filter(|row| range.contains(&row.place().offset.into())).count();
            let what = format!("{path}: bytes {} to {} cannot be read", range.start, range.end);
            self.report.error(format!("{what}; the records of {n} blobs and tags lay there"), None)?;
        }
        let is_well = sick.damaged.is_empty() && sick.lost.is_empty();
        Ok(if is_well { Looked::Well } else { Looked::Sick(sick) })
    }

    /// Reads a segment, and finds the rows whose record is not there.
    fn look_at(&self, id: u32, readable: Option<&Readable>, rows: &[Row]) -> Result<(Sick, Vec<Row>)> {
        let mut sick = Sick { id, damaged: Vec::new(), lost: Vec::new(), stranded: Vec::new() };
        let missed = match readable {
            Some(readable) => self.scan(readable, rows, &mut sick)?,
            None => rows.to_vec(),
        };
        Ok((sick, missed))
    }

    /// Reads a segment, and returns the rows whose record is not there.
    fn scan(&self, segment: &Readable, rows: &[Row], sick: &mut Sick) -> Result<Vec<Row>> {
        let Readable { header, end, seqs } = segment;
        let path = self.engine().layout.segment(header.segment);
        let file = segments::open(&*self.engine().vfs, &self.engine().layout, header.segment)?;
        let from = ScanFrom { offset: header.len(), next_seq: header.base_seq };
        let small = SmallPayloads::Read;
        let limits = ScanLimits { known_end: Some(*end), checkpoint_seq: u64::MAX, seqs: *seqs, small };
        let (mut rows, mut missed) = (rows.iter().peekable(), Vec::new());
        let mut visit = |record: &ScannedRecord| {
            while let Some(row) = rows.next_if(|row| u64::from(row.place().offset) <= record.offset) {
                let is_it = u64::from(row.place().offset) == record.offset;
                if !(is_it && row.is_of(&record.header, &record.body)) {
                    missed.push(row.clone());
                }
            }
        };
        let scanned = scan(&*file, header, from, limits, &mut |scanned| match scanned {
            Scanned::Damage(damage) => {
                sick.damaged.push(damage.range);
                Ok(())
            }
            Scanned::Transaction(transaction) => {
                transaction.records.iter().for_each(&mut visit);
                self.go_on().map_err(Failed::Check)
            }
        });
        match scanned {
            Err(Failed::Check(e)) => return Err(e),
            Err(Failed::Scan(ScanError::Io(e))) => {
                return Err(Error::io("read", path, e));
            }
            // What a newer release has written is left to it; what is here is read row by row.
            Ok(_) | Err(Failed::Scan(ScanError::Unsupported { .. })) => {}
        }
        missed.extend(rows.cloned());
        let mut lost = Vec::new();
        for row in missed {
            if record_at(&*file, header, &row).map_err(|e| Error::io("read", &path, e))? {
                sick.stranded.push(row);
            } else {
                lost.push(row);
            }
        }
        Ok(lost)
    }

    /// Whether a row is still the last word on its key.
    pub(super) fn is_current(&self, row: &Row) -> Result<bool> {
        match row {
            Row::Blob(hash, row) => Ok(self.engine().blob(hash)? == Some(*row)),
            Row::Tag(tag, row) => Ok(self.engine().tag(tag)? == Some(*row)),
        }
    }

    fn report_row(&self, path: &str, row: &Row) -> Result<()> {
        let offset = row.place().offset;
        match row {
            Row::Blob(hash, _) => {
                let what = format!("{path}: the record of this blob, at offset {offset}, cannot be read");
                self.report.error(what, Some(*hash))
            }
            Row::Tag(tag, row) => {
                let what = format!("{path}: the record of tag \"{tag}\", at offset {offset}, cannot be read");
                self.report.error(what, Some(row.content.hash))
            }
        }
    }
}

enum Failed {
    Check(Error),
    Scan(ScanError),
}

impl From<ScanError> for Failed {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

/// The segments that are there, as far as something is published in them.
fn readable(segments: &Segments, published: &Checkpoint) -> BTreeMap<u32, Readable> {
    let log = segments.log.iter().filter(|segment| segment.id() <= published.segment).map(|segment| {
        let end = segment.known_end.filter(|_| segment.id() != published.segment);
        let end = end.unwrap_or(if segment.id() == published.segment { published.end } else { segment.size });
        Readable { header: segment.header.clone(), end, seqs: SeqRule::Consecutive }
    });
    let packed = segments.packed.iter().map(|packed| Readable {
        header: packed.header.clone(),
        end: packed.size,
        seqs: SeqRule::Ascending,
    });
    log.chain(packed).map(|segment| (segment.header.segment, segment)).collect()
}

/// Segments whose rows are looked at together.
fn groups(ids: &BTreeSet<u32>, rows: &BTreeMap<u32, u64>) -> Vec<Vec<u32>> {
    let (mut groups, mut room) = (Vec::<Vec<u32>>::new(), 0);
    for id in ids {
        let n = rows.get(id).copied().unwrap_or(0);
        if let Some(group) = groups.last_mut().filter(|_| n <= room) {
            group.push(*id);
            room -= n;
        } else {
            groups.push(vec![*id]);
            room = ROWS.saturating_sub(n);
        }
    }
    groups
}

/// Whether the record of a row can be read where the row says.
fn record_at(file: &dyn crate::vfs::VfsFile, segment: &SegmentHeader, row: &Row) -> io::Result<bool> {
    let offset = u64::from(row.place().offset);
    let place = RecordPlace { key: &segment.key, segment: segment.segment, offset };
    let mut bytes = [0; HEADER_LEN];
    let read = file.read_exact_at(&mut bytes, offset).and_then(|()| {
        let Ok(header) = decode_header(&bytes, place) else { return Ok(None) };
        let mut payload = vec![0; header.payload_len as usize];
        file.read_exact_at(&mut payload, offset + HEADER_LEN as u64)?;
        Ok(Some((header, payload)))
    });
    match read {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
        Ok(None) => Ok(false),
        Ok(Some((header, payload))) => Ok(header.payload_matches(&payload)
            && Body::decode(&header, &payload).is_ok_and(|body| row.is_of(&header, &body))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_in_memory_are_bounded_by_whole_segments() {
        let rows = [(1, ROWS), (2, 5), (3, ROWS - 5), (4, 1), (5, 3 * ROWS)].into();
        let ids = (1..=6).collect();
        assert_eq!(groups(&ids, &rows), [vec![1], vec![2, 3], vec![4], vec![5, 6]]);
    }
}
