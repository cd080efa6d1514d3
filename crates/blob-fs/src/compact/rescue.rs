//! Rewriting a segment that cannot be read whole: what can be read of it moves, so that it can go (E68).

use std::collections::BTreeSet;

use blob_traits::{Error, Result, blocking::Watch};

use super::{
    Compactor, Pace, Stop, Stopped, VictimPlan,
    plan::{self, Item, Keep, OnDamage},
    scene::Scene,
};
use crate::{engine::Engine, format::record::padded_len, segments::PackedSegment};

/// What became of a damaged segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rescued {
    /// Nothing refers to it any more. It goes when nobody reads it.
    Done,
    /// It has something that cannot be copied, and stays.
    Stays,
}

/// A record that can be read, although the transaction that it is in cannot be read whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranded {
    pub(crate) seq: u64,
    pub(crate) offset: u64,
    pub(crate) payload_len: u64,
}

impl Compactor {
    /// Moves what can be read of a segment to a new one. No row may need what cannot be read, and all must be committed.
    /// Where segments that are to be `left` would go with it, it stays.
    pub(crate) fn rescue(
        &mut self,
        engine: &Engine,
        id: u32,
        stranded: &[Stranded],
        left: &BTreeSet<u32>,
        watch: &Watch,
    ) -> Result<Rescued> {
        let stop = Stop { engine, watch: Some(watch) };
        match self.try_rescue(engine, id, stranded, left, &stop) {
            Ok(rescued) => Ok(rescued),
            Err(Stopped::Damaged(_)) => Ok(Rescued::Stays),
            Err(Stopped::Failed(e)) => Err(e),
        }
    }

    fn try_rescue(
        &mut self,
        engine: &Engine,
        id: u32,
        stranded: &[Stranded],
        left: &BTreeSet<u32>,
        stop: &Stop<'_>,
    ) -> Result<Rescued, Stopped> {
        self.settle(engine, stop)?;
        engine.make_kills_certain()?;
        let mut scene = Scene::look(engine)?;
        let Some(victims) = scene.with_copies(id) else {
            return Ok(if scene.segments.is_there(id) { Rescued::Stays } else { Rescued::Done });
        };
        if victims.iter().any(|victim| left.contains(victim)) {
            return Ok(Rescued::Stays);
        }
        scene.standing.victims = victims.into_iter().collect();
        scene.standing.packed = scene.staying_packed();
        let victims = scene.victims();
        let mut plans = Vec::new();
        for victim in &victims {
            let mut plan = plan::plan(engine, victim, &scene.standing, stop, OnDamage::GoOn)?;
            if victim.id() == id {
                for Stranded { seq, offset, payload_len } in stranded {
                    plan.items.push(Item { seq: *seq, segment: id, offset: *offset, keep: Keep::Live });
                    plan.bytes += padded_len(u32::try_from(*payload_len).unwrap_or(u32::MAX));
                    plan.last_seq = plan.last_seq.max(*seq);
                }
            }
            plans.push(VictimPlan { id: victim.id(), plan });
        }
        self.damaged.remove(&id);
        self.rewrite(engine, &scene, &victims, plans, stop, &mut Pace::new(None))?;
        Ok(Rescued::Done)
    }
}

impl Scene {
    /// The segment, and those that it should have taken the place of and that are still read (E58). `None`: it is not one
    /// that can be rewritten.
    fn with_copies(&self, id: u32) -> Option<Vec<u32>> {
        if self.segments.log.iter().any(|segment| segment.id() == id) {
            return (id < self.checkpoint).then(|| vec![id]);
        }
        let packed: &PackedSegment = self.segments.packed.iter().find(|packed| packed.id() == id)?;
        let copied = packed.replaces.iter().copied();
        let mut victims: Vec<u32> = copied.filter(|id| self.segments.is_there(*id)).collect();
        victims.push(id);
        Some(victims)
    }
}

impl crate::segments::Segments {
    /// Whether a segment is there and read.
    fn is_there(&self, id: u32) -> bool {
        self.log.iter().any(|segment| segment.id() == id)
            || self.packed.iter().any(|packed| packed.id() == id)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Failed(error) => error,
            Stopped::Damaged(id) => Self::Failed { what: format!("segment {id} cannot be read whole") },
        }
    }
}
