//! A model of E55 to E59 without files: random interleavings of writing, compacting, crashes and a lost index. The
//! rule is that of `Standing`; each way to do it wrong must be noticed.

use std::collections::{BTreeMap, BTreeSet};

use super::victims::Standing;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    Nothing,
    /// Records that replace others do not say so.
    KillsLeftOut,
    /// A removal is forgotten as soon as the segment of what it removed has gone.
    DroppedTooEarly,
    /// `built_at` is the last seq that was given out, not the last that was published.
    BuiltAtAssigned,
    /// A packed segment with a damaged end is taken for an interrupted compaction.
    DamagedEndRemoved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rec {
    seq: u64,
    key: usize,
    sets: bool,
    kills: u32,
}

#[derive(Clone, Debug, Default)]
struct Segment {
    records: Vec<Rec>,
    replaces: Vec<u32>,
    built_at: u64,
    is_packed: bool,
    is_whole: bool,
}

/// A compaction on its way.
#[derive(Debug)]
struct Pass {
    id: u32,
    standing: Standing,
    todo: Vec<(u32, Rec)>,
    output: Segment,
}

const KEYS: usize = 4;

struct Model {
    wrong: Wrong,
    dice: u64,
    segments: BTreeMap<u32, Segment>,
    active: u32,
    newest: u32,
    seq: u64,
    published: u64,
    /// What readers see: seq and segment.
    rows: BTreeMap<usize, (u64, u32)>,
    pending: BTreeMap<usize, Option<u32>>,
    queue: Vec<Rec>,
    pass: Option<Pass>,
    /// Replaced and not removed yet.
    replaced: Vec<u32>,
    certain_at: u64,
}

impl Model {
    fn new(wrong: Wrong, seed: u64) -> Self {
        let mut model = Self {
            wrong,
            dice: seed,
            segments: BTreeMap::new(),
            active: 0,
            newest: 0,
            seq: 0,
            published: 0,
            rows: BTreeMap::new(),
            pending: BTreeMap::new(),
            queue: Vec::new(),
            pass: None,
            replaced: Vec::new(),
            certain_at: 0,
        };
        model.roll_segment();
        model
    }

    fn roll(&mut self, below: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    fn roll_segment(&mut self) {
        self.newest += 1;
        self.active = self.newest;
        self.segments.insert(self.active, Segment::default());
    }

    fn enqueue(&mut self, key: usize, sets: bool) {
        let old = match self.pending.get(&key) {
            Some(pending) => *pending,
            None => self.rows.get(&key).map(|row| row.1),
        };
        if !sets && old.is_none() {
            return;
        }
        let left_out = self.wrong == Wrong::KillsLeftOut && sets;
        let kills = if left_out { 0 } else { old.unwrap_or(0) };
        self.seq += 1;
        self.queue.push(Rec { seq: self.seq, key, sets, kills });
        self.pending.insert(key, sets.then_some(self.active));
    }

    fn publish(&mut self) {
        for record in std::mem::take(&mut self.queue) {
            self.segments.get_mut(&self.active).unwrap().records.push(record);
            self.published = record.seq;
            if record.sets {
                self.rows.insert(record.key, (record.seq, self.active));
            } else {
                self.rows.remove(&record.key);
            }
        }
        self.pending.clear();
    }

    fn begin_pass(&mut self) {
        if self.published < self.certain_at && !self.queue.is_empty() {
            return;
        }
        let pinned = |segment: &Segment| segment.replaces.iter().any(|id| self.segments.contains_key(id));
        let mut candidates: Vec<u32> = self
            .segments
            .iter()
            .filter(|(id, segment)| **id != self.active && !self.replaced.contains(id) && !pinned(segment))
            .map(|(id, _)| *id)
            .collect();
        let mut victims = BTreeSet::new();
        for _ in 0..=self.roll(2) {
            if !candidates.is_empty() {
                let at = self.roll(candidates.len() as u64);
                victims.insert(candidates.swap_remove(usize::try_from(at).unwrap()));
            }
        }
        if victims.is_empty() {
            return;
        }
        self.newest += 1;
        let built_at = if self.wrong == Wrong::BuiltAtAssigned { self.seq } else { self.published };
        let packed = self.segments.iter().filter(|(id, s)| s.is_packed && !victims.contains(id));
        let standing = Standing {
            existing: self.segments.keys().copied().collect(),
            packed: packed.map(|(_, s)| (s.built_at, s.replaces.clone())).collect(),
            victims: victims.clone(),
            built_at,
        };
        let records = |id: &u32| self.segments[id].records.iter().map(|r| (*id, *r)).collect::<Vec<_>>();
        let todo = victims.iter().flat_map(records).collect();
        let replaces = victims.into_iter().collect();
        let output = Segment { replaces, built_at, is_packed: true, is_whole: true, records: Vec::new() };
        self.pass = Some(Pass { id: self.newest, standing, todo, output });
    }

    fn continue_pass(&mut self) {
        let Some(mut pass) = self.pass.take() else { return self.begin_pass() };
        if let Some((segment, record)) = pass.todo.pop() {
            if record.sets && self.rows.get(&record.key) == Some(&(record.seq, segment)) {
                pass.output.records.push(record);
            } else if self.needs(&pass.standing, &record) {
                pass.output.records.push(Rec { sets: false, ..record });
            }
            self.pass = Some(pass);
            return;
        }
        for record in pass.output.records.iter().filter(|record| record.sets) {
            if self.rows.get(&record.key).is_some_and(|row| row.0 == record.seq) {
                self.rows.insert(record.key, (record.seq, pass.id));
            }
        }
        self.replaced.extend(&pass.output.replaces);
        self.segments.insert(pass.id, pass.output);
        self.certain_at = self.seq;
    }

    fn needs(&self, standing: &Standing, record: &Rec) -> bool {
        if self.wrong == Wrong::DroppedTooEarly {
            return standing.existing.contains(&record.kills) && !standing.victims.contains(&record.kills);
        }
        standing.needs(record.seq, record.kills)
    }

    /// Opens the store without its index.
    fn rebuild(&mut self) {
        self.pass = None;
        self.queue.clear();
        self.pending.clear();
        if self.wrong == Wrong::DamagedEndRemoved {
            self.segments.retain(|_, segment| !segment.is_packed || segment.is_whole);
        }
        let whole = self.segments.values().filter(|segment| segment.is_packed && segment.is_whole);
        let replaced: BTreeSet<u32> = whole.flat_map(|segment| segment.replaces.iter().copied()).collect();
        self.segments.retain(|id, _| !replaced.contains(id));
        self.replaced.clear();
        self.rows = self.view();
        self.roll_segment();
        self.certain_at = 0;
    }

    fn view(&self) -> BTreeMap<usize, (u64, u32)> {
        let whole = self.segments.values().filter(|segment| segment.is_packed && segment.is_whole);
        let replaced: BTreeSet<u32> = whole.flat_map(|segment| segment.replaces.iter().copied()).collect();
        let mut best = BTreeMap::<usize, (u64, bool, u32)>::new();
        for (id, segment) in self.segments.iter().filter(|(id, _)| !replaced.contains(id)) {
            for record in &segment.records {
                let last = best.entry(record.key).or_default();
                if record.seq >= last.0 {
                    *last = (record.seq, record.sets, *id);
                }
            }
        }
        let set = best.into_iter().filter(|(_, last)| last.1);
        set.map(|(key, (seq, _, id))| (key, (seq, id))).collect()
    }

    fn step(&mut self) -> Result<(), String> {
        let key = usize::try_from(self.roll(KEYS as u64)).unwrap();
        match self.roll(100) {
            0..25 => self.enqueue(key, true),
            25..40 => self.enqueue(key, false),
            40..58 => self.publish(),
            58..60 => {
                self.queue.clear();
                self.pending.clear();
            }
            60..67 if self.queue.is_empty() => self.roll_segment(),
            67..90 => self.continue_pass(),
            90..95 => {
                if let Some(id) = self.replaced.pop() {
                    self.segments.remove(&id);
                }
            }
            95..97 => {
                // Only the end is damaged: what it says can be read.
                let there: BTreeSet<u32> = self.segments.keys().copied().collect();
                let packed = self.segments.values_mut().filter(|segment| segment.is_packed);
                let mut alone =
                    packed.filter(|segment| segment.replaces.iter().all(|id| !there.contains(id)));
                if let Some(segment) = alone.next() {
                    segment.is_whole = false;
                    let before = self.rows.keys().copied().collect::<Vec<_>>();
                    self.rebuild();
                    let after = self.rows.keys().copied().collect::<Vec<_>>();
                    if before != after {
                        return Err(format!("damage: {before:?} became {after:?}"));
                    }
                    self.segments.values_mut().for_each(|segment| segment.is_whole = true);
                }
            }
            97.. => self.rebuild_and_compare()?,
            _ => {}
        }
        let (rows, view) = (seqs(&self.rows), seqs(&self.view()));
        if rows == view { Ok(()) } else { Err(format!("{rows:?} would become {view:?}")) }
    }

    fn rebuild_and_compare(&mut self) -> Result<(), String> {
        let before = seqs(&self.rows);
        self.rebuild();
        let after = seqs(&self.rows);
        if before == after { Ok(()) } else { Err(format!("{before:?} became {after:?}")) }
    }
}

fn seqs(rows: &BTreeMap<usize, (u64, u32)>) -> BTreeMap<usize, u64> {
    rows.iter().map(|(key, row)| (*key, row.0)).collect()
}

/// Whether a run comes to something untrue.
fn is_untrue(wrong: Wrong, seed: u64) -> bool {
    let mut model = Model::new(wrong, seed);
    (0..300).any(|_| model.step().is_err())
}

#[test]
fn nothing_deleted_comes_back_and_nothing_live_is_lost() {
    assert_eq!((0..1000).find(|seed| is_untrue(Wrong::Nothing, *seed)), None);
}

#[test]
fn each_way_to_do_it_wrong_is_noticed() {
    for wrong in
        [Wrong::KillsLeftOut, Wrong::DroppedTooEarly, Wrong::BuiltAtAssigned, Wrong::DamagedEndRemoved]
    {
        let noticed = (0..4000).find(|seed| is_untrue(wrong, *seed));
        println!("{wrong:?}: run {noticed:?}");
        assert!(noticed.is_some(), "{wrong:?}");
    }
}
