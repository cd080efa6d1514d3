//! A set of numbers that mostly come in runs.

use std::{collections::BTreeMap, ops::Range};

/// A set of numbers, kept as disjoint runs that do not touch.
///
/// Every operation costs the logarithm of the number of runs for each run that it touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Intervals {
    /// Start to end, end excluded.
    runs: BTreeMap<u64, u64>,
}

impl Intervals {
    /// Adds the numbers of a range.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        // all runs that overlap or touch, the last one first
        while let Some((&run_start, &run_end)) = self.runs.range(..=end).next_back()
            && run_end >= start
        {
            self.runs.remove(&run_start);
            start = start.min(run_start);
            end = end.max(run_end);
        }
        self.runs.insert(start, end);
    }

    /// Removes all numbers from `end` on.
    pub(super) fn truncate(&mut self, end: u64) {
        self.runs.split_off(&end);
        if let Some(mut last) = self.runs.last_entry() {
            let run_end = last.get_mut();
            *run_end = end.min(*run_end);
        }
    }

    /// Returns whether a number is in the set.
    pub(super) fn contains(&self, number: u64) -> bool {
        self.contains_range(number..number.saturating_add(1))
    }

    /// Returns whether all numbers of a range are in the set.
    pub(super) fn contains_range(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self.runs.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// Iterates over the runs, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    /// Iterates over the parts of a range that are in the set, ascending.
    pub(super) fn within(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.runs.range(..=range.start).next_back().map_or(range.start, |(start, _)| *start);
        self.runs
            .range(first..range.end.max(first))
            .map(move |(start, end)| (*start).max(range.start)..(*end).min(range.end))
            .filter(|part| !part.is_empty())
    }

    /// Iterates over the parts of a range that are not in the set, ascending.
    pub(super) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let (mut start, end) = (range.start, range.end);
        self.within(range).chain(std::iter::once(end..end)).filter_map(move |run| {
            let gap = start..run.start;
            start = run.end;
            (!gap.is_empty()).then_some(gap)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(Range<u64>),
        Truncate(u64),
    }

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..40_u64, 0..12_u64).prop_map(|(start, len)| start..start + len)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![6 => range().prop_map(Step::Insert), 1 => (0..50_u64).prop_map(Step::Truncate)]
    }

    #[test]
    fn the_last_number_is_a_number() {
        let mut set = Intervals::default();
        set.insert(u64::MAX - 1..u64::MAX);
        assert!(set.contains(u64::MAX - 1) && !set.contains(u64::MAX - 2));
        assert!(set.contains_range(7..7));
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in prop::collection::vec(step(), 0..20), asked in range()) {
            let mut set = Intervals::default();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(range) => {
                        set.insert(range.clone());
                        model.extend(range);
                    }
                    Step::Truncate(end) => {
                        set.truncate(end);
                        model.retain(|number| *number < end);
                    }
                }
            }
            prop_assert_eq!(set.iter().flatten().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            let runs: Vec<_> = set.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
            prop_assert_eq!(
                set.within(asked.clone()).flatten().collect::<Vec<_>>(),
                model.range(asked.clone()).copied().collect::<Vec<_>>()
            );
            prop_assert_eq!(
                set.gaps(asked.clone()).flatten().collect::<Vec<_>>(),
                asked.clone().filter(|number| !model.contains(number)).collect::<Vec<_>>()
            );
            prop_assert_eq!(set.contains_range(asked.clone()), asked.clone().all(|number| model.contains(&number)));
            prop_assert_eq!(set.contains(asked.start), model.contains(&asked.start));
        }
    }
}
