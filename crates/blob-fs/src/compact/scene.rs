//! What a pass of compaction finds, and what follows from the choice of its victims.

use std::ops::RangeInclusive;

use blob_traits::{Error, Result};

use super::{plan::Victim, victims::Standing};
use crate::{
    engine::Engine,
    format::scan::SeqRule,
    index::AllStats,
    segments::{self, LogSegment, PackedSegment, Segments},
};

/// What a pass finds.
pub(super) struct Scene {
    pub(super) segments: Segments,
    pub(super) stats: AllStats,
    pub(super) standing: Standing,
    /// Log segments below this one are wholly behind the checkpoint.
    pub(super) checkpoint: u32,
}

impl Scene {
    pub(super) fn look(engine: &Engine) -> Result<Self> {
        // First what is published, so that all that is found to be dead was so by then (E57 step 2).
        let (built_at, checkpoint) = {
            let state = engine.state();
            state.check_writable()?;
            state.check_index(&engine.layout)?;
            (state.published.seq, state.committed.segment)
        };
        // Once more where the newest was just being begun.
        let list = || segments::list(&*engine.vfs, &engine.layout);
        let segments = list().or_else(|_| list())?;
        let stats = engine.stats()?;
        let ids = segments.log.iter().map(LogSegment::id);
        let packed = segments.packed.iter().map(PackedSegment::id);
        let existing = ids.chain(packed).chain(segments.replaced.iter().copied()).collect();
        let standing = Standing { existing, built_at, ..Standing::default() };
        let mut scene = Self { segments, stats, standing, checkpoint };
        scene.standing.packed = scene.staying_packed();
        Ok(scene)
    }

    pub(super) fn staying_packed(&self) -> Vec<(u64, Vec<u32>)> {
        let stays = |packed: &&PackedSegment| !self.standing.victims.contains(&packed.id());
        let staying = self.segments.packed.iter().filter(stays);
        staying.map(|packed| (packed.built_at, packed.replaces.clone())).collect()
    }

    pub(super) fn victims(&self) -> Vec<Victim> {
        let is_victim = |id: u32| self.standing.victims.contains(&id);
        let log = self.segments.log.iter().filter(|segment| is_victim(segment.id())).map(|segment| Victim {
            header: segment.header.clone(),
            end: segment.known_end.unwrap_or(segment.size),
            seqs: SeqRule::Consecutive,
        });
        let packed = self.segments.packed.iter().filter(|packed| is_victim(packed.id()));
        log.chain(packed.map(|packed| Victim {
            header: packed.header.clone(),
            end: packed.size,
            seqs: SeqRule::Ascending,
        }))
        .collect()
    }

    /// All that the victims replaced, in ranges (E10).
    pub(super) fn history(&self) -> Vec<RangeInclusive<u32>> {
        let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
        for packed in self.segments.packed.iter().filter(|p| self.standing.victims.contains(&p.id())) {
            ranges.extend(packed.replaces.iter().map(|id| *id..=*id));
            ranges.extend(packed.history.iter().cloned());
        }
        segments::merged(&ranges)
    }

    /// Cuts off what lies behind the end of a segment whose successor, which says where it ends, is going to go.
    pub(super) fn trim(&self, engine: &Engine) -> Result<()> {
        for victim in self.segments.log.iter().filter(|s| self.standing.victims.contains(&s.id())) {
            let (before, end) = victim.before();
            let stays = |s: &&LogSegment| s.id() == before && !self.standing.victims.contains(&before);
            if self.segments.log.iter().find(stays).is_some_and(|segment| segment.size > end) {
                let file = segments::open(&*engine.vfs, &engine.layout, before)?;
                let cut = file.set_len(end).and_then(|()| file.sync_data());
                cut.map_err(|e| Error::io("cut", engine.layout.segment(before), e))?;
            }
        }
        Ok(())
    }
}
