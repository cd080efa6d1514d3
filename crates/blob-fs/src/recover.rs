//! Opening (E62): finds where the log ends, brings the index up to it, clears away what a crash left.

mod clean;
mod replay;

use std::{ops::Range, path::PathBuf};

use blob_traits::{Error, Hash, Result};

use self::replay::Replay;
use crate::{
    format::{
        record::{Place, decode_header},
        scan::{self, EndReason, ScanFrom, ScanLimits, SeqRule, SmallPayloads},
    },
    index::{Index, SegmentNote},
    layout::Layout,
    log::{Log, Tail},
    options::Options,
    reserve::{ROWS_IN_NEED, Reserve},
    row::Checkpoint,
    segments::{self, PackedSegment, Segments},
    vfs::Vfs,
};

/// What opening a store found and mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// Records of the log that the index did not have.
    pub replayed_records: u64,
    /// Bytes at the end of the log that a crash left unfinished; none of them had been acknowledged.
    pub torn_bytes: u64,
    /// Ranges of the log that cannot be read. What lay in them is lost to this store; nothing was removed.
    pub damaged: Vec<DamagedRange>,
    /// This opening or an earlier one has met damage after which it is not known what is kept, and nobody has repaired it:
    /// nothing is collected.
    pub holds_collection: bool,
    /// Blobs whose record is fine and whose bytes are damaged or missing; reading them fails.
    pub damaged_blobs: Vec<Hash>,
    /// Files of operations that had not been finished, removed.
    pub removed_files: u64,
    /// Files that were put aside into `quarantine/`.
    pub quarantined: Vec<PathBuf>,
    /// The index was not there and has been rebuilt from the log.
    pub rebuilt_index: bool,
}

/// A range of a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment.
    pub path: PathBuf,
    /// The bytes.
    pub range: Range<u64>,
}

/// A store that is ready to be used.
pub(crate) struct Recovered {
    pub(crate) store_id: [u8; 16],
    pub(crate) index: Index,
    pub(crate) log: Log,
    pub(crate) published: Checkpoint,
    pub(crate) next_seq: u64,
    pub(crate) recovery: Recovery,
}

/// Seqs that may lie in an unfinished write at the end of the log are left out, so that none is used twice (E4).
const SEQ_GAP: u64 = 1 << 20;

/// So many rows go to the index at once while it is brought up to the log.
const BATCH: usize = 65_536;

/// Brings a store, whose lock is held, into order. Each step may be interrupted and repeated, and is where the disk is
/// full and the reserve can be given up (E61).
pub(crate) fn recover(options: &Options, layout: &Layout, reserve: &Reserve) -> Result<Recovered> {
    let batch = if reserve.is_given_up() { ROWS_IN_NEED } else { BATCH };
    match recover_in_batches(options, layout, batch) {
        Err(Error::NoSpace { .. }) if reserve.give_up(&*options.vfs, 0) => {
            recover_in_batches(options, layout, ROWS_IN_NEED)
        }
        recovered => recovered,
    }
}

fn recover_in_batches(options: &Options, layout: &Layout, batch: usize) -> Result<Recovered> {
    let vfs = &options.vfs;
    let mut recovery = Recovery::default();
    let segments = segments::list(&**vfs, layout)?;
    let mut has_index = clean::exists(&**vfs, &layout.index())?;
    let store_id = match segments.store_id() {
        Some(id) => id,
        None => clean::new_store_id(&**vfs),
    };
    if segments.log.is_empty() && has_index {
        return fresh_log(options, layout, &segments, recovery);
    }
    let mut index = Index::open(vfs, layout, Some(&store_id), options.index_cache)?;
    if has_index && index.is_unfinished()? {
        drop(index);
        vfs.remove_file(&layout.index()).map_err(|e| Error::io("remove", layout.index(), e))?;
        index = Index::open(vfs, layout, Some(&store_id), options.index_cache)?;
        has_index = false;
    }
    recovery.rebuilt_index = !has_index && !segments.log.is_empty();
    let mut replay = Replay::new(vfs.clone(), layout.clone(), index, batch)?;
    let checkpoint = replay.checkpoint();
    segments.check(&**vfs, &checkpoint, layout)?;
    let read = replay
        .take_packed(&segments, recovery.rebuilt_index, &mut recovery)
        .and_then(|()| read_log(&**vfs, layout, &segments, &checkpoint, &mut replay, &mut recovery));
    let tail = match read {
        Err(e @ Error::UnsupportedFormat { .. }) if !has_index => {
            // The store is left as it was (E16).
            drop(replay);
            let _ = vfs.remove_file(&layout.index());
            return Err(e);
        }
        read => read?,
    };
    if let Some(path) = &segments.unfinished {
        clean::put_aside(&**vfs, layout, path, &mut recovery)?;
    }
    let (index, published) = replay.finish(&mut recovery)?;
    recovery.holds_collection = index.is_damaged()?;
    note_segments(&index, &segments)?;
    clean::replaced(&**vfs, layout, &segments.replaced, &mut recovery)?;
    clean::temporaries(&**vfs, layout, &index, &mut recovery)?;
    let mut log =
        Log::new(vfs.clone(), layout.clone(), store_id, options.segment_size, segments.highest, tail);
    if let Some(last) = segments.log.last()
        && published.segment == tail.segment
        && published.end == tail.end
        && last.size == tail.end
        && checkpoint == published
    {
        log.resume(&last.header, segments::open(&**vfs, layout, last.id())?);
        let next_seq = tail.last_seq + 1;
        return Ok(Recovered { store_id, index, log, published, next_seq, recovery });
    }
    // The next record goes into a new segment.
    let next_seq = tail.last_seq + SEQ_GAP;
    Ok(Recovered { store_id, index, log, published, next_seq, recovery })
}

/// Takes note that the index has all packed segments, and which ones have gone (E54).
fn note_segments(index: &Index, segments: &Segments) -> Result<()> {
    index.finish()?;
    let stats = index.reader()?.stats()?.segments;
    let is_applied = |id: u32| stats.get(&id).is_some_and(|stats| stats.applied);
    let new = segments.packed.iter().map(PackedSegment::id).filter(|id| !is_applied(*id));
    let mut notes: Vec<_> =
        new.map(|id| SegmentNote::Applied { id, held: 0, held_for: Vec::new() }).collect();
    let there = |id: u32| {
        segments.log.iter().any(|segment| segment.id() == id)
            || segments.packed.iter().any(|packed| packed.id() == id)
    };
    notes.extend(stats.keys().filter(|id| !there(**id)).map(|id| SegmentNote::Removed(*id)));
    if notes.is_empty() { Ok(()) } else { index.note_segments(&notes) }
}

/// A store that has an index and no log: nothing was ever written to it, or its log is lost.
fn fresh_log(
    options: &Options,
    layout: &Layout,
    segments: &Segments,
    mut recovery: Recovery,
) -> Result<Recovered> {
    let vfs = &options.vfs;
    let index = Index::open(vfs, layout, None, options.index_cache)?;
    if index.checkpoint()? != Checkpoint::default() {
        return Err(Error::DamagedStore {
            path: layout.log_dir(),
            what: "the index refers to a log, and there are no segments; restore them from a backup"
                .to_owned(),
        });
    }
    if let Some(path) = &segments.unfinished {
        clean::put_aside(&**vfs, layout, path, &mut recovery)?;
    }
    index.finish()?;
    clean::temporaries(&**vfs, layout, &index, &mut recovery)?;
    let store_id = index.store_id()?;
    let log = Log::new(
        vfs.clone(),
        layout.clone(),
        store_id,
        options.segment_size,
        segments.highest,
        Tail::default(),
    );
    Ok(Recovered { store_id, index, log, published: Checkpoint::default(), next_seq: 1, recovery })
}

/// Reads all that comes after the checkpoint, and finds where the log ends (E62 step 5, E63).
fn read_log(
    vfs: &dyn Vfs,
    layout: &Layout,
    segments: &Segments,
    checkpoint: &Checkpoint,
    replay: &mut Replay,
    recovery: &mut Recovery,
) -> Result<Tail> {
    let mut tail = Tail { segment: checkpoint.segment, end: checkpoint.end, last_seq: checkpoint.seq };
    let first = segments.log.partition_point(|segment| segment.header.segment < checkpoint.segment);
    for segment in segments.log.iter().skip(first) {
        let id = segment.id();
        let from = if id == checkpoint.segment {
            ScanFrom { offset: checkpoint.end, next_seq: checkpoint.seq + 1 }
        } else {
            ScanFrom { offset: segment.header.len(), next_seq: segment.header.base_seq }
        };
        let known_end = segment.known_end;
        let path = layout.segment(id);
        let file = segments::open(vfs, layout, id)?;
        if known_end.is_none() {
            // What a dead process could not sync may be in the page cache and not on the disk (E62 step 5).
            let reread = file.sync_data().and_then(|()| file.drop_cached());
            reread.map_err(|e| Error::io("sync", &path, e))?;
        }
        if known_end.is_some_and(|end| end < from.offset) {
            return Err(Error::DamagedStore {
                path: layout.index(),
                what: "it is ahead of the log; move this file away and open the store again to rebuild it"
                    .to_owned(),
            });
        }
        let limits = ScanLimits {
            known_end,
            checkpoint_seq: checkpoint.seq,
            seqs: SeqRule::Consecutive,
            small: SmallPayloads::Read,
        };
        let end = scan::scan(&*file, &segment.header, from, limits, &mut |scanned| {
            replay.take(id, &segment.header.key, scanned, recovery)
        })
        .map_err(|e: replay::Stop| e.into_error(&path))?;
        tail = Tail { segment: id, end: end.end, last_seq: end.last_seq };
        if end.reason == EndReason::Torn {
            recovery.torn_bytes += segment.size.saturating_sub(end.end);
        }
    }
    Ok(tail)
}

impl Segments {
    /// Whether the log is the one that the index speaks of (E37).
    fn check(&self, vfs: &dyn Vfs, checkpoint: &Checkpoint, layout: &Layout) -> Result<()> {
        if checkpoint.segment == 0 {
            return Ok(());
        }
        let mismatch = || Error::DamagedStore {
            path: layout.index(),
            what: "it does not match the log; move this file away and open the store again to rebuild it"
                .to_owned(),
        };
        let segment = self
            .log
            .iter()
            .find(|segment| segment.header.segment == checkpoint.segment)
            .ok_or_else(mismatch)?;
        let mut bytes = [0; 80];
        let read =
            segments::open(vfs, layout, checkpoint.segment)?.read_exact_at(&mut bytes, checkpoint.start);
        match read {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(mismatch()),
            other => other.map_err(|e| Error::io("read", layout.segment(checkpoint.segment), e))?,
        }
        let place = Place { key: &segment.header.key, segment: checkpoint.segment, offset: checkpoint.start };
        let header = decode_header(&bytes, place).map_err(|_| mismatch())?;
        let ends = checkpoint.start.checked_add(header.padded_len()) == Some(checkpoint.end);
        let same = header.seq == checkpoint.seq && bytes.last_chunk() == Some(&checkpoint.check);
        if ends && same && segment.size >= checkpoint.end { Ok(()) } else { Err(mismatch()) }
    }
}
