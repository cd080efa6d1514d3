//! Running one trial: a store of its own, a runtime of its own, an audit, and a report that says how to run it again.

use std::{
    error::Error,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    Failure, Trial,
    audit::{audit, list_files},
    case::CaseFn,
    panics,
    suite::Backend,
};

static NUMBER: AtomicU64 = AtomicU64::new(0);

/// The kind of runtime that a trial runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    CurrentThread,
    MultiThread,
}

impl Flavour {
    pub(crate) const ALL: [Self; 2] = [Self::CurrentThread, Self::MultiThread];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::CurrentThread => "current",
            Self::MultiThread => "multi",
        }
    }

    fn build(self, thread_name: &str) -> std::io::Result<Runtime> {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().thread_name(thread_name).build()
    }
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Passed,
    Skipped(String),
    /// With the error chain, the panics, and the files of the store.
    Failed(String),
}

/// What is run, and where.
pub(crate) struct Job<S> {
    pub(crate) backend: Backend<S>,
    pub(crate) name: String,
    pub(crate) case: CaseFn<S>,
    pub(crate) flavour: Flavour,
    pub(crate) seed: u64,
    pub(crate) limit: Duration,
    pub(crate) is_control: bool,
}

impl<S: Clone + Send + Sync + 'static> Job<S> {
    /// Runs the trial on a thread of its own and waits for it, but not for ever: a store may hang.
    pub(crate) fn run(self) -> (Ended, Duration) {
        panics::gather();
        let begun = Instant::now();
        let thread_name = panics::thread_name(NUMBER.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = mpsc::channel();
        let limit = self.limit;
        let name = thread_name.clone();
        let spawned = std::thread::Builder::new().name(thread_name.clone()).spawn(move || {
            let ended = self.run_here(&name);
            // Nobody listens any more when it took too long.
            let _ = sender.send(ended);
        });
        let ended = match spawned {
            Err(e) => Ended::Failed(format!("cannot start a thread: {e}")),
            Ok(_) => receiver.recv_timeout(limit).unwrap_or_else(|_| {
                let panics = panics::take(&thread_name).join("\n");
                Ended::Failed(format!("it did not end within {limit:?}\n{panics}"))
            }),
        };
        (ended, begun.elapsed())
    }

    fn run_here(self, thread_name: &str) -> Ended {
        let backend = self.backend.clone();
        let prepared = Trial::new(self.backend, self.name, self.seed, self.is_control)
            .and_then(|trial| Ok((trial, self.flavour.build(thread_name)?)));
        let (trial, runtime) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => return Ended::Failed(format!("cannot prepare the trial: {e}")),
        };
        let ran = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let store = trial.open(trial.home()).await?;
                (self.case)(&trial, store).await?;
                trial.close().await
            })
        }));
        let outcome = match ran {
            Ok(Ok(())) => {
                catch_unwind(AssertUnwindSafe(|| audit(&backend, trial.dir(), &runtime, trial.patience())))
                    .unwrap_or_else(|_| Err(Failure::from("the audit panicked")))
            }
            Ok(Err(failure)) => Err(failure),
            // What it said has been gathered.
            Err(_) => Err(Failure::from(String::new())),
        };
        runtime.shutdown_timeout(Duration::from_secs(5));
        let panics = panics::take(thread_name);
        match outcome {
            Err(Failure::Skipped(reason)) => Ended::Skipped(reason),
            Ok(()) if panics.is_empty() || trial.panics_are_expected() => Ended::Passed,
            Ok(()) => Ended::Failed(describe("a thread of this trial panicked", &panics, trial.dir())),
            Err(Failure::Failed(error)) => {
                Ended::Failed(describe(&Chain(&*error).to_string(), &panics, trial.dir()))
            }
        }
    }
}

fn describe(what: &str, panics: &[String], dir: &Path) -> String {
    let mut lines: Vec<_> = [what.to_owned()].into_iter().filter(|line| !line.is_empty()).collect();
    lines.extend_from_slice(panics);
    lines.push("files:".to_owned());
    lines.extend(list_files(dir).into_iter().map(|file| format!("  {file}")));
    lines.join("\n")
}

/// An error with all its sources.
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({0:?})", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(f, "\n  because: {source}")?;
            next = source.source();
        }
        Ok(())
    }
}
