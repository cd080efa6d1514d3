//! Which segments there are, and whether they make up one store (E8, E10, E58, E59, E67).

use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Hash, Result};

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
pub(crate) fn list(vfs: &dyn Vfs, layout: &Layout) -> Result<Segments> {
    let names = vfs.read_dir(&layout.log_dir()).map_err(|e| Error::io("list", layout.log_dir(), e))?;
    let mut ids: Vec<u32> = names.iter().filter_map(|name| parse_segment(name)).collect();
    ids.sort_unstable();
    let highest = ids.last().copied().unwrap_or(0);
    let mut segments = Segments { highest, ..Segments::default() };
    for id in ids {
        let path = layout.segment(id);
        let newest = id == segments.highest;
        let file = vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        let size = file.stat().map_err(|e| Error::io("look at", &path, e))?.size;
        match SegmentHeader::load(&*file).map_err(|e| Error::io("read", &path, e))? {
            Ok(header) if header.segment != id => {
                return Err(damaged(&path, "its header names another segment"));
            }
            Ok(header) => segments.push(header, &file, size).map_err(|e| Error::io("read", &path, e))?,
            Err(BadHeader::Unsupported { found }) => {
                return Err(unsupported(&path, format!("version {found}")));
            }
            // Its creation was interrupted: there never was a record in it (E10).
            Err(BadHeader::Damaged(_)) if newest && size <= BLOCK as u64 => segments.unfinished = Some(path),
            Err(BadHeader::Damaged(what)) => return Err(damaged(&path, what)),
        }
    }
    segments.check_store(layout)?;
    segments.check_chain(layout)?;
    segments.leave_out_replaced(layout)?;
    Ok(segments)
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
        let mut headers = self.log.iter().map(|s| &s.header).chain(self.packed.iter().map(|s| &s.header));
        headers.next().map(|header| header.store_id)
    }

    /// Whether this segment is there, or is accounted for by one that is.
    pub(crate) fn is_known(&self, id: u32) -> bool {
        self.log.iter().any(|segment| segment.id() == id)
            || self.packed.iter().any(|segment| segment.id() == id || segment.accounts_for(id))
    }

    fn check_store(&self, layout: &Layout) -> Result<()> {
        let headers = self.log.iter().map(|s| &s.header).chain(self.packed.iter().map(|s| &s.header));
        for header in headers {
            if Some(header.store_id) != self.store_id() {
                return Err(damaged(&layout.segment(header.segment), "it belongs to another store"));
            }
        }
        if self.log.is_empty() && !self.packed.is_empty() {
            return Err(damaged(&layout.log_dir(), "the newest segment is missing"));
        }
        Ok(())
    }

    /// Each segment of the log names the one before it, which is there or was compacted away (E67).
    fn check_chain(&mut self, layout: &Layout) -> Result<()> {
        let (mut before, mut ends) = ((0, 0), Vec::new());
        for segment in &self.log {
            let path = layout.segment(segment.id());
            let (before_id, before_size) = before;
            if segment.prev_id == before_id {
                if before_size < segment.prev_end {
                    return Err(damaged(&layout.segment(before_id), "it is shorter than the log says"));
                }
                ends.push(segment.prev_end);
            } else if segment.prev_id > before_id
                && self.packed.iter().any(|packed| packed.accounts_for(segment.prev_id))
            {
                // What it had behind its end was cut off before the segment that says so went.
                ends.push(before_size);
            } else {
                return Err(damaged(&path, "the segment before it is missing"));
            }
            before = (segment.id(), segment.size);
        }
        for (segment, end) in self.log.iter_mut().zip(ends.into_iter().skip(1)) {
            segment.known_end = Some(end);
        }
        Ok(())
    }

    fn leave_out_replaced(&mut self, layout: &Layout) -> Result<()> {
        let whole = self.packed.iter().filter(|packed| packed.is_whole);
        let mut replaced: Vec<u32> = whole.flat_map(|packed| packed.replaces.iter().copied()).collect();
        replaced.sort_unstable();
        replaced.dedup();
        let newest = self.log.last().map(LogSegment::id);
        let is_replaced = |id: u32| replaced.binary_search(&id).is_ok();
        if let Some(newest) = newest.filter(|id| is_replaced(*id)) {
            return Err(damaged(&layout.segment(newest), "the segment after it is missing"));
        }
        let there =
            |id: &u32| self.log.iter().any(|s| s.id() == *id) || self.packed.iter().any(|s| s.id() == *id);
        self.replaced = replaced.iter().copied().filter(there).collect();
        self.log.retain(|segment| !is_replaced(segment.id()));
        self.packed.retain(|segment| !is_replaced(segment.id()));
        Ok(())
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

fn damaged(path: &Path, what: &str) -> Error {
    Error::DamagedStore {
        path: path.to_owned(),
        what: format!("{what}; nothing was changed, restore this file from a backup"),
    }
}
