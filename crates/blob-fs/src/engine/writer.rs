//! The writer thread: leads groups that no caller leads, and syncs in the background (E22, E78).

use std::time::{Duration, Instant};

use super::{Engine, IDLE, wait_on};
use crate::{failure::Failure, state::Phase};

/// In Relaxed a sync follows after so many bytes, or so long (E78).
pub(super) const SYNC_BYTES: u64 = 32 << 20;
const SYNC_AGE: Duration = Duration::from_secs(1);

impl Engine {
    /// Makes everything that is published durable.
    pub(crate) fn sync_log(&self) -> Result<(), Failure> {
        if let Some(failure) = &self.state().failed {
            return Err(failure.clone());
        }
        let (point, durable) = {
            let log = self.log();
            (log.sync_point(), log.durable_seq())
        };
        let Some(point) = point else {
            self.state().note_durable(durable);
            return Ok(());
        };
        let synced = point.run();
        let synced = {
            let mut log = self.log();
            log.synced(&point, synced.is_ok());
            // Acknowledged operations may be lost, and later ones must not survive them (E80).
            synced.map_err(|failure| log.fail(failure))
        };
        let mut state = self.state();
        if let Err(failure) = synced {
            self.fail(&mut state, Vec::new(), &failure);
            return Err(failure);
        }
        state.note_durable(point.seq);
        Ok(())
    }

    /// What the writer thread does: leads groups, syncs in the background, until the store closes.
    pub(crate) fn run_writer(&self) {
        let mut state = self.state();
        loop {
            if !state.queue.is_empty() && !state.leading {
                let _ = self.lead(state);
                state = self.state();
                continue;
            }
            if state.phase != Phase::Open && state.queue.is_empty() && !state.leading {
                return;
            }
            let now = Instant::now();
            let due =
                state.unsynced.map(|(bytes, since)| if bytes >= SYNC_BYTES { now } else { since + SYNC_AGE });
            if due.is_some_and(|due| due <= now) && state.failed.is_none() {
                drop(state);
                let _ = self.sync_log();
                state = self.state();
                continue;
            }
            let due = due.filter(|_| state.failed.is_none());
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(now));
            state = wait_on(&self.writer_wake, state, wait);
        }
    }
}
