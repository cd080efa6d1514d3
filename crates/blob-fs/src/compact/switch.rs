//! Lets rows point to a packed segment, and removes what it replaces (E57 steps 5 to 7).

use std::collections::BTreeSet;

use blob_traits::{Error, Result};

use super::{
    Compactor, Stop, Stopped,
    plan::{self, OnDamage, Victim, to_look_up},
};
use crate::{
    engine::{Engine, IDLE},
    files::FileKey,
    format::scan::{ScannedRecord, SeqRule},
    index::SegmentNote,
    op::Key,
    row::Place,
    segments::{self, PackedSegment},
    state::{Phase, Relocation},
};

/// So many rows change under one hold of the state lock.
const SLICE: usize = 256;

/// A packed segment that is in the log, and whose rows are not all in the index.
#[derive(Clone, Debug)]
pub(super) struct Unapplied {
    pub(super) segment: PackedSegment,
    pub(super) held: u64,
    pub(super) held_for: BTreeSet<u32>,
}

impl Unapplied {
    /// Changes the rows and commits them. Repeating it does no harm.
    pub(super) fn apply(&self, engine: &Engine, stop: &Stop<'_>) -> Result<(), Stopped> {
        let (id, header, end) = (self.segment.id(), self.segment.header.clone(), self.segment.size);
        let this = Victim { header, end, seqs: SeqRule::Ascending };
        let file = segments::open(&*engine.vfs, &engine.layout, id)?;
        let mut slice = Vec::new();
        plan::visit(engine, &*file, &this, OnDamage::Stop, &mut |record| {
            slice.extend(relocation(id, &record));
            if slice.len() >= SLICE {
                stop.check()?;
                relocate(engine, &mut slice)?;
            }
            Ok(())
        })?;
        relocate(engine, &mut slice)?;
        let held_for = self.held_for.iter().copied().collect();
        engine.state().compaction.notes.push(SegmentNote::Applied { id, held: self.held, held_for });
        Ok(engine.commit_index()?)
    }
}

fn relocation(segment: u32, record: &ScannedRecord) -> Option<Relocation> {
    let offset = u32::try_from(record.offset).ok()?;
    let key: Key = plan::key(record)?;
    Some(Relocation { key, seq: record.header.seq, to: Place { segment, offset } })
}

fn relocate(engine: &Engine, slice: &mut Vec<Relocation>) -> Result<(), Stopped> {
    let keys = to_look_up(slice.iter().map(|relocation| &relocation.key));
    let rows = engine.decide_unrecorded(&keys, |state, looked| {
        state.relocate(slice, looked);
        state.visible.rows()
    })?;
    slice.clear();
    if rows >= engine.options.overlay_rows {
        engine.commit_index()?;
    }
    Ok(())
}

impl Engine {
    /// Has all that is visible now brought into the index, and waits for it. Blocks.
    pub(crate) fn commit_index(&self) -> Result<()> {
        let mut state = self.state();
        let failures = state.index_failures;
        let target = state.commits.0 + u64::from(state.has_uncommitted());
        while state.commits.1 < target {
            if state.phase != Phase::Open {
                return Err(Error::Closed);
            }
            if state.index_failures > failures {
                return Err(state.index_error());
            }
            state.commit_wanted = true;
            state = self.wait_index(state, IDLE);
        }
        Ok(())
    }
}

impl Engine {
    /// Has the index written anew where it is mostly room that nobody needs. Blocks.
    pub(crate) fn shrink_index(&self) -> Result<()> {
        let mut state = self.state();
        state.compaction.shrinks.0 += 1;
        let (wanted, failures) = (state.compaction.shrinks.0, state.index_failures);
        while state.compaction.shrinks.1 < wanted {
            if state.phase != Phase::Open {
                return Err(Error::Closed);
            }
            if state.index_failures > failures {
                return Err(state.index_error());
            }
            state = self.wait_index(state, IDLE);
        }
        Ok(())
    }
}

impl Compactor {
    /// Whether something is left to be done that no commit of the index will tell of.
    pub(super) fn has_pending(&self) -> bool {
        !self.replaced.is_empty() || !self.unsynced.is_empty() || self.unapplied.is_some()
    }

    /// Removes replaced segments that nobody reads any more, and makes that durable.
    pub(super) fn remove_replaced(&mut self, engine: &Engine) -> Result<()> {
        let ready: Vec<u32> = {
            let state = engine.state();
            let is_free = |id: &&u32| !state.handles.is_segment_pinned(**id);
            self.replaced.iter().filter(is_free).copied().collect()
        };
        for id in ready {
            engine.files.forget(FileKey::Segment(id));
            let path = engine.layout.segment(id);
            match engine.vfs.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, e));
                }
                _ => {}
            }
            self.replaced.remove(&id);
            self.unsynced.insert(id);
        }
        engine.state().compaction.pending_segments = self.replaced.len();
        self.sync_removals(engine)
    }

    fn sync_removals(&mut self, engine: &Engine) -> Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        let dir = engine.layout.log_dir();
        engine.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))?;
        self.removals += self.unsynced.len() as u64;
        let removed = std::mem::take(&mut self.unsynced).into_iter().map(SegmentNote::Removed);
        engine.state().compaction.notes.extend(removed);
        Ok(())
    }
}
