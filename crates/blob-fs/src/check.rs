//! Checking the files of the store against its records, and mending what does not agree (E53, E65, E68).
//!
//! `log` reads the log against the rows of the index, `blobs` looks for the files of the rows, `walk` for the rows of the
//! files, `totals` at the rest. With [`CheckMode::Repair`] each mends what it finds as it goes; `salvage` does so for the
//! log. What might be data goes to `quarantine/`, and what is not the store's is left alone.

mod blobs;
mod log;
mod partial;
mod report;
mod salvage;
mod totals;
mod walk;

use std::{sync::Arc, time::Duration};

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Error, Progress, Result,
    blocking::{Alive, unblock},
};

use self::report::Report;
use crate::{engine::Engine, options::Rebuild, segments::ACCEPT, store::FsStore};

impl ConsistencyCheck for FsStore {
    /// No compaction runs meanwhile. Of blobs in the log, headers alone are read. A tag that points to nothing, a file of
    /// the user's that has changed and a file that is not the store's stay, and are reported each time.
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        let alive = Alive::default();
        progress.send(ConsistencyCheckProgress::Start).await?;
        let report = Report::new(progress.clone(), alive.watch());
        let check = Check { store: self.clone(), mode, report };
        match unblock(move || check.run()).await {
            Ok(()) => progress.send(ConsistencyCheckProgress::Done).await,
            Err(e) => {
                // Who has gone away does not hear of it.
                let _ = progress.send(ConsistencyCheckProgress::Abort((&e).into())).await;
                Err(e)
            }
        }
    }
}

/// How often somebody who waits looks whether somebody waits for him.
const PAUSE: Duration = Duration::from_millis(50);

/// A check that runs.
struct Check {
    store: FsStore,
    mode: CheckMode,
    report: Report,
}

/// Whether a phase came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Done,
    /// The index is damaged.
    Blind,
}

impl Check {
    fn engine(&self) -> &Arc<Engine> {
        &self.store.engine
    }

    fn repairs(&self) -> bool {
        self.mode == CheckMode::Repair
    }

    /// Fails when the store closes, or nobody waits for the result.
    fn go_on(&self) -> Result<()> {
        self.report.check()?;
        self.engine().state().check_readable()
    }

    fn run(&self) -> Result<()> {
        let engine = self.engine();
        // Records keep their places meanwhile.
        let mut compactor = engine.compactor();
        if self.repairs() {
            engine.state().check_writable()?;
        }
        self.go_on()?;
        self.report.trace("checking the pages of the index".to_owned())?;
        if !self.index_is_sound()? {
            // Who has lost rows and does not know it would take files for nobody's.
            let log_is_sound = self.log_is_sound()?;
            return self.put_index_aside(log_is_sound);
        }
        let mut log_is_sound = true;
        let phases = [
            self.phase("the log", || {
                log_is_sound = self.check_log(&mut compactor)?;
                Ok(())
            })?,
            self.phase("the files of blobs", || self.check_blobs())?,
            self.phase("files without a record", || self.walk())?,
            self.phase("tags", || self.check_tags())?,
            self.phase("the totals", || self.check_totals())?,
        ];
        if phases.contains(&Phase::Blind) {
            return self.put_index_aside(log_is_sound);
        }
        Ok(())
    }

    /// Whether each page of the index on the disk is what was written. The committer tells, between two commits.
    fn index_is_sound(&self) -> Result<bool> {
        let engine = self.engine();
        let mut state = engine.state();
        let number = state.verification.ask();
        loop {
            if let Some(outcome) = state.verification.outcome_of(number) {
                return outcome.map_err(|failure| failure.to_error());
            }
            state.check_readable()?;
            self.report.check()?;
            state = engine.wait_index(state, PAUSE);
        }
    }

    /// Runs a part of the check. A damaged index ends that part and no other.
    fn phase(&self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<Phase> {
        self.go_on()?;
        self.report.trace(format!("checking {name}"))?;
        match work() {
            Ok(()) => Ok(Phase::Done),
            Err(Error::DamagedStore { path, what }) if path == self.engine().layout.index() => {
                tracing::warn!(what, "the index is damaged");
                Ok(Phase::Blind)
            }
            Err(e) => Err(e),
        }
    }

    /// The index is built anew when the store is opened without one, which loses nothing while the log is whole.
    fn put_index_aside(&self, log_is_sound: bool) -> Result<()> {
        let accepts_loss = self.engine().options.rebuild == Rebuild::AcceptLoss;
        let advice = match (self.repairs(), log_is_sound) {
            (true, is_sound) if is_sound || accepts_loss => {
                // An earlier run may have put it aside.
                self.put_aside(&self.engine().layout.index())?;
                "it was put aside, and is built anew when the store is opened again".to_owned()
            }
            (_, false) => format!("and so is the log: shut the store down and use `{ACCEPT}`"),
            (_, true) => "a repair has it built anew from the log when the store is opened again".to_owned(),
        };
        self.report.error(format!("index.redb is damaged; {advice}"), None)
    }
}
