//! The program that holds broken stores to the suite, and says which case catches which defect.

use std::{process::ExitCode, sync::Arc, time::Duration};

use blob_traits::{FullStore, dynamic::DynStore};
use libtest_mimic::{Arguments, Failed, Trial as Test};
use serde::Serialize;

use super::Defect;
use crate::{
    Suite,
    harness::{open_report, seed_of, variable},
    report::Report,
    run::{Ended, Flavour, Job},
    suite::Plan,
};

/// A broken store that hangs is caught, too; this much of it is enough.
const LIMIT: Duration = Duration::from_secs(20);

/// The main function of a test target with `harness = false`: runs every case on stores with every [`Defect`], on top of
/// sound ones, and fails where a defect is not caught, or where a sound store is.
///
/// `BLOB_CONFORMANCE_REPORT` names a file to which a line of JSON is added for each case and defect,
/// `BLOB_CONFORMANCE_BACKEND` one defect.
pub struct Controls {
    suites: Vec<(Option<Defect>, Suite<DynStore>)>,
}

/// What a case makes of a broken store.
#[derive(Serialize)]
struct Record<'a> {
    control: &'a str,
    what: &'a str,
    on: &'a str,
    group: &'a str,
    case: &'a str,
    caught: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    how: &'a str,
}

impl Controls {
    /// Breaks a sound store that is quick to make, and for those defects that need it one on disk.
    pub fn new<Q: FullStore, D: FullStore>(quick: &Suite<Q>, on_disk: &Suite<D>) -> Self {
        let sound = [(None, quick.broken(None)), (None, on_disk.broken(None))];
        let broken = Defect::ALL.iter().map(|&defect| {
            let is_on_disk = defect.needs_a_disk();
            let suite = if is_on_disk { on_disk.broken(Some(defect)) } else { quick.broken(Some(defect)) };
            (Some(defect), suite)
        });
        Self { suites: sound.into_iter().chain(broken).collect() }
    }

    /// Runs what the arguments ask for. The exit code is 0 if every defect was caught and no sound store was.
    pub fn main(self) -> ExitCode {
        let report = match open_report() {
            Ok(report) => Arc::new(report),
            Err(code) => return code,
        };
        let only = variable("BACKEND");
        let named = self.suites.into_iter().map(|(defect, suite)| {
            let name = defect.map_or_else(|| "none".to_owned(), |defect| format!("{defect:?}"));
            (name, defect, suite)
        });
        let tests = named
            .filter(|(name, ..)| only.as_ref().is_none_or(|only| only == name))
            .map(|(name, defect, suite)| {
                let report = report.clone();
                let full = format!("controls::{}::{name}", suite.backend.name);
                Test::test(full, move || judge(&name, defect, &suite, &report))
            })
            .collect();
        libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
    }
}

/// Holds one store to all cases.
fn judge(name: &str, defect: Option<Defect>, suite: &Suite<DynStore>, report: &Report) -> Result<(), Failed> {
    let mut caught = Vec::new();
    for (group, case) in &suite.cases {
        let Plan::Run(run) = suite.plan(case) else { continue };
        let full = format!("{group}::{}", case.name);
        let job = Job {
            backend: suite.backend.clone(),
            name: full.clone(),
            case: run,
            flavour: Flavour::CurrentThread,
            seed: seed_of(&full),
            limit: LIMIT,
            is_control: true,
        };
        let (ended, _) = job.run();
        let how = match &ended {
            Ended::Failed(how) => how.as_str(),
            Ended::Passed | Ended::Skipped(_) => "",
        };
        report.add(&Record {
            control: name,
            what: defect.map_or("has no defect", Defect::what_it_does),
            on: &suite.backend.name,
            group,
            case: case.name,
            caught: matches!(ended, Ended::Failed(_)),
            how: how.lines().next().unwrap_or_default(),
        });
        if matches!(ended, Ended::Failed(_)) {
            caught.push(format!("{full}: {how}"));
        }
    }
    match (defect, caught.is_empty()) {
        (Some(_), false) | (None, true) => Ok(()),
        (Some(defect), true) => Err(format!("no case catches a store that {}", defect.what_it_does()).into()),
        (None, false) => Err(format!("a sound store is caught:\n{}", caught.join("\n")).into()),
    }
}

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controls").field("n_suites", &self.suites.len()).finish_non_exhaustive()
    }
}
