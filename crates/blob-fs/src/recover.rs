//! Opening (E62): finds where the log ends, brings the index up to it, clears away what a crash left.

mod bring_up;
mod clean;
mod replay;

use std::{ops::Range, path::PathBuf};

use blob_traits::{Error, Hash, Result};

use self::{
    bring_up::{Found, Opening},
    replay::Replay,
};
use crate::{
    format::scan::{self, EndReason, ScanFrom, ScanLimits, SeqRule, SmallPayloads},
    index::{Index, SegmentNote},
    layout::Layout,
    log::{Log, Tail},
    options::{Options, Rebuild},
    reserve::{ROWS_IN_NEED, Reserve},
    row::Checkpoint,
    segments::{self, Flaw, PackedSegment, Segments, lossy},
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
    /// The index was not there, or could not be used, and has been rebuilt from the log.
    pub rebuilt_index: bool,
    /// Why the index could not be used. It was put aside.
    pub rebuilt_because: Option<String>,
    /// Parts of the store that are lost, and without which it was opened ([`Rebuild::AcceptLoss`]).
    pub losses: Vec<Loss>,
}

/// A range of a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// The segment.
    pub path: PathBuf,
    /// The bytes.
    pub range: Range<u64>,
}

/// A part of a store that is not there any more, or cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Where it was.
    pub path: PathBuf,
    /// What is wrong with it.
    pub what: String,
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
    let (mut segments, mut flaws) = segments::inspect(&**vfs, layout)?;
    if options.rebuild == Rebuild::WhenLossless
        && let Some(flaw) = flaws.first()
    {
        return Err(flaw.to_error());
    }
    let opening = Opening { options, layout, segments: &segments, batch };
    let found = opening.bring_up(&mut flaws, &mut recovery)?;
    let Found { store_id, index, tail, before, published, floor } = found;
    let losses = flaws.iter().map(|flaw| Loss { path: flaw.path.clone(), what: flaw.what.to_owned() });
    recovery.losses.extend(losses);
    if !recovery.losses.is_empty() {
        index.note_damage()?;
    }
    if let Some(path) = &segments.unfinished {
        clean::put_aside(&**vfs, layout, path, &mut recovery)?;
    }
    recovery.holds_collection = index.is_damaged()?;
    note_segments(&index, &segments)?;
    clean::replaced(&**vfs, layout, &segments.replaced, &mut recovery)?;
    clean::temporaries(&**vfs, layout, &index, &mut recovery)?;
    // Only now that the index says that something was lost.
    segments.highest = close_gaps(options, layout, store_id, segments.highest, &flaws, &mut recovery)?;
    let mut log =
        Log::new(vfs.clone(), layout.clone(), store_id, options.segment_size, segments.highest, tail);
    if let Some(last) = segments.log.last()
        && published.segment == tail.segment
        && published.end == tail.end
        && last.size == tail.end
        && before == published
        && recovery.losses.is_empty()
    {
        log.resume(&last.header, segments::open(&**vfs, layout, last.id())?);
        let next_seq = tail.last_seq + 1;
        return Ok(Recovered { store_id, index, log, published, next_seq, recovery });
    }
    // The next record goes into a new segment.
    let next_seq = tail.last_seq.max(floor) + SEQ_GAP;
    Ok(Recovered { store_id, index, log, published, next_seq, recovery })
}

/// Makes the log whole without what is lost (E67). Returns the highest id of a segment.
fn close_gaps(
    options: &Options,
    layout: &Layout,
    store_id: [u8; 16],
    highest: u32,
    flaws: &[Flaw],
    recovery: &mut Recovery,
) -> Result<u32> {
    let vfs = &*options.vfs;
    segments::mend(vfs, layout, flaws, &mut |path| clean::put_aside(vfs, layout, path, recovery))?;
    let lost: Vec<_> = flaws.iter().filter_map(Flaw::lost_ids).collect();
    let highest = lost.iter().map(|ids| *ids.end()).fold(highest, u32::max);
    if lost.is_empty() {
        return Ok(highest);
    }
    let id = highest.saturating_add(1);
    segments::account_for(vfs, layout, id, store_id, &lost)?;
    Ok(id)
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
            return Err(lossy(path, "it ends before what the index has of it"));
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

#[cfg(test)]
mod tests;
