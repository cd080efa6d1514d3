//! Mending the log (E68): what is known is recorded anew, what can be read moves, what cannot be read is put aside and
//! given up, and collection goes on (E53).

use std::collections::BTreeSet;

use bao_tree::ChunkRanges;
use blob_traits::{Error, Hash, HashAndFormat, Result, Tag, prelude::*};
use smallvec::{SmallVec, smallvec};

use super::{
    Check,
    log::{Row, Sick},
};
use crate::{
    compact::{Compactor, Rescued, Stranded},
    engine::{Decision, Keys},
    format::record::CameFrom,
    hasher::hash_small,
    index::SegmentNote,
    op::{Killed, Op},
    quarantine,
    row::{BlobRow, BlobState},
    segments::{self, Flaw},
    state::Unrepaired,
    vfs::Access,
};

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
    pub(super) fn salvage(
        &self,
        compactor: &mut Compactor,
        sick: &[Sick],
        flaws: &[Flaw],
        unrepaired: &Unrepaired,
    ) -> Result<bool> {
        let engine = self.engine();
        // All moves are done, and no record that is written from now on lies in what is damaged.
        engine.seal_log();
        engine.append_mark()?;
        engine.commit_index()?;
        self.put_ranges_aside(sick, unrepaired)?;
        for row in sick.iter().flat_map(|sick| &sick.lost) {
            self.go_on()?;
            self.save(row)?;
        }
        engine.commit_index()?;
        let mut is_whole = self.mend_flaws(flaws)?;
        for sick in sick {
            self.go_on()?;
            is_whole &= self.rescue(compactor, sick)?;
        }
        if is_whole {
            engine.state().compaction.notes.push(SegmentNote::Repaired);
            engine.commit_index()?;
            engine.state().unrepaired = Unrepaired::default();
        }
        Ok(is_whole)
    }

    /// Copies what cannot be read into `quarantine/`.
    fn put_ranges_aside(&self, sick: &[Sick], unrepaired: &Unrepaired) -> Result<()> {
        let layout = &self.engine().layout;
        let found = sick
            .iter()
            .flat_map(|sick| sick.damaged.iter().map(|range| (layout.segment(sick.id), range.clone())));
        let earlier = unrepaired.damaged.iter().map(|damaged| (damaged.path.clone(), damaged.range.clone()));
        let all: BTreeSet<_> =
            found.chain(earlier).map(|(path, range)| (path, range.start, range.end)).collect();
        let known = quarantine::list(&*self.engine().vfs, layout)?;
        for (path, start, end) in all.into_iter().filter(|(_, start, end)| start < end) {
            let file = match self.engine().vfs.open(&path, Access::Read) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                file => file.map_err(|e| Error::io("open", &path, e))?,
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let len =
                file.stat().map_err(|e| Error::io("look at", &path, e))?.size.min(end).saturating_sub(start);
            let copied = format!("{name}-{start}-{end}");
            // An earlier run may have come so far.
            if len > 0 && !known.iter().any(|known| known.name == copied && known.size == len) {
                self.copy_aside(&*file, &name, start..end)?;
            }
        }
        Ok(())
    }

    /// Records anew what a row says, as far as that is known without the record.
    fn save(&self, row: &Row) -> Result<()> {
        match row {
            Row::Tag(tag, row) => {
                self.record_tag(tag, row.content)?;
                self.report.info(format!("tag \"{tag}\" was recorded anew"), Some(row.content.hash))
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

    fn save_small(&self, hash: Hash, row: &BlobRow) -> Result<()> {
        if let Ok(data) = futures_lite::future::block_on(self.store.read_to_bytes(hash)) {
            let (found, outboard) = hash_small(&data);
            if found == hash {
                return self.record_blob(hash, row, Op::Small { hash, data, outboard });
            }
        }
        let proved = futures_lite::future::block_on(self.store.verified_ranges(hash));
        let proved = proved.ok().flatten().unwrap_or_else(ChunkRanges::empty);
        if self.try_demote(hash, row, ChunkRanges::all() - proved)? {
            Ok(())
        } else {
            self.give_up(hash, row)
        }
    }

    /// Nothing is left of a blob that could be read: it is removed, and named.
    fn give_up(&self, hash: Hash, row: &BlobRow) -> Result<()> {
        self.change(hash, row, || Op::Delete { hashes: vec![hash] })?;
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
        self.change(hash, row, || op)?;
        self.report.info("it was recorded anew, and nothing of it is lost".to_owned(), Some(hash))
    }

    /// Replaces the record of a blob, unless there is another one by now.
    fn change(&self, hash: Hash, row: &BlobRow, op: impl FnOnce() -> Op) -> Result<()> {
        let engine = self.engine();
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        let op = op();
        engine.transact_blocking(&keys, op.weight(), |state, looked| {
            let pin = engine.pins.insert_complete(state, hash);
            let is_it = state.blob_row(&hash, looked).is_some_and(|now| now == *row)
                && matches!(state.pending_blob(&hash, looked), Some((_, Killed::Segment(_))));
            Ok(if is_it { Decision::Write(vec![op], smallvec![pin], ()) } else { Decision::Nothing(()) })
        })
    }

    fn record_tag(&self, tag: &Tag, content: HashAndFormat) -> Result<()> {
        let engine = self.engine();
        let keys = Keys { blobs: SmallVec::new(), tags: smallvec![tag.clone()] };
        engine.transact_blocking(&keys, 0, |state, looked| {
            let now = state.pending_tag(tag, looked);
            Ok(if matches!(now, Some((now, Killed::Segment(_))) if now == content) {
                let pin = engine.pins.tag(state, content);
                Decision::Write(vec![Op::TagSet { tag: tag.clone(), content }], smallvec![pin], ())
            } else {
                Decision::Nothing(())
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

    fn rescue(&self, compactor: &mut Compactor, sick: &Sick) -> Result<bool> {
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
        let rescued = compactor.rescue(self.engine(), sick.id, &rows, self.report.watch())?;
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
