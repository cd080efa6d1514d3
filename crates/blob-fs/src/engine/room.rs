//! Room on the disk: whether there is any, and when it has come back.

use std::collections::{HashMap, HashSet};

use blob_traits::Result;

use super::{Engine, IDLE};
use crate::{layout::FileNo, reserve::refusal, state::Phase};

impl Engine {
    /// Fails where what is left of the disk is kept for removals (E61).
    pub(crate) fn check_room(&self) -> Result<()> {
        if self.reserve.is_given_up() {
            self.committer_wake.notify_one();
            return Err(refusal(&self.layout.reserve()).into());
        }
        Ok(())
    }

    /// Waits until files that nobody reads have been removed, as far as that works now; returns the numbers that are left.
    pub(crate) fn await_removal<T>(&self, files: &HashMap<FileNo, T>) -> HashSet<FileNo> {
        let mut state = self.state();
        let failures = state.n_failed_removals;
        loop {
            let left = || state.orphans.iter().filter(|(_, orphan)| files.contains_key(&orphan.no));
            let is_over = state.phase != Phase::Open || state.n_failed_removals > failures;
            if is_over || !left().any(|orphan| state.is_removable(orphan)) {
                return left().map(|(_, orphan)| orphan.no).collect();
            }
            state = self.wait_index(state, IDLE);
        }
    }
}
