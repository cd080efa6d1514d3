//! How much is done at a time, how fast, and for how long.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{Budget, ValidateOptions, pace::Pace};

/// No machine gains from more.
const MAX_JOBS: usize = 1024;

/// The limits of a run.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) jobs: usize,
    slots: Arc<Semaphore>,
    pub(crate) pace: Arc<Pace>,
    budget: Budget,
    begun: Instant,
    n_begun: AtomicU64,
}

impl Limits {
    pub(crate) fn new(options: &ValidateOptions) -> Self {
        // While one waits for the disk, or for what comes next, another hashes.
        let twice_the_cores = || 2 * std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = options.jobs.map_or_else(twice_the_cores, Into::into).min(MAX_JOBS);
        Self {
            jobs,
            slots: Arc::new(Semaphore::new(jobs)),
            pace: Arc::new(Pace::new(options.rate)),
            budget: options.budget,
            begun: Instant::now(),
            n_begun: AtomicU64::new(0),
        }
    }

    /// Waits until so many bytes may be read. The answer is held meanwhile.
    pub(crate) async fn admit(&self, n_bytes: u64) -> Option<OwnedSemaphorePermit> {
        self.pace.wait(n_bytes).await;
        self.slots.clone().acquire_owned().await.ok()
    }

    /// Takes note that a complete blob with so many bytes is going to be looked at; `false`: the budget is spent.
    pub(crate) fn begin(&self, n_bytes: u64) -> bool {
        if self.is_spent() {
            return false;
        }
        self.n_begun.fetch_add(n_bytes, Ordering::Relaxed);
        true
    }

    /// Whether nothing more is to be begun. Of partial blobs, what has been read counts.
    pub(crate) fn is_spent(&self) -> bool {
        let n_bytes = self.n_begun.load(Ordering::Relaxed).max(self.pace.n_admitted());
        self.budget.n_bytes.is_some_and(|limit| n_bytes >= limit)
            || self.budget.time.is_some_and(|limit| self.begun.elapsed() >= limit)
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU64, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_are_admitted_at_the_rate() {
        let options = ValidateOptions { rate: NonZeroU64::new(1000), ..ValidateOptions::default() };
        let limits = Limits::new(&options);
        for _ in 0..4 {
            drop(limits.admit(500).await);
        }
        assert_eq!(limits.begun.elapsed(), Duration::from_millis(1500));
    }

    #[tokio::test(start_paused = true)]
    async fn a_budget_is_spent_by_bytes_or_by_time() {
        let budget = Budget { n_bytes: Some(10), time: Some(Duration::from_secs(5)) };
        let limits = Limits::new(&ValidateOptions { budget, ..ValidateOptions::default() });
        drop(limits.admit(9).await);
        assert!(!limits.is_spent());
        drop(limits.admit(1).await);
        assert!(limits.is_spent());
        let limits = Limits::new(&ValidateOptions { budget, ..ValidateOptions::default() });
        assert!(limits.begin(9) && limits.begin(9));
        assert!(limits.is_spent() && !limits.begin(0));
        let budget = Budget { time: Some(Duration::from_secs(5)), ..Budget::default() };
        let limits = Limits::new(&ValidateOptions { budget, ..ValidateOptions::default() });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(limits.is_spent());
    }
}
