//! Round after round.

use std::{fmt, time::Duration};

use blob_traits::{HashAndFormat, Progress};

use crate::{BoxError, Event, GcError, GcOptions, GcReport, GcStore, collect::collect_protecting};

/// After failed rounds the next one waits at most so many periods.
const MAX_BACK_OFF: u32 = 16;

/// What is called after every round, with its outcome.
pub type DoneCallback = Box<dyn Fn(&Result<GcReport, GcError>) + Send>;

/// How collection runs periodically.
pub struct GcConfig {
    /// The time between the end of a round and the next; the first round comes after one period. After a round that has
    /// failed it is doubled, up to 16 periods, until one succeeds.
    pub period: Duration,
    /// Called after every round, also one that has failed.
    pub done_callback: Option<DoneCallback>,
    /// How each round is done.
    pub options: GcOptions,
    /// Where rounds report to.
    pub progress: Progress<Event>,
}

impl GcConfig {
    /// Safe rounds that report to nobody.
    pub fn new(period: Duration) -> Self {
        Self { period, done_callback: None, options: GcOptions::default(), progress: Progress::none() }
    }
}

impl fmt::Debug for GcConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcConfig")
            .field("period", &self.period)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Runs rounds until the future is dropped. A round that fails is reported and does not end it.
///
/// `protected` is asked in every round, after everything that is reached from then on is noted; what it names is kept, a hash
/// sequence with its children. When it fails, the round is skipped.
pub async fn schedule<S, P, F, E>(store: S, config: GcConfig, protected: P)
where
    S: GcStore,
    P: Fn() -> F + Send + Sync,
    F: Future<Output = Result<Vec<HashAndFormat>, E>> + Send,
    E: Into<BoxError>,
{
    let mut n_periods = 1;
    loop {
        tokio::time::sleep(config.period.saturating_mul(n_periods)).await;
        let protect = async || protected().await.map_err(Into::into);
        let outcome =
            collect_protecting(&store, config.options.clone(), config.progress.clone(), protect).await;
        n_periods = match &outcome {
            Ok(report) => {
                tracing::debug!(?report, "a round of collection has ended");
                1
            }
            Err(error) => {
                tracing::warn!(error = %error, "a round of collection has failed");
                (n_periods * 2).min(MAX_BACK_OFF)
            }
        };
        if let Some(done) = &config.done_callback {
            done(&outcome);
        }
    }
}

/// Collection as a method of the store.
pub trait GcExt: GcStore {
    /// Runs rounds until the future is dropped, as [`schedule`] does.
    fn gc_run<P, F, E>(&self, config: GcConfig, protected: P) -> impl Future<Output = ()> + Send
    where
        P: Fn() -> F + Send + Sync,
        F: Future<Output = Result<Vec<HashAndFormat>, E>> + Send,
        E: Into<BoxError>,
    {
        schedule(self.clone(), config, protected)
    }
}

impl<S: GcStore> GcExt for S {}
