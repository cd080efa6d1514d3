//! What compaction decides, without I/O: which segments are rewritten, and which removals may be forgotten (E55, E57).

use std::collections::BTreeSet;

/// No pass rewrites more segments at once.
const MAX_VICTIMS: usize = 64;
/// Segments are merged when they are shorter than this part of a full one.
const TINY: u64 = 8;

/// A segment that may be rewritten.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: u32,
    pub(super) size: u64,
    /// What a segment with nothing in it would have as well.
    pub(super) overhead: u64,
    /// The bytes that rows name.
    pub(super) live: u64,
    /// The bytes of removals that are known to be needed still.
    pub(super) held: u64,
}

/// What is worth rewriting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rule {
    /// A segment is rewritten when more of it is dead.
    pub(super) max_dead_percent: u8,
    pub(super) segment_size: u64,
    /// No more is to be written, unless it is for one segment alone.
    pub(super) room: u64,
    /// A segment of which more is kept is left alone.
    pub(super) most: u64,
    /// Of the log, only segments up to this one: who writes all the time must not keep compaction from ending.
    pub(super) newest: u32,
    /// So many short segments are merged although nothing in them is dead.
    pub(super) merge: usize,
}

impl Candidate {
    /// What rewriting may free.
    pub(super) fn dead(&self) -> u64 {
        self.size.saturating_sub(self.overhead).saturating_sub(self.live).saturating_sub(self.held)
    }

    fn kept(&self) -> u64 {
        self.live.saturating_add(self.held)
    }

    pub(super) fn is_tiny(&self, rule: &Rule) -> bool {
        self.size < rule.segment_size / TINY
    }
}

impl Rule {
    /// Whether so much of a segment is dead that it is rewritten.
    pub(super) fn is_worth(&self, dead: u64, size: u64) -> bool {
        dead > 0 && u128::from(dead) * 100 > u128::from(size) * u128::from(self.max_dead_percent)
    }
}

/// Chooses what is rewritten into one segment, the segments with the fewest live bytes first (E60).
pub(super) fn choose(candidates: &[Candidate], rule: &Rule) -> Vec<u32> {
    let (mut worth, mut short): (Vec<&Candidate>, Vec<&Candidate>) = candidates
        .iter()
        .filter(|candidate| candidate.kept() <= rule.most)
        .partition(|candidate| rule.is_worth(candidate.dead(), candidate.size));
    short.retain(|candidate| candidate.is_tiny(rule));
    let tiny = short.len() + worth.iter().filter(|candidate| candidate.is_tiny(rule)).count();
    if worth.is_empty() && tiny < rule.merge {
        return Vec::new();
    }
    worth.sort_unstable_by_key(|candidate| (candidate.kept(), candidate.id));
    short.sort_unstable_by_key(|candidate| (candidate.kept(), candidate.id));
    if tiny < 2 {
        short.clear();
    }
    let mut room = rule.room;
    let mut chosen = Vec::new();
    for candidate in worth.into_iter().chain(short).take(MAX_VICTIMS) {
        if candidate.kept() > room && !chosen.is_empty() {
            continue;
        }
        room = room.saturating_sub(candidate.kept());
        chosen.push(candidate.id);
    }
    chosen
}

/// What a removal depends on: the segments that are there while a packed one is built.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// All that exist, or whose removal is not durable yet.
    pub(super) existing: BTreeSet<u32>,
    /// The packed ones that stay: when they were built, and what they replace.
    pub(super) packed: Vec<(u64, Vec<u32>)>,
    /// What is rewritten now. Once the new segment counts they are not read any more.
    pub(super) victims: BTreeSet<u32>,
    /// The highest seq that was published when the new segment was begun.
    pub(super) built_at: u64,
}

impl Standing {
    /// Whether the record that a removal made dead, in segment `kills`, may still be found somewhere (E55).
    ///
    /// There itself, or as a copy in a packed segment that was begun before the removal was published.
    pub(super) fn needs(&self, seq: u64, kills: u32) -> bool {
        let is_victim = self.victims.contains(&kills);
        let copied = |built_at: u64| built_at <= seq;
        kills != 0
            && ((self.existing.contains(&kills) && !is_victim)
                || (is_victim && copied(self.built_at))
                || self.packed.iter().any(|(at, replaces)| copied(*at) && replaces.contains(&kills)))
    }

    /// Whether removals of before `seq` that were kept for these segments may still be needed.
    pub(super) fn may_need(&self, seq: u64, held_for: &[u32]) -> bool {
        held_for.iter().any(|kills| {
            self.existing.contains(kills)
                || self.packed.iter().any(|(at, replaces)| *at <= seq && replaces.contains(kills))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule =
        Rule { max_dead_percent: 50, segment_size: 1000, room: 1000, most: 1000, newest: 99, merge: 3 };

    fn segment(id: u32, size: u64, live: u64) -> Candidate {
        Candidate { id, size, overhead: 10, live, held: 0 }
    }

    #[test]
    fn segment_that_is_mostly_dead_is_rewritten_and_others_are_not() {
        let all = [segment(1, 900, 500), segment(2, 900, 300), segment(3, 900, 890)];
        assert_eq!(choose(&all, &RULE), [2]);
        assert_eq!(choose(&all, &Rule { max_dead_percent: 10, ..RULE }), [2, 1]);
    }

    #[test]
    fn removals_that_are_needed_do_not_count_as_dead() {
        assert_eq!(choose(&[Candidate { held: 500, ..segment(2, 900, 300) }], &RULE), []);
    }

    #[test]
    fn what_is_chosen_fits_one_segment_and_the_emptiest_come_first() {
        let all = [segment(1, 900, 400), segment(2, 900, 0), segment(3, 900, 399), segment(4, 900, 300)];
        assert_eq!(choose(&all, &RULE), [2, 4, 3]);
    }

    #[test]
    fn with_little_room_the_emptiest_alone_are_rewritten() {
        let all = [segment(1, 900, 400), segment(2, 900, 10), segment(3, 900, 100), segment(4, 900, 300)];
        assert_eq!(choose(&all, &Rule { room: 120, ..RULE }), [2, 3]);
        assert_eq!(choose(&all, &Rule { room: 1, ..RULE }), [2]);
        assert_eq!(choose(&all, &Rule { most: 9, ..RULE }), []);
    }

    #[test]
    fn short_segments_are_merged_when_there_are_several() {
        let short = [segment(1, 100, 90), segment(2, 100, 90), segment(3, 100, 90)];
        assert_eq!(choose(&short, &RULE), [1, 2, 3]);
        assert_eq!(choose(&short[..2], &RULE), []);
        // They go along with another one.
        assert_eq!(choose(&[segment(7, 900, 0), short[0].clone(), short[1].clone()], &RULE), [7, 1, 2]);
    }

    fn standing() -> Standing {
        Standing {
            existing: [3, 7, 8].into(),
            packed: vec![(50, vec![1, 2])],
            victims: [7].into(),
            built_at: 90,
        }
    }

    #[test]
    fn removal_is_needed_while_what_it_removed_may_be_found() {
        let standing = standing();
        for (seq, kills, needed) in [
            (60, 0, false),
            (60, 3, true),
            (60, 1, true),  // copied into the packed segment before it was removed
            (49, 1, false), // never copied
            (60, 4, false), // long gone
            (60, 7, false), // rewritten right now, without it
            (90, 7, true),  // perhaps copied right now
        ] {
            assert_eq!(standing.needs(seq, kills), needed, "{seq} {kills}");
        }
        assert!(standing.may_need(60, &[5, 2]) && !standing.may_need(40, &[5, 2]));
        assert!(standing.may_need(40, &[8]));
    }
}
