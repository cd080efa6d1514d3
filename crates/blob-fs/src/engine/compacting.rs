//! What compaction needs of the log, and how it waits.

use std::{sync::MutexGuard, time::Duration};

use super::{Engine, wait_on};
use crate::{failure::Failure, log::Tail, state::State};

impl Engine {
    /// Waits, as compaction, for something to do, or for a while.
    pub(crate) fn wait_compactor<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        wait: Duration,
    ) -> MutexGuard<'a, State> {
        wait_on(&self.compactor_wake, state, wait)
    }

    /// Waits for the index to be committed or opened again.
    pub(crate) fn wait_index<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        wait: Duration,
    ) -> MutexGuard<'a, State> {
        self.committer_wake.notify_one();
        wait_on(&self.index_back, state, wait)
    }

    /// Where the log ends.
    pub(crate) fn log_tail(&self) -> Tail {
        self.log().tail()
    }

    /// Ends the segment of the log that is written to.
    pub(crate) fn seal_log(&self) {
        self.log().seal();
    }

    /// Gives out the id of a packed segment.
    pub(crate) fn take_packed_id(&self) -> Result<u32, Failure> {
        self.log().take_packed_id()
    }
}
