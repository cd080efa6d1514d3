//! The program that a backend's test target is: arguments, trials, manifest, report.

use std::{
    env,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use libtest_mimic::{Arguments, Completion, Failed, Trial as Test};

use crate::{
    Suite,
    manifest::Manifest,
    process,
    report::{Record, Report, Status, ms},
    run::{Ended, Flavour, Job},
    suite::Plan,
};

/// No deep trial takes so long.
const DEEP_LIMIT: Duration = Duration::from_hours(1);

/// The main function of a test target with `harness = false`: runs every case on every configuration.
///
/// It understands the arguments of Rust's own test harness (a filter, `--exact`, `--list`, `--test-threads`, ...), and
/// these variables: `BLOB_CONFORMANCE_SEED` (a number; the same seed makes the same run), `BLOB_CONFORMANCE_DEEP=1` (runs the
/// cases that take minutes), `BLOB_CONFORMANCE_BLESS=1` (writes the manifest), `BLOB_CONFORMANCE_REPORT` (a file to which one
/// line of JSON is added for each trial), `BLOB_CONFORMANCE_BACKEND` (the one configuration to run).
pub struct Harness {
    manifest: Option<PathBuf>,
    planned: Vec<Planned>,
    holders: Vec<(String, process::Holder)>,
    named: Manifest,
}

/// A trial that libtest-mimic has not seen yet.
struct Planned {
    backend: String,
    flavour: Flavour,
    group: &'static str,
    case: &'static str,
    seed: u64,
    act: PlannedAct,
}

enum PlannedAct {
    Run(Box<dyn FnOnce() -> (Ended, Duration) + Send>),
    Not(Status, String),
}

impl Harness {
    /// A program without suites.
    #[expect(clippy::new_without_default, reason = "a harness without suites is only a beginning")]
    pub fn new() -> Self {
        Self { manifest: None, planned: Vec::new(), holders: Vec::new(), named: Manifest::default() }
    }

    /// Names the manifest: the committed list of what is run and what is waived. Without one nothing is compared.
    #[must_use]
    pub fn manifest(mut self, path: impl AsRef<Path>) -> Self {
        self.manifest = Some(path.as_ref().to_owned());
        self
    }

    /// Adds a configuration of a backend.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "a suite is made to be added")]
    pub fn suite<S: Clone + Send + Sync + 'static>(mut self, suite: Suite<S>) -> Self {
        let name = suite.backend.name.clone();
        if variable("BACKEND").is_some_and(|only| only != name) {
            return self;
        }
        self.holders.push((name.clone(), process::holder(suite.backend.open.clone())));
        for (group, case) in &suite.cases {
            let plan = suite.plan(case);
            let verdict = match &plan {
                Plan::Run(_) => "run".to_owned(),
                Plan::Deep(_) => "deep".to_owned(),
                Plan::Waived(reason) => format!("waived: {reason}"),
                Plan::Pending(reason) => format!("pending: {reason}"),
            };
            self.named.add(&name, group, case.name, verdict);
            for flavour in Flavour::ALL {
                let full = full_name(&name, flavour, group, case.name);
                let seed = seed_of(&full);
                let job = |run, limit| {
                    let job = Job {
                        backend: suite.backend.clone(),
                        name: full.clone(),
                        case: run,
                        flavour,
                        seed,
                        limit,
                        is_control: false,
                    };
                    PlannedAct::Run(Box::new(move || job.run()))
                };
                let act = match &plan {
                    Plan::Run(run) => job(*run, suite.trial_limit),
                    Plan::Deep(run) if is_set("DEEP") => job(*run, DEEP_LIMIT),
                    Plan::Deep(_) => {
                        let reason = "takes minutes: BLOB_CONFORMANCE_DEEP=1 runs it";
                        PlannedAct::Not(Status::Deep, reason.to_owned())
                    }
                    Plan::Waived(reason) => PlannedAct::Not(Status::Waived, (*reason).to_owned()),
                    Plan::Pending(reason) => PlannedAct::Not(Status::Pending, (*reason).to_owned()),
                };
                self.planned.push(Planned {
                    backend: name.clone(),
                    flavour,
                    group,
                    case: case.name,
                    seed,
                    act,
                });
            }
        }
        self
    }

    /// Runs what the arguments ask for. The exit code is 0 if nothing failed and the manifest is right.
    pub fn main(self) -> ExitCode {
        if let Some(code) = process::act_as_holder(&self.holders) {
            return code;
        }
        let report = match open_report() {
            Ok(report) => Arc::new(report),
            Err(code) => return code,
        };
        let mut tests: Vec<_> =
            self.planned.into_iter().map(|planned| planned.into_test(report.clone())).collect();
        // A part of the configurations says nothing of the whole.
        if let Some(path) = self.manifest.filter(|_| variable("BACKEND").is_none()) {
            let named = self.named;
            let check = move || named.check(&path, is_set("BLESS")).map_err(Failed::from);
            tests.push(Test::test("manifest::is_what_the_suite_does", check));
        }
        libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
    }
}

impl Planned {
    fn into_test(self, report: Arc<Report>) -> Test {
        let Self { backend, flavour, group, case, seed, act } = self;
        let name = full_name(&backend, flavour, group, case);
        let record = move |status, reason: &str, took| {
            let flavour = flavour.name();
            let ms = ms(took);
            report.add(&Record { backend: &backend, flavour, group, case, status, reason, seed, ms });
        };
        let replay = name.clone();
        let run = move || match act {
            PlannedAct::Not(status, reason) => {
                record(status, &reason, Duration::ZERO);
                let word = format!("{status:?}").to_lowercase();
                Ok(Completion::ignored_with(format!("{word}: {reason}")))
            }
            PlannedAct::Run(run) => match run() {
                (Ended::Passed, took) => {
                    record(Status::Passed, "", took);
                    Ok(Completion::Completed)
                }
                (Ended::Skipped(reason), took) => {
                    record(Status::Skipped, &reason, took);
                    Ok(Completion::ignored_with(format!("skipped: {reason}")))
                }
                (Ended::Failed(reason), took) => {
                    record(Status::Failed, &reason, took);
                    Err(Failed::from(format!("{reason}\nreplay: {}", replay_command(&replay))))
                }
            },
        };
        Test::ignorable_test(name, run)
    }
}

fn full_name(backend: &str, flavour: Flavour, group: &str, case: &str) -> String {
    format!("{backend}::{}::{group}::{case}", flavour.name())
}

/// The command that runs one trial again as it was.
fn replay_command(name: &str) -> String {
    let target = env::current_exe().ok().and_then(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let target = target.as_deref().and_then(|stem| stem.rsplit_once('-')).map_or("TARGET", |(name, _)| name);
    let seed = base_seed();
    let deep = if is_set("DEEP") { "BLOB_CONFORMANCE_DEEP=1 " } else { "" };
    format!("BLOB_CONFORMANCE_SEED={seed} {deep}cargo test --test {target} -- --exact '{name}'")
}

/// The report that was asked for.
pub(crate) fn open_report() -> Result<Report, ExitCode> {
    let Some(path) = variable("REPORT").map(PathBuf::from) else { return Ok(Report::default()) };
    Report::append_to(&path).map_err(|e| {
        eprintln!("cannot write the report {}: {e}", path.display());
        ExitCode::FAILURE
    })
}

/// The seed of the run.
pub(crate) fn base_seed() -> u64 {
    variable("SEED").and_then(|seed| seed.parse().ok()).unwrap_or(0)
}

/// Each trial has a seed of its own, that other trials do not change.
pub(crate) fn seed_of(name: &str) -> u64 {
    let hash = blake3::Hasher::new().update(&base_seed().to_le_bytes()).update(name.as_bytes()).finalize();
    let mut seed = [0; 8];
    hash.as_bytes().iter().zip(&mut seed).for_each(|(byte, to)| *to = *byte);
    u64::from_le_bytes(seed)
}

pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(format!("BLOB_CONFORMANCE_{name}")).ok().filter(|value| !value.is_empty())
}

pub(crate) fn is_set(name: &str) -> bool {
    variable(name).is_some_and(|value| value != "0")
}

impl std::fmt::Debug for Harness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harness").field("n_trials", &self.planned.len()).finish_non_exhaustive()
    }
}
