//! Mending the log (E68): what is known is recorded anew, what can be read moves, what cannot be read is put aside and
//! given up, and collection goes on (E53).

use std::{collections::BTreeSet, io, ops::Range, path::Path};

use bao_tree::ChunkRanges;
use blob_traits::{Error, Hash, HashAndFormat, Result, Tag, prelude::*};
use futures_lite::future::block_on;
use smallvec::{SmallVec, smallvec};

use super::{
    Check,
    blobs::is_damage,
    log::{Row, Sick},
};
use crate::{
    compact::{Compactor, Rescued, Stranded},
    engine::{Decision, Keys},
    format::record::CameFrom,
    hasher::hash_small,
    index::SegmentNote,
    layout::parse_segment,
    op::{Killed, Op},
    quarantine::{self, Quarantined},
    row::{BlobRow, BlobState},
    segments::{self, Flaw},
    state::Unrepaired,
    vfs::Access,
};

/// What is said of a segment that the disk does not hand out.
const UNREADABLE: &str = "what lies there may be sound, and nothing of it was given up. Check again; where it stays so, \
                          shut the store down, put a copy of the file in its place that has zeros for what cannot be \
                          read, and repair that";

/// A log that is not whole.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) sick: Vec<Sick>,
    pub(super) flaws: Vec<Flaw>,
    /// What opening met.
    pub(super) unrepaired: Unrepaired,
    /// Segments that could not be read this time: nothing is known to be wrong with them, and they stay as they are.
    pub(super) unreadable: BTreeSet<u32>,
}

/// Whether a record was written, or there was another one by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

/// What was read. `None`: what is there is not right, or there is nothing.
///
/// # Errors
/// What could not be read may be right.
fn if_there<T>(read: Result<T>) -> Result<Option<T>> {
    use io::ErrorKind::{NotFound, UnexpectedEof};
    match read {
        Err(Error::Io { source, .. }) if matches!(source.kind(), NotFound | UnexpectedEof) => Ok(None),
        Err(Error::Incomplete { .. } | Error::NotFound { .. }) => Ok(None),
        Err(error) if is_damage(&error) => Ok(None),
        read => read.map(Some),
    }
}

impl Check {
    /// Tells of what opening met and this check has not found again.
    pub(super) fn report_unrepaired(&self, sick: &[Sick]) -> Result<Unrepaired> {
        let unrepaired = self.engine().state().unrepaired.clone();
        let layout = &self.engine().layout;
        for damaged in &unrepaired.damaged {
            let is_it = |sick: &Sick| {
                layout.segment(sick.id) == damaged.path && sick.damaged.contains(&damaged.range)
            };
            if !sick.iter().any(is_it) {
                let (path, range) = (self.shown(&damaged.path), &damaged.range);
                let what =
                    format!("{path}: bytes {} to {} could not be read on opening", range.start, range.end);
                self.report.error(what, None)?;
            }
        }
        for hash in &unrepaired.damaged_blobs {
            if self.engine().blob(hash)?.is_none() {
                self.report.error(
                    "the bytes of this blob were damaged on opening; it is lost".to_owned(),
                    Some(*hash),
                )?;
            }
        }
        if unrepaired.holds_collection {
            let what = "records were damaged when the store was opened, and what they kept is not known: nothing is collected";
            let advice = if self.repairs() { "" } else { " until a repair has accepted that" };
            self.report.error(format!("{what}{advice}"), None)?;
        }
        Ok(unrepaired)
    }

    /// Returns whether the log is whole now.
    pub(super) fn salvage(&self, compactor: &mut Compactor, patient: &Patient) -> Result<bool> {
        let engine = self.engine();
        let Patient { sick, flaws, unrepaired, unreadable } = patient;
        // All moves are done, and no record that is written from now on lies in what is damaged.
        engine.seal_log();
        engine.append_mark()?;
        engine.commit_index()?;
        // What could not be read may be sound: no more is done to these segments.
        let mut left = unreadable.clone();
        self.put_ranges_aside(sick, unrepaired, &mut left)?;
        for sick in sick.iter().filter(|sick| !left.contains(&sick.id)).collect::<Vec<_>>() {
            if self.unless_unreadable(sick.id, || self.save_all(sick))?.is_none() {
                left.insert(sick.id);
            }
        }
        engine.commit_index()?;
        if !flaws.is_empty() && !left.is_empty() {
            // A flaw is mended by putting segments aside, and what they have is still needed.
            return Ok(false);
        }
        let mut is_whole = self.mend_flaws(flaws)? && left.is_empty();
        for sick in sick.iter().filter(|sick| !left.contains(&sick.id)) {
            self.go_on()?;
            let rescued = self.unless_unreadable(sick.id, || self.rescue(compactor, sick, &left))?;
            is_whole &= rescued == Some(true);
        }
        if is_whole {
            engine.state().compaction.notes.push(SegmentNote::Repaired);
            engine.commit_index()?;
            engine.state().unrepaired = Unrepaired::default();
        }
        Ok(is_whole)
    }

    /// Does something about a segment, a second time where it cannot be read. `None`: it cannot, which is told; the segment
    /// stays as it is, and the run goes on.
    fn unless_unreadable<T>(&self, id: u32, mut act: impl FnMut() -> Result<T>) -> Result<Option<T>> {
        let done = match act() {
            Err(Error::Io { .. }) => act(),
            done => done,
        };
        let layout = &self.engine().layout;
        match done {
            Err(Error::Io { doing, path, source }) if path != Some(layout.index()) => {
                let error = Error::Io { doing, path, source };
                self.report_unreadable(&layout.segment(id), &error)?;
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    pub(super) fn report_unreadable(&self, segment: &Path, error: &Error) -> Result<()> {
        let what = format!("{} was left as it is: {error}; {UNREADABLE}", self.shown(segment));
        self.report.error(what, None)
    }

    /// Copies what cannot be read into `quarantine/`. The segments of which a part could not even be copied are `left`.
    fn put_ranges_aside(
        &self,
        sick: &[Sick],
        unrepaired: &Unrepaired,
        left: &mut BTreeSet<u32>,
    ) -> Result<()> {
        let layout = &self.engine().layout;
        let found = sick.iter().flat_map(|sick| sick.damaged.iter().map(|range| (sick.id, range.clone())));
        let id_of = |path: &Path| parse_segment(path.file_name()?);
        let earlier = unrepaired.damaged.iter();
        let earlier = earlier.filter_map(|damaged| Some((id_of(&damaged.path)?, damaged.range.clone())));
        let all: BTreeSet<_> = found.chain(earlier).map(|(id, range)| (id, range.start, range.end)).collect();
        let known = quarantine::list(&*self.engine().vfs, layout)?;
        for (id, start, end) in all.into_iter().filter(|(_, start, end)| start < end) {
            let path = layout.segment(id);
            if self.unless_unreadable(id, || self.put_range_aside(&path, start..end, &known))?.is_none() {
                left.insert(id);
            }
        }
        Ok(())
    }

    fn put_range_aside(&self, path: &Path, range: Range<u64>, known: &[Quarantined]) -> Result<()> {
        let file = match self.engine().vfs.open(path, Access::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            file => file.map_err(|e| Error::io("open", path, e))?,
        };
        let Range { start, end } = range;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let size = file.stat().map_err(|e| Error::io("look at", path, e))?.size;
        let (len, copied) = (size.min(end).saturating_sub(start), format!("{name}-{start}-{end}"));
        // An earlier run may have come so far.
        if len > 0 && !known.iter().any(|known| known.name == copied && known.size == len) {
            self.copy_aside(&*file, &name, start..end)?;
        }
        Ok(())
    }

    /// Sees to it that no row needs what cannot be read of a segment.
    fn save_all(&self, sick: &Sick) -> Result<()> {
        for row in &sick.lost {
            self.go_on()?;
            self.save(row)?;
        }
        Ok(())
    }

    /// Records anew what a row says, as far as that is known without the record.
    fn save(&self, row: &Row) -> Result<()> {
        match row {
            Row::Tag(tag, row) => {
                if self.record_tag(tag, row.content)? == Changed::Yes {
                    let what = format!("tag \"{tag}\" was recorded anew");
                    self.report.info(what, Some(row.content.hash))?;
                }
                Ok(())
            }
            Row::Blob(hash, row) => match row.state {
                BlobState::Large { size, no } => self.record_blob(
                    *hash,
                    row,
                    Op::Large { hash: *hash, size, no, came_from: CameFrom::Data },
                ),
                BlobState::Partial { no, origin } => {
                    self.record_blob(*hash, row, Op::PartialBegin { hash: *hash, no, origin })
                }
                BlobState::Small { .. } => self.save_small(*hash, row),
                BlobState::Referenced { .. } => self.give_up(*hash, row),
            },
        }
    }

    /// Only what was read and is not right is given up: what could not be read may be sound.
    fn save_small(&self, hash: Hash, row: &BlobRow) -> Result<()> {
        let store = &self.store;
        if let Some(data) = if_there(block_on(store.read_to_bytes(hash)))? {
            let (found, outboard) = hash_small(&data);
            if found == hash {
                return self.record_blob(hash, row, Op::Small { hash, data, outboard });
            }
        }
        let proved = if_there(block_on(store.verified_ranges(hash)))?.flatten();
        let proved = proved.unwrap_or_else(ChunkRanges::empty);
        if self.try_demote(hash, row, ChunkRanges::all() - proved)? {
            Ok(())
        } else {
            self.give_up(hash, row)
        }
    }

    /// Nothing is left of a blob that could be read: it is removed, and named.
    fn give_up(&self, hash: Hash, row: &BlobRow) -> Result<()> {
        if self.change(hash, row, Op::Delete { hashes: vec![hash] })? == Changed::No {
            return Ok(());
        }
        let what = match row.state {
            BlobState::Referenced { size, .. } => {
                format!(
                    "where the file of this blob of {size} bytes lies is not known any more; import it again"
                )
            }
            _ => "nothing is left of this blob; import it again".to_owned(),
        };
        self.report.error(what, Some(hash))
    }

    fn record_blob(&self, hash: Hash, row: &BlobRow, op: Op) -> Result<()> {
        match self.change(hash, row, op)? {
            Changed::Yes => {
                self.report.info("it was recorded anew, and nothing of it is lost".to_owned(), Some(hash))
            }
            Changed::No => Ok(()),
        }
    }

    /// Replaces the record of a blob, unless there is another one by now.
    fn change(&self, hash: Hash, row: &BlobRow, op: Op) -> Result<Changed> {
        let engine = self.engine();
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        engine.transact_blocking(&keys, op.weight(), |state, looked| {
            let pin = engine.pins.insert_complete(state, hash);
            let is_it = state.blob_row(&hash, looked).is_some_and(|now| now == *row)
                && matches!(state.pending_blob(&hash, looked), Some((_, Killed::Segment(_))));
            Ok(if is_it {
                Decision::Write(vec![op], smallvec![pin], Changed::Yes)
            } else {
                Decision::Nothing(Changed::No)
            })
        })
    }

    fn record_tag(&self, tag: &Tag, content: HashAndFormat) -> Result<Changed> {
        let engine = self.engine();
        let keys = Keys { blobs: SmallVec::new(), tags: smallvec![tag.clone()] };
        engine.transact_blocking(&keys, 0, |state, looked| {
            let now = state.pending_tag(tag, looked);
            Ok(if matches!(now, Some((now, Killed::Segment(_))) if now == content) {
                let pin = engine.pins.tag(state, content);
                let set = Op::TagSet { tag: tag.clone(), content };
                Decision::Write(vec![set], smallvec![pin], Changed::Yes)
            } else {
                Decision::Nothing(Changed::No)
            })
        })
    }

    /// Makes the log whole without what is lost. Returns whether that worked.
    fn mend_flaws(&self, flaws: &[Flaw]) -> Result<bool> {
        if flaws.is_empty() {
            return Ok(true);
        }
        let engine = self.engine();
        let (vfs, layout) = (&*engine.vfs, &engine.layout);
        segments::mend(vfs, layout, flaws, &mut |path| self.put_aside(path).map(drop))?;
        // With the marks that were appended, what follows on a missing segment may be new.
        let (segments, now) = segments::inspect(vfs, layout)?;
        let lost: Vec<_> = flaws.iter().chain(&now).filter_map(Flaw::lost_ids).collect();
        if !lost.is_empty() {
            let id = engine.take_packed_id().map_err(|failure| failure.to_error())?;
            segments::account_for(vfs, layout, id, segments.store_id().unwrap_or_default(), &lost)?;
        }
        let (_, left) = segments::inspect(vfs, layout)?;
        for flaw in &left {
            self.report.error(format!("{}: {}, still", self.shown(&flaw.path), flaw.what), None)?;
        }
        Ok(left.is_empty())
    }

    fn rescue(&self, compactor: &mut Compactor, sick: &Sick, left: &BTreeSet<u32>) -> Result<bool> {
        let stranded = |row: &Row| {
            let payload_len = match row {
                Row::Blob(_, row) => row.state.log_len(),
                Row::Tag(tag, _) => tag.as_ref().len() as u64,
            };
            Stranded { seq: row.seq(), offset: row.place().offset.into(), payload_len }
        };
        let mut rows = Vec::new();
        for row in &sick.stranded {
            if self.is_current(row)? {
                rows.push(stranded(row));
            }
        }
        let path = self.shown(&self.engine().layout.segment(sick.id));
        let rescued = compactor.rescue(self.engine(), sick.id, &rows, left, self.report.watch())?;
        match rescued {
            Rescued::Done => {
                let what = format!("{path}: what can be read was moved, and what cannot be read put aside");
                self.report.info(what, None)?;
            }
            Rescued::Stays => {
                self.report.error(
                    format!("{path} could not be rewritten: check the bytes of its blobs first"),
                    None,
                )?;
            }
        }
        Ok(rescued == Rescued::Done)
    }
}
