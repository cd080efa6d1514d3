//! How compaction is asked for: by hand, or by a thread of its own.

use std::{
    path::PathBuf,
    sync::{MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use blob_traits::{
    Error, Result,
    blocking::{Alive, Watch, unblock},
};

use super::{Compactor, Pace, Pass, Stop, Stopped, victims::Rule};
use crate::{
    engine::{Engine, IDLE},
    layout::parse_segment,
    options::Compaction,
    quarantine,
    state::Phase,
    store::FsStore,
};

/// The thread looks at most so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// By itself it copies no more than this in a second.
const BACKGROUND_RATE: u64 = 64 << 20;
/// So many short segments are merged in the background, and when asked for.
const MERGE: (usize, usize) = (8, 2);

/// What [`FsStore::compact`] shall achieve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// A segment of the log is rewritten when more of it is dead, in percent.
    pub max_dead_percent: u8,
    /// Enough is done when so many bytes have come back; without it, when nothing is worth it any more.
    pub bytes_to_free: Option<u64>,
    /// No more is copied in a second, in bytes.
    pub bytes_per_second: Option<u64>,
}

impl Default for CompactOptions {
    /// No segment keeps more than 15 percent that is dead.
    fn default() -> Self {
        Self { max_dead_percent: 15, bytes_to_free: None, bytes_per_second: None }
    }
}

/// What [`FsStore::compact`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// The length of the log before, in bytes.
    pub log_bytes_before: u64,
    /// And after. Segments that are removed later are still in it.
    pub log_bytes_after: u64,
    /// The length of the index before, in bytes.
    pub index_bytes_before: u64,
    /// And after.
    pub index_bytes_after: u64,
    /// How many bytes were written to new segments.
    pub bytes_copied: u64,
    /// How many new segments were written.
    pub segments_written: u64,
    /// How many segments were removed.
    pub segments_removed: u64,
    /// Segments that are replaced and go once nobody reads them any more.
    pub pending_segments: u64,
    /// Segments that cannot be read whole. They stay as they are.
    pub damaged_segments: Vec<PathBuf>,
}

/// What a store takes on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Space {
    /// The length of the log.
    pub log_bytes: u64,
    /// What of it blobs and tags need, as of the last commit of the index; an estimate for files that are referred to.
    pub live_log_bytes: u64,
    /// The rest: records of what is gone, removals, headers.
    pub dead_log_bytes: u64,
    /// The files of large blobs and of outboards, as of the last commit of the index.
    pub file_bytes: u64,
    /// The length of the index.
    pub index_bytes: u64,
    /// What is kept free for removals on a full disk; 0 also where it was given up.
    pub reserve_bytes: u64,
    /// What was put aside in `quarantine/`.
    pub quarantine_bytes: u64,
    /// Segments that are replaced and go once nobody reads them any more.
    pub pending_segments: u64,
    /// Numbers of files that go once nobody reads them any more.
    pub pending_files: u64,
}

impl CompactReport {
    /// How many bytes the disk has got back.
    pub fn freed_bytes(&self) -> u64 {
        let before = self.log_bytes_before.saturating_add(self.index_bytes_before);
        before.saturating_sub(self.log_bytes_after.saturating_add(self.index_bytes_after))
    }
}

impl FsStore {
    /// Gives the space of dead records in the log back.
    ///
    /// Passes follow each other until nothing is worth rewriting or enough has come back. Others go on reading and
    /// writing meanwhile. What has been replaced stays while somebody reads it. Dropping the future stops the pass
    /// that runs; what was finished stays finished.
    ///
    /// # Errors
    /// [`Error::Closed`](blob_traits::Error::Closed), [`Error::Io`](blob_traits::Error::Io),
    /// [`Error::NoSpace`](blob_traits::Error::NoSpace). The store is as it was, and can be compacted later.
    pub async fn compact(&self, options: CompactOptions) -> Result<CompactReport> {
        let (engine, alive) = (self.engine.clone(), Alive::default());
        let watch = alive.watch();
        unblock(move || engine.compact(&options, &watch)).await
    }

    /// Tells how much space the store takes, and how much of it is dead.
    pub async fn space(&self) -> Result<Space> {
        let engine = self.engine.clone();
        unblock(move || engine.space()).await
    }
}

impl Engine {
    /// Locks compaction: one at a time.
    pub(crate) fn compactor(&self) -> MutexGuard<'_, Compactor> {
        self.compactor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long all segments are. Some may be on their way out.
    fn log_bytes(&self) -> Result<u64> {
        let dir = self.layout.log_dir();
        let names = self.vfs.read_dir(&dir).map_err(|e| Error::io("list", dir, e))?;
        let mut bytes = 0_u64;
        for id in names.iter().filter_map(|name| parse_segment(name)) {
            let path = self.layout.segment(id);
            match self.vfs.stat(&path) {
                Ok(stat) => bytes = bytes.saturating_add(stat.size),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", path, e)),
            }
        }
        Ok(bytes)
    }

    /// The log and the files of large blobs.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        Ok(self.log_bytes()?.saturating_add(self.stats()?.files))
    }

    fn index_bytes(&self) -> u64 {
        self.vfs.stat(&self.layout.index()).map_or(0, |stat| stat.size)
    }

    pub(crate) fn space(&self) -> Result<Space> {
        let stats = self.stats()?;
        let log_bytes = self.log_bytes()?;
        let live = stats.segments.values().map(|stats| stats.live).sum::<u64>().min(log_bytes);
        let index_bytes = self.index_bytes();
        let quarantine_bytes = quarantine::bytes(&*self.vfs, &self.layout)?;
        let (pending_segments, pending_files) = {
            let now = self.state();
            (now.compaction.pending_segments as u64, now.orphans.len() as u64)
        };
        Ok(Space {
            log_bytes,
            live_log_bytes: live,
            dead_log_bytes: log_bytes - live,
            file_bytes: stats.files,
            index_bytes,
            reserve_bytes: self.reserve.bytes(),
            quarantine_bytes,
            pending_segments,
            pending_files,
        })
    }

    fn compact(&self, options: &CompactOptions, watch: &Watch) -> Result<CompactReport> {
        let mut compactor = self.compactor();
        self.state().check_writable()?;
        let stop = Stop { engine: self, watch: Some(watch) };
        let rule = self.rule(options.max_dead_percent, MERGE.1);
        self.commit_index()?;
        let (log_bytes_before, index_bytes_before) = (self.log_bytes()?, self.index_bytes());
        let mut report = CompactReport { log_bytes_before, index_bytes_before, ..CompactReport::default() };
        let removals = compactor.removals;
        self.seal(&rule, 4096)?;
        let (mut freed, mut pace) = (0_u64, Pace::new(options.bytes_per_second));
        while options.bytes_to_free.is_none_or(|wanted| freed < wanted) {
            match compactor.pass_in_room(self, &rule, &stop, &mut pace) {
                Ok(Some(Pass { bytes_before, bytes_after })) => {
                    freed = freed.saturating_add(bytes_before.saturating_sub(bytes_after));
                    report.segments_written += 1;
                    report.bytes_copied += bytes_after;
                }
                Ok(None) => break,
                // It is left out from now on.
                Err(Stopped::Damaged(_)) => {}
                Err(Stopped::Failed(error)) => return Err(error),
            }
        }
        self.commit_index()?;
        self.shrink_index()?;
        (report.log_bytes_after, report.index_bytes_after) = (self.log_bytes()?, self.index_bytes());
        report.segments_removed = compactor.removals - removals;
        report.pending_segments = compactor.replaced.len() as u64;
        report.damaged_segments = compactor.damaged.iter().map(|id| self.layout.segment(*id)).collect();
        Ok(report)
    }

    /// What is worth it now.
    fn rule(&self, max_dead_percent: u8, merge: usize) -> Rule {
        let (segment_size, newest) = (self.options.segment_size, self.log_tail().segment);
        let max_dead_percent = max_dead_percent.min(100);
        Rule { max_dead_percent, segment_size, room: segment_size, most: u64::MAX, newest, merge }
    }

    /// Ends the newest segment of the log if enough of it is dead, so that it can be rewritten.
    fn seal(&self, rule: &Rule, at_least: u64) -> Result<()> {
        let tail = self.log_tail();
        let live = self.stats()?.segments.get(&tail.segment).map_or(0, |stats| stats.live);
        let dead = tail.end.saturating_sub(4096).saturating_sub(live);
        if dead >= at_least && rule.is_worth(dead, tail.end) {
            self.seal_log();
            self.append_mark()?;
            self.commit_index()?;
        }
        Ok(())
    }

    /// What the thread does: compacts after commits of the index, until the store closes.
    pub(crate) fn run_compactor(&self) {
        let (mut looked, mut pending) = (None::<Instant>, false);
        loop {
            let mut state = self.state();
            if state.phase != Phase::Open {
                return;
            }
            let wait = match looked.map(|looked| looked.elapsed()) {
                _ if !state.compaction.is_due && !pending => IDLE,
                Some(since) => LOOK_EVERY.saturating_sub(since),
                None => Duration::ZERO,
            };
            // What would be copied during a round may be swept by its next batch (E60).
            let wait = if self.pins.has_round() { LOOK_EVERY } else { wait };
            if !wait.is_zero() {
                drop(self.wait_compactor(state, wait));
                continue;
            }
            state.compaction.is_due = false;
            drop(state);
            looked = Some(Instant::now());
            if let Err(e) = self.compact_in_background() {
                tracing::warn!(error = %e, "compaction failed; trying again later");
            }
            pending = self.compactor().has_pending();
        }
    }

    fn compact_in_background(&self) -> Result<()> {
        let mut compactor = self.compactor();
        let stop = Stop { engine: self, watch: None };
        let mut pace = Pace::new(Some(BACKGROUND_RATE));
        let Compaction::Background { max_dead_percent } = self.options.compaction else { return Ok(()) };
        let rule = self.rule(max_dead_percent, MERGE.0);
        self.seal(&rule, rule.segment_size / 4)?;
        let mut passes = 0;
        loop {
            match compactor.pass_in_room(self, &rule, &stop, &mut pace) {
                Ok(Some(_)) => passes += 1,
                Err(Stopped::Damaged(_)) => {}
                Ok(None) if passes > 0 => return self.shrink_index(),
                Ok(None) | Err(Stopped::Failed(Error::Closed)) => return Ok(()),
                Err(Stopped::Failed(error)) => return Err(error),
            }
        }
    }
}
