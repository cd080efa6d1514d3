//! Which segments there are, and whether they make up one store (E8, E10, E58, E59, E67).

mod account;

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Hash, Result};

pub(crate) use self::account::{account_for, mend, merged};
use crate::{
    format::{
        header::{BLOCK, BadHeader, SegmentHeader, SegmentRole, VERSION},
        record::{Body, HEADER_LEN, PACK_END_LEN, Place, decode_header, kind},
        scan::{ScanError, ScanFrom, ScanLimits, Scanned, ScannedRecord, SeqRule, SmallPayloads, scan},
    },
    layout::{Layout, parse_segment},
    vfs::{Access, FileRef, Vfs},
};

/// The segments of a store.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    /// The log, in its order, without what is replaced.
    pub(crate) log: Vec<LogSegment>,
    /// What compaction wrote and has not replaced since.
    pub(crate) packed: Vec<PackedSegment>,
    /// Segments of which a packed one has all that counts: they are removed, not read (E59).
    pub(crate) replaced: Vec<u32>,
    /// The highest id of any segment (E8).
    pub(crate) highest: u32,
    /// The newest one, where its creation was interrupted.
    pub(crate) unfinished: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct LogSegment {
    pub(crate) header: SegmentHeader,
    /// How long the file is.
    pub(crate) size: u64,
    /// Where it ends; `None` for the newest, which ends where its records do (E63).
    pub(crate) known_end: Option<u64>,
    prev_id: u32,
    prev_end: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct PackedSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) size: u64,
    pub(crate) built_at: u64,
    pub(crate) replaces: Vec<u32>,
    pub(crate) history: Vec<RangeInclusive<u32>>,
    /// It ends with a valid PackEnd. Otherwise it is damaged, and what it replaces counts where it is still there (E58).
    pub(crate) is_whole: bool,
}

impl LogSegment {
    pub(crate) fn id(&self) -> u32 {
        self.header.segment
    }

    /// The segment before this one, and where that ends.
    pub(crate) fn before(&self) -> (u32, u64) {
        (self.prev_id, self.prev_end)
    }
}

impl PackedSegment {
    pub(crate) fn id(&self) -> u32 {
        self.header.segment
    }

    /// Whether it, or what it took the place of, took the place of a segment.
    fn accounts_for(&self, id: u32) -> bool {
        self.replaces.binary_search(&id).is_ok() || self.history.iter().any(|ids| ids.contains(&id))
    }
}

/// Opens a segment; not all are kept open at once.
pub(crate) fn open(vfs: &dyn Vfs, layout: &Layout, id: u32) -> Result<FileRef> {
    let path = layout.segment(id);
    vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))
}

/// Opens all segments and checks that they make up one store. Changes nothing.
///
/// # Errors
/// [`Error::DamagedStore`] where something is missing, [`Error::UnsupportedFormat`].
pub(crate) fn list(vfs: &dyn Vfs, layout: &Layout) -> Result<Segments> {
    let (segments, flaws) = inspect(vfs, layout)?;
    flaws.first().map_or(Ok(segments), |flaw| Err(flaw.to_error()))
}

/// Opens all segments, and says what is wrong with them. Those that cannot be read are left out. Changes nothing.
pub(crate) fn inspect(vfs: &dyn Vfs, layout: &Layout) -> Result<(Segments, Vec<Flaw>)> {
    let names = vfs.read_dir(&layout.log_dir()).map_err(|e| Error::io("list", layout.log_dir(), e))?;
    let mut ids: Vec<u32> = names.iter().filter_map(|name| parse_segment(name)).collect();
    ids.sort_unstable();
    let highest = ids.last().copied().unwrap_or(0);
    let (mut segments, mut flaws) = (Segments { highest, ..Segments::default() }, Vec::new());
    for id in ids {
        let path = layout.segment(id);
        let newest = id == segments.highest;
        let file = vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        let size = file.stat().map_err(|e| Error::io("look at", &path, e))?.size;
        match SegmentHeader::load(&*file).map_err(|e| Error::io("read", &path, e))? {
            Ok(header) if header.segment != id => {
                flaws.push(Flaw::new(path, Wrong::Unreadable(id), "its header names another segment"));
            }
            Ok(header) => segments.push(header, &file, size).map_err(|e| Error::io("read", &path, e))?,
            Err(BadHeader::Unsupported { found }) => {
                return Err(unsupported(&path, format!("version {found}")));
            }
            // Its creation was interrupted: there never was a record in it (E10).
            Err(BadHeader::Damaged(_)) if newest && size <= BLOCK as u64 => segments.unfinished = Some(path),
            Err(BadHeader::Damaged(what)) => flaws.push(Flaw::new(path, Wrong::Unreadable(id), what)),
        }
    }
    segments.check_store(layout, &mut flaws);
    segments.check_chain(layout, &mut flaws);
    segments.leave_out_replaced(layout, &mut flaws);
    Ok((segments, flaws))
}

impl Segments {
    fn push(&mut self, header: SegmentHeader, file: &FileRef, size: u64) -> std::io::Result<()> {
        match header.role.clone() {
            SegmentRole::Log { prev_id, prev_end, .. } => {
                self.log.push(LogSegment { header, size, known_end: None, prev_id, prev_end });
            }
            SegmentRole::Packed { built_at, replaces, history } => {
                let is_whole = ends_as_packed(file, &header, size)?
                    && self.may_replace(&replaces, file, &header, size)?;
                self.packed.push(PackedSegment { header, size, built_at, replaces, history, is_whole });
            }
        }
        Ok(())
    }

    /// Whether a packed segment may take the place of others: while one of them is there, it is read from end to end first.
    /// Its id is above theirs.
    fn may_replace(
        &self,
        replaces: &[u32],
        file: &FileRef,
        header: &SegmentHeader,
        size: u64,
    ) -> std::io::Result<bool> {
        let mut ids = self.log.iter().map(LogSegment::id).chain(self.packed.iter().map(PackedSegment::id));
        if !ids.any(|id| replaces.contains(&id)) {
            return Ok(true);
        }
        let from = ScanFrom { offset: header.len(), next_seq: header.base_seq };
        let limits = ScanLimits {
            known_end: Some(size),
            checkpoint_seq: u64::MAX,
            seqs: SeqRule::Ascending,
            small: SmallPayloads::Read,
        };
        let mut is_sound = true;
        let scanned = scan::<ScanError>(&**file, header, from, limits, &mut |found| {
            is_sound &= match found {
                Scanned::Damage(_) => false,
                Scanned::Transaction(transaction) => transaction.records.iter().all(is_right),
            };
            Ok(())
        });
        match scanned {
            Ok(_) => Ok(is_sound),
            Err(ScanError::Io(e)) => Err(e),
            Err(_) => Ok(false),
        }
    }

    pub(crate) fn store_id(&self) -> Option<[u8; 16]> {
        self.headers().next().map(|header| header.store_id)
    }

    /// Whether this segment is there, or is accounted for by one that is.
    pub(crate) fn is_known(&self, id: u32) -> bool {
        self.log.iter().any(|segment| segment.id() == id)
            || self.packed.iter().any(|segment| segment.id() == id || segment.accounts_for(id))
    }

    fn headers(&self) -> impl Iterator<Item = &SegmentHeader> {
        self.log.iter().map(|s| &s.header).chain(self.packed.iter().map(|s| &s.header))
    }

    /// Leaves out the segments of another store: those that are fewer.
    fn check_store(&mut self, layout: &Layout, flaws: &mut Vec<Flaw>) {
        let mut stores = BTreeMap::<_, usize>::new();
        for header in self.headers() {
            *stores.entry(header.store_id).or_default() += 1;
        }
        let ours = stores.into_iter().max_by_key(|(_, n)| *n).map(|(id, _)| id);
        let is_foreign = |header: &SegmentHeader| Some(header.store_id) != ours;
        for header in self.headers().filter(|header| is_foreign(header)) {
            let wrong = Wrong::Unreadable(header.segment);
            flaws.push(Flaw::new(layout.segment(header.segment), wrong, "it belongs to another store"));
        }
        self.log.retain(|segment| !is_foreign(&segment.header));
        self.packed.retain(|segment| !is_foreign(&segment.header));
        if self.log.is_empty() && !self.packed.is_empty() {
            flaws.push(Flaw::new(layout.log_dir(), Wrong::NoNewest, "the newest segment is missing"));
        }
    }

    /// Each segment of the log names the one before it, which is there or was compacted away (E67).
    fn check_chain(&mut self, layout: &Layout, flaws: &mut Vec<Flaw>) {
        let (mut before, mut ends, mut detached) = ((0, 0), Vec::new(), Vec::new());
        for segment in &self.log {
            let (before_id, before_size) = before;
            let path = layout.segment(segment.id());
            match segment.prev_id.cmp(&before_id) {
                Ordering::Equal => {
                    if before_size < segment.prev_end {
                        let wrong = Wrong::Short { id: before_id, end: segment.prev_end };
                        let path = layout.segment(before_id);
                        flaws.push(Flaw::new(path, wrong, "it is shorter than the log says"));
                    }
                    ends.push(segment.prev_end);
                }
                Ordering::Less => {
                    let wrong = Wrong::Unreadable(segment.id());
                    flaws.push(Flaw::new(path, wrong, "it does not follow on the one before it"));
                    detached.push(segment.id());
                    continue;
                }
                Ordering::Greater => {
                    if !self.packed.iter().any(|packed| packed.accounts_for(segment.prev_id)) {
                        let wrong = Wrong::Missing { first: before_id + 1, last: segment.prev_id };
                        flaws.push(Flaw::new(path, wrong, "the segment before it is missing"));
                    }
                    // What it had behind its end was cut off before the segment that says so went.
                    ends.push(before_size);
                }
            }
            before = (segment.id(), segment.size);
        }
        self.log.retain(|segment| !detached.contains(&segment.id()));
        for (segment, end) in self.log.iter_mut().zip(ends.into_iter().skip(1)) {
            segment.known_end = Some(end);
        }
    }

    fn leave_out_replaced(&mut self, layout: &Layout, flaws: &mut Vec<Flaw>) {
        let whole = self.packed.iter().filter(|packed| packed.is_whole);
        let mut replaced: Vec<u32> = whole.flat_map(|packed| packed.replaces.iter().copied()).collect();
        replaced.sort_unstable();
        replaced.dedup();
        let newest = self.log.last().map(LogSegment::id);
        let is_replaced = |id: u32| replaced.binary_search(&id).is_ok();
        if let Some(newest) = newest.filter(|id| is_replaced(*id)) {
            flaws.push(Flaw::new(layout.segment(newest), Wrong::NoNewest, "the segment after it is missing"));
        }
        let there =
            |id: &u32| self.log.iter().any(|s| s.id() == *id) || self.packed.iter().any(|s| s.id() == *id);
        self.replaced = replaced.iter().copied().filter(there).collect();
        self.log.retain(|segment| !is_replaced(segment.id()));
        self.packed.retain(|segment| !is_replaced(segment.id()));
    }
}

/// Whether the bytes of a small blob, which were read with its record, are those of its hash.
pub(crate) fn is_right(record: &ScannedRecord) -> bool {
    match &record.body {
        Body::Small { data_len } => {
            record.payload.get(..*data_len as usize).is_some_and(|data| Hash::new(data) == record.header.hash)
        }
        _ => true,
    }
}

/// Whether the last record is a PackEnd. Only what was written to its end and synced comes into `log/`.
fn ends_as_packed(file: &FileRef, header: &SegmentHeader, size: u64) -> std::io::Result<bool> {
    let Some(offset) = size.checked_sub(PACK_END_LEN).filter(|offset| *offset >= header.len()) else {
        return Ok(false);
    };
    let mut bytes = [0; HEADER_LEN + 16];
    file.read_exact_at(&mut bytes, offset)?;
    let place = Place { key: &header.key, segment: header.segment, offset };
    let Some((head, payload)) = bytes.split_first_chunk() else { return Ok(false) };
    Ok(decode_header(head, place).is_ok_and(|record| {
        let payload = payload.get(..record.payload_len as usize);
        record.kind == kind::PACK_END && payload.is_some_and(|payload| record.payload_matches(payload))
    }))
}

fn unsupported(path: &Path, found: String) -> Error {
    Error::UnsupportedFormat { path: path.to_owned(), found, supported: format!("version {VERSION}") }
}

/// Something because of which the segments do not make up a whole store (E67, E68).
#[derive(Clone, Debug)]
pub(crate) struct Flaw {
    /// The segment, or the one that tells of it.
    pub(crate) path: PathBuf,
    pub(crate) wrong: Wrong,
    pub(crate) what: &'static str,
}

/// What kind of flaw it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A segment of which nothing can be read.
    Unreadable(u32),
    /// Segments, some of these, that are not there.
    Missing { first: u32, last: u32 },
    /// A segment that should reach to `end`.
    Short { id: u32, end: u64 },
    /// The end of the log is not there.
    NoNewest,
}

impl Flaw {
    pub(crate) fn new(path: PathBuf, wrong: Wrong, what: &'static str) -> Self {
        Self { path, wrong, what }
    }

    /// The ids of the segments that are not there any more.
    pub(crate) fn lost_ids(&self) -> Option<RangeInclusive<u32>> {
        match self.wrong {
            Wrong::Unreadable(id) => Some(id..=id),
            Wrong::Missing { first, last } => Some(first..=last),
            Wrong::Short { .. } | Wrong::NoNewest => None,
        }
    }

    /// Says what is lost, and what can be done.
    pub(crate) fn to_error(&self) -> Error {
        lossy(self.path.clone(), self.what)
    }
}

/// The error for something that cannot be had back from the log.
pub(crate) fn lossy(path: PathBuf, what: &str) -> Error {
    Error::DamagedStore { path, what: format!("{what}{ADVICE}") }
}

/// What is wrong, of an error of [`lossy`], for who goes on in spite of it.
pub(crate) fn without_advice(what: String) -> String {
    what.strip_suffix(ADVICE).map(str::to_owned).unwrap_or(what)
}

/// How an error goes on that stops an opening.
const ADVICE: &str = "; nothing was changed. Restore the file from a backup, or give up what lay in it: blobs, tags and \
                      removals whose records are nowhere else. `blob check --rebuild-index` does that";

/// The command that opens a store in spite of losses.
pub(crate) const ACCEPT: &str = "blob check --rebuild-index";
