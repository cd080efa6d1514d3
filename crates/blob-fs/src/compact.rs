//! Compaction: the space of dead records comes back (E54 to E60).
//!
//! One pass rewrites some segments into one packed segment. `victims` decides what is worth it and what may be
//! forgotten, `plan` reads, `copy` writes, `switch` lets the rows follow and removes what was replaced.

mod copy;
#[cfg(test)]
mod model;
mod plan;
mod public;
mod rescue;
mod scene;
mod switch;
mod victims;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use blob_traits::{Error, Result, blocking::Watch};
use smallvec::SmallVec;

pub use self::public::{CompactOptions, CompactReport, Space};
pub(crate) use self::rescue::{Rescued, Stranded};
use self::{
    copy::{Output, Recipe},
    plan::{Item, OnDamage, Plan, Victim},
    scene::Scene,
    switch::Unapplied,
    victims::{Candidate, Rule, choose},
};
use crate::{
    engine::{Decision, Engine, Keys, Look},
    format::record::PACK_END_LEN,
    index::AllStats,
    op::Op,
    segments,
    state::Phase,
};

/// Where the disk is full, a pass that would write no more than this is the last to be tried.
const LEAST_ROOM: u64 = 256 << 10;

/// What compaction remembers between its passes. The lock around it sees to it that there is one at a time.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    /// A new segment that may or may not have come into the log durably. Nothing refers to it.
    doubtful: Option<u32>,
    unapplied: Option<Unapplied>,
    /// Replaced segments that somebody may still read.
    replaced: BTreeSet<u32>,
    /// Removed ones, which a crash could still bring back.
    unsynced: BTreeSet<u32>,
    /// How many have gone.
    removals: u64,
    /// Segments of which too much is still needed: how much was live, and how many had gone by then.
    unworthy: BTreeMap<u32, (u64, u64)>,
    /// Segments that cannot be read whole. They are left as they are (E68).
    damaged: BTreeSet<u32>,
}

/// Why a pass came to no end.
#[derive(Debug)]
enum Stopped {
    /// A segment cannot be read whole.
    Damaged(u32),
    Failed(Error),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Says when to stop: when the store closes, or nobody waits for the result.
struct Stop<'a> {
    engine: &'a Engine,
    watch: Option<&'a Watch>,
}

impl Stop<'_> {
    fn check(&self) -> Result<()> {
        self.watch.map_or(Ok(()), Watch::check)?;
        self.engine.state().check_readable()
    }
}

/// Keeps to a number of bytes per second.
#[derive(Debug)]
struct Pace {
    bytes_per_second: Option<u64>,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    fn new(bytes_per_second: Option<u64>) -> Self {
        Self { bytes_per_second, begun: Instant::now(), bytes: 0 }
    }

    /// Waits until so many more bytes are due.
    fn spent(&mut self, bytes: u64, stop: &Stop<'_>) -> Result<(), Stopped> {
        self.bytes += bytes;
        let Some(rate) = self.bytes_per_second else { return Ok(()) };
        let nanos = u128::from(self.bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let due = self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
            stop.check()?;
            stop.engine.rest(wait.min(Duration::from_millis(100)));
        }
        Ok(())
    }
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default)]
struct Pass {
    bytes_before: u64,
    bytes_after: u64,
}

impl Compactor {
    /// Finishes what an earlier pass began; removes what it replaced.
    fn settle(&mut self, engine: &Engine, stop: &Stop<'_>) -> Result<(), Stopped> {
        if let Some(id) = self.doubtful {
            let path = engine.layout.segment(id);
            match engine.vfs.remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path, e).into());
                }
                _ => {}
            }
            let dir = engine.layout.log_dir();
            engine.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))?;
            self.doubtful = None;
        }
        if let Some(unapplied) = &self.unapplied {
            unapplied.apply(engine, stop).map_err(|stopped| match stopped {
                Stopped::Damaged(id) => Stopped::Failed(Error::DamagedStore {
                    path: engine.layout.segment(id),
                    what: "what was just written cannot be read".to_owned(),
                }),
                failed @ Stopped::Failed(_) => failed,
            })?;
            self.replaced.extend(&unapplied.segment.replaces);
            self.unapplied = None;
        }
        Ok(self.remove_replaced(engine)?)
    }

    /// Rewrites what is worth it into one segment; `None`: nothing is.
    fn pass(
        &mut self,
        engine: &Engine,
        rule: &Rule,
        stop: &Stop<'_>,
        pace: &mut Pace,
    ) -> Result<Option<Pass>, Stopped> {
        self.settle(engine, stop)?;
        engine.make_kills_certain()?;
        let mut scene = Scene::look(engine)?;
        let mut candidates = self.candidates(&scene, rule);
        loop {
            stop.check()?;
            let chosen = choose(&candidates, rule);
            if chosen.is_empty() {
                return Ok(None);
            }
            scene.standing.victims = chosen.iter().copied().collect();
            scene.standing.packed = scene.staying_packed();
            let victims = scene.victims();
            let plans = self.plans(engine, &scene, &victims, stop)?;
            // Where much less can be freed than it seemed, more removals are needed than was known.
            let poor: Vec<u32> =
                plans.iter().filter(|p| p.is_poor(&candidates, rule)).map(|p| p.id).collect();
            if poor.is_empty() {
                return self.rewrite(engine, &scene, &victims, plans, stop, pace).map(Some);
            }
            for id in poor {
                let live = scene.stats.segments.get(&id).map_or(0, |stats| stats.live);
                self.unworthy.insert(id, (live, self.removals));
                candidates.retain(|candidate| candidate.id != id);
            }
        }
    }

    /// Rewrites less at once where the disk is full: what the first segments give back is room for the next (E60).
    /// The reserve is given up for it, and never used up (E61).
    fn pass_in_room(
        &mut self,
        engine: &Engine,
        rule: &Rule,
        stop: &Stop<'_>,
        pace: &mut Pace,
    ) -> Result<Option<Pass>, Stopped> {
        let mut rule = *rule;
        loop {
            if engine.reserve.is_given_up() {
                if !self.replaced.is_empty() {
                    // Somebody reads what the last pass has replaced: the next would take as much room again.
                    self.settle(engine, stop)?;
                    if !self.replaced.is_empty() {
                        return Ok(None);
                    }
                }
                let reserve = engine.reserve.wanted(engine.stored_bytes()?);
                rule.room = rule.room.min(reserve / 4);
                rule.most = reserve / 2;
            }
            let before = engine.reserve.n_given_up();
            match self.pass(engine, &rule, stop, pace) {
                Err(Stopped::Failed(Error::NoSpace { .. })) if rule.room > LEAST_ROOM => {
                    rule.room = LEAST_ROOM.max(rule.room / 8);
                }
                Err(Stopped::Failed(Error::NoSpace { .. }))
                    if engine.reserve.give_up(&*engine.vfs, before) => {}
                passed => return passed,
            }
        }
    }

    fn candidates(&self, scene: &Scene, rule: &Rule) -> Vec<Candidate> {
        let is_sealed = |id: u32| id < scene.checkpoint && id <= rule.newest;
        let log = scene.segments.log.iter().filter(|segment| is_sealed(segment.id())).filter_map(|s| {
            let live = scene.stats.segments.get(&s.id()).map_or(0, |stats| stats.live);
            let size = s.known_end?;
            Some(Candidate { id: s.id(), size, overhead: s.header.len(), live, held: 0 })
        });
        let packed = scene.segments.packed.iter().filter_map(|packed| {
            let stats = scene.stats.segments.get(&packed.id()).filter(|stats| stats.applied)?;
            // What it replaces is forgotten with it, so that has to be gone (E57 step 1).
            let gone = packed.replaces.iter().all(|id| !scene.standing.existing.contains(id));
            let is_held = scene.standing.may_need(packed.built_at, &stats.held_for);
            (gone && packed.is_whole).then(|| Candidate {
                id: packed.id(),
                size: packed.size,
                overhead: packed.header.len() + PACK_END_LEN,
                live: stats.live,
                held: if is_held { stats.held } else { 0 },
            })
        });
        let fits = |candidate: &Candidate| {
            !self.damaged.contains(&candidate.id)
                && self.unworthy.get(&candidate.id).is_none_or(|(live, removals)| {
                    *removals != self.removals || candidate.live.saturating_add(candidate.size / 16) < *live
                })
        };
        log.chain(packed).filter(fits).collect()
    }

    fn plans(
        &mut self,
        engine: &Engine,
        scene: &Scene,
        victims: &[Victim],
        stop: &Stop<'_>,
    ) -> Result<Vec<VictimPlan>, Stopped> {
        let mut plans = Vec::new();
        for victim in victims {
            let plan = plan::plan(engine, victim, &scene.standing, stop, OnDamage::Stop)
                .inspect_err(|e| self.note_damage(e))?;
            plans.push(VictimPlan { id: victim.id(), plan });
        }
        Ok(plans)
    }

    fn note_damage(&mut self, stopped: &Stopped) {
        if let Stopped::Damaged(id) = stopped {
            tracing::warn!(segment = id, "a segment is damaged and stays as it is");
            self.damaged.insert(*id);
        }
    }

    fn rewrite(
        &mut self,
        engine: &Engine,
        scene: &Scene,
        victims: &[Victim],
        plans: Vec<VictimPlan>,
        stop: &Stop<'_>,
        pace: &mut Pace,
    ) -> Result<Pass, Stopped> {
        scene.trim(engine)?;
        let bytes_before = victims.iter().map(|victim| victim.end).sum();
        let last_seq = plans.iter().map(|plan| plan.plan.last_seq).max().unwrap_or(0);
        let mut items: Vec<Item> = plans.into_iter().flat_map(|plan| plan.plan.items).collect();
        items.sort_unstable();
        let id = engine.take_packed_id().map_err(|failure| failure.to_error())?;
        let (standing, history) = (&scene.standing, scene.history());
        let store_id = scene.segments.store_id().unwrap_or_default();
        let recipe = Recipe { id, store_id, victims, history, items, last_seq, standing };
        let output = copy::copy(engine, &recipe, stop, pace).inspect_err(|e| self.note_damage(e))?;
        self.bring_in(engine, id, &output)?;
        let listed = segments::list(&*engine.vfs, &engine.layout)?;
        let Some(segment) = listed.packed.into_iter().find(|packed| packed.id() == id) else {
            return Err(Error::Failed { what: "a segment has gone".to_owned() }.into());
        };
        self.unapplied = Some(Unapplied { segment, held: output.held, held_for: output.held_for });
        self.doubtful = None;
        self.settle(engine, stop)?;
        Ok(Pass { bytes_before, bytes_after: output.size })
    }

    /// Gives a whole segment its place in the log. From then on it counts (E57 step 4).
    fn bring_in(&mut self, engine: &Engine, id: u32, output: &Output) -> Result<(), Stopped> {
        let (temp, path, dir) = (&output.temp, engine.layout.segment(id), engine.layout.log_dir());
        // What was taken for dead must not come back with a power cut.
        if let Err(failure) = engine.sync_log() {
            let _ = engine.vfs.remove_file(temp);
            return Err(failure.to_error().into());
        }
        self.doubtful = Some(id);
        let moved = engine.vfs.rename(temp, &path).and_then(|()| engine.vfs.sync_dir(&dir));
        if let Err(e) = moved {
            let _ = engine.vfs.remove_file(temp);
            return Err(Error::io("move into the log", path, e).into());
        }
        Ok(())
    }
}

struct VictimPlan {
    id: u32,
    plan: Plan,
}

impl VictimPlan {
    /// Whether less than half of what was expected comes back.
    fn is_poor(&self, candidates: &[Candidate], rule: &Rule) -> bool {
        let Some(candidate) = candidates.iter().find(|candidate| candidate.id == self.id) else {
            return false;
        };
        let freed = candidate.size.saturating_sub(candidate.overhead).saturating_sub(self.plan.bytes);
        let grows = candidate.overhead + self.plan.bytes > candidate.size;
        grows || (rule.is_worth(candidate.dead(), candidate.size) && freed * 2 < candidate.dead())
    }
}

impl Engine {
    /// How much of each segment is live, as of the last commit of the index.
    pub(crate) fn stats(&self) -> Result<AllStats> {
        self.look(|_| Look::Ask(()), |reader, ()| reader.stats())
    }

    /// Waits until no record is on its way that names, in `kills`, a segment whose rows have moved (E57 step 1).
    fn make_kills_certain(&self) -> Result<()> {
        if self.state().are_kills_certain() { Ok(()) } else { self.append_mark() }
    }

    /// Appends a record that says nothing, and waits for it and so for all before it.
    pub(crate) fn append_mark(&self) -> Result<()> {
        let mark = || Decision::Write(vec![Op::Mark], SmallVec::new(), ());
        self.transact_blocking(&Keys::default(), 0, |_, _| Ok(mark()))
    }

    /// Waits, unless the store closes.
    fn rest(&self, time: Duration) {
        let state = self.state();
        if state.phase == Phase::Open {
            drop(self.wait_compactor(state, time));
        }
    }
}
