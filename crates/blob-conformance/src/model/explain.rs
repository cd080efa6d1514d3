//! Looks for an order of calls, one after the other, that explains what concurrent callers were told.
//!
//! A call takes effect at one moment between its invocation and its return. So of two calls that did not overlap the
//! earlier comes first, and all others may come in any order. The search is that of Wing and Gong ("Testing and
//! verifying concurrent objects", 1993): try each call that may come first, then go on with the rest; and with it goes
//! Lowe's remedy ("Testing for linearizability", 2017): what was once in vain, the same calls done with the same state,
//! is not tried again.

use std::{collections::HashSet, hash::Hash};

/// A call, when it was made, and when its answer came, on a clock of all callers.
#[derive(Clone, Debug)]
pub(super) struct Timed<C> {
    pub(super) task: usize,
    pub(super) invoked: u64,
    pub(super) returned: u64,
    pub(super) call: C,
}

/// No order explains a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stuck {
    /// As many calls as could be explained, in an order that does.
    pub(super) explained: Vec<usize>,
    /// The calls of which one had to come next, and none could.
    pub(super) next: Vec<usize>,
}

/// Searches. `step` returns the state after a call, or `None` where the call cannot have been answered so.
///
/// # Errors
/// Tells how far the best attempt came.
pub(super) fn explain<C, S: Clone + Eq + Hash>(
    start: &S,
    history: &[Timed<C>],
    step: impl Fn(&S, &C) -> Option<S>,
) -> Result<(), Stuck> {
    let mut search = Search {
        history,
        step,
        in_vain: HashSet::new(),
        order: Vec::new(),
        best: Stuck { explained: Vec::new(), next: candidates(history, &vec![false; history.len()]) },
    };
    if search.go(&mut vec![false; history.len()], start) { Ok(()) } else { Err(search.best) }
}

struct Search<'a, C, S, F> {
    history: &'a [Timed<C>],
    step: F,
    /// Which calls were done, and with what state.
    in_vain: HashSet<(Vec<bool>, S)>,
    order: Vec<usize>,
    best: Stuck,
}

impl<C, S: Clone + Eq + Hash, F: Fn(&S, &C) -> Option<S>> Search<'_, C, S, F> {
    fn go(&mut self, done: &mut Vec<bool>, state: &S) -> bool {
        let next = candidates(self.history, done);
        if next.is_empty() {
            return true;
        }
        if !self.in_vain.insert((done.clone(), state.clone())) {
            return false;
        }
        if self.order.len() > self.best.explained.len() {
            self.best = Stuck { explained: self.order.clone(), next: next.clone() };
        }
        next.into_iter().any(|i| {
            let after = self.history.get(i).and_then(|timed| (self.step)(state, &timed.call));
            after.is_some_and(|after| {
                self.order.push(i);
                mark(done, i, true);
                let found = self.go(done, &after);
                mark(done, i, false);
                self.order.pop();
                found
            })
        })
    }
}

/// The calls of which one comes next: those made before the first of the rest had its answer.
fn candidates<C>(history: &[Timed<C>], done: &[bool]) -> Vec<usize> {
    let rest = || history.iter().zip(done).enumerate().filter(|(_, (_, done))| !**done);
    let first_return = rest().map(|(_, (timed, _))| timed.returned).min().unwrap_or(0);
    rest().filter(|(_, (timed, _))| timed.invoked < first_return).map(|(i, _)| i).collect()
}

fn mark(done: &mut [bool], i: usize, value: bool) {
    if let Some(done) = done.get_mut(i) {
        *done = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register: writes of a value, and reads that were told one.
    #[derive(Clone, Copy, Debug)]
    enum Call {
        Write(u8),
        Read(u8),
        /// Adds one, and was told what it made.
        Add(u8),
    }
    use Call::{Add, Read, Write};

    fn check(calls: &[(u64, u64, Call)]) -> Result<(), Stuck> {
        let timed = |(task, (invoked, returned, call)): (usize, &(u64, u64, Call))| Timed {
            task,
            invoked: *invoked,
            returned: *returned,
            call: *call,
        };
        let history: Vec<_> = calls.iter().enumerate().map(timed).collect();
        explain(&0, &history, |state, call| match call {
            Write(value) => Some(*value),
            Read(value) => (state == value).then_some(*state),
            Add(told) => (state + 1 == *told).then_some(*told),
        })
    }

    #[test]
    fn one_after_the_other_is_explained() {
        assert_eq!(check(&[(0, 1, Write(5)), (2, 3, Read(5)), (4, 5, Add(6)), (6, 7, Read(6))]), Ok(()));
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn overlapping_calls_come_in_any_order() {
        for told in [0, 5] {
            assert_eq!(check(&[(0, 9, Write(5)), (1, 8, Read(told))]), Ok(()));
        }
        // The later answer may be that of the earlier effect.
        assert_eq!(check(&[(0, 10, Write(1)), (1, 9, Write(2)), (2, 3, Read(2)), (4, 5, Read(1))]), Ok(()));
    }

    #[test]
    fn stale_read_after_an_acknowledged_write_is_not_explained() {
        let stuck = check(&[(0, 1, Write(5)), (2, 3, Read(0))]).unwrap_err();
        assert_eq!(stuck, Stuck { explained: vec![0], next: vec![1] });
    }

    #[test]
    fn lost_update_is_not_explained() {
        assert!(check(&[(0, 9, Add(1)), (1, 8, Add(1))]).is_err());
        assert_eq!(check(&[(0, 9, Add(2)), (1, 8, Add(1))]), Ok(()));
    }

    /// Two reads during one write: once it was seen it does not vanish again.
    #[test]
    fn what_was_seen_and_vanishes_is_not_explained() {
        assert!(check(&[(0, 9, Write(5)), (1, 2, Read(5)), (3, 4, Read(0))]).is_err());
        assert_eq!(check(&[(0, 9, Write(5)), (1, 2, Read(0)), (3, 4, Read(5))]), Ok(()));
    }

    #[test]
    fn what_was_deleted_and_comes_back_is_not_explained() {
        let calls = [(0, 1, Write(5)), (2, 6, Write(0)), (3, 4, Read(0)), (7, 8, Read(5))];
        let stuck = check(&calls).unwrap_err();
        assert_eq!(stuck.next, [3]);
    }

    #[test]
    fn many_overlapping_calls_are_searched_in_no_time() {
        let mut calls: Vec<_> = (0..12).map(|i| (i, 1000 + i, Write(u8::try_from(i % 3).unwrap()))).collect();
        calls.push((2000, 2001, Read(7)));
        assert!(check(&calls).is_err());
    }
}
