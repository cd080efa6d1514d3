//! The steps of CI, in the order in which they fail fastest.

use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::{
    conformance, deny, interop, layering,
    sh::{self, Error, Result},
    test, tidy,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave a step out; may be repeated
    #[arg(long, value_name = "STEP")]
    skip: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// rustfmt's opinion
    Fmt,
    /// Which of our crates may depend on which
    Layering,
    /// Checks of sources and documents as text
    Tidy,
    /// clippy on all targets, warnings are errors
    Clippy,
    /// The documentation builds without a warning
    Docs,
    /// All tests
    Test,
    /// The examples in the documentation
    Doctest,
    /// Every behaviour on every backend, and on broken stores
    Conformance,
    /// Our formats beside those of iroh-blobs
    Interop,
    /// Licences, advisories, sources, bans
    Deny,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    Skipped,
    NotRun,
}

/// Runs the steps, stops at the first that fails, and prints what happened in a table.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut rows = Vec::new();
    let mut failure = None;
    let begun = Instant::now();
    for &step in Step::value_variants() {
        let row = if args.skip.contains(&step) {
            (step, Outcome::Skipped, Duration::ZERO)
        } else if failure.is_some() {
            (step, Outcome::NotRun, Duration::ZERO)
        } else {
            let (outcome, took) = timed(step);
            let result = if outcome.is_ok() { Outcome::Passed } else { Outcome::Failed };
            failure = outcome.err().map(|source| Error::Step { step: step.name(), source: Box::new(source) });
            (step, result, took)
        };
        rows.push(row);
    }
    print!("\n{}", table(&rows, begun.elapsed()));
    failure.map_or(Ok(()), Err)
}

fn timed(step: Step) -> (Result<()>, Duration) {
    println!("\n==> {}", step.name());
    let begun = Instant::now();
    let outcome = step.run();
    let took = begun.elapsed();
    let verdict = if outcome.is_ok() { "ok" } else { "FAILED" };
    println!("<== {}: {verdict} in {:.1} s", step.name(), took.as_secs_f64());
    (outcome, took)
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn run(self) -> Result<()> {
        match self {
            Self::Fmt => sh::run(&mut sh::cargo(["fmt", "--all", "--check"])),
            Self::Layering => layering::run(),
            Self::Tidy => tidy::run(),
            Self::Clippy => {
                let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
                sh::run(&mut sh::cargo(clippy))
            }
            Self::Docs => {
                let doc = ["doc", "--workspace", "--no-deps", "--locked"];
                sh::run(sh::cargo(doc).env("RUSTDOCFLAGS", "-D warnings"))
            }
            Self::Test => test::workspace(&[]),
            Self::Doctest => test::documentation(),
            Self::Conformance => conformance::everything(),
            Self::Interop => interop::run(),
            Self::Deny => deny::run(),
        }
    }
}

fn table(rows: &[(Step, Outcome, Duration)], total: Duration) -> String {
    let mut text = String::new();
    for (step, outcome, took) in rows {
        let (word, seconds) = match outcome {
            Outcome::Passed => ("ok", format!("{:.1} s", took.as_secs_f64())),
            Outcome::Failed => ("FAILED", format!("{:.1} s", took.as_secs_f64())),
            Outcome::Skipped => ("skipped", String::new()),
            Outcome::NotRun => ("not run", String::new()),
        };
        text.push_str(format!("{:<11} {word:<8} {seconds:>9}", step.name()).trim_end());
        text.push('\n');
    }
    text + &format!("{:<20} {:>9}\n", "total", format!("{:.1} s", total.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_was_not_run() {
        let rows = [
            (Step::Fmt, Outcome::Passed, Duration::from_millis(1250)),
            (Step::Tidy, Outcome::Failed, Duration::from_millis(50)),
            (Step::Test, Outcome::NotRun, Duration::ZERO),
        ];
        let text = table(&rows, Duration::from_secs(2));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "fmt         ok           1.2 s");
        assert_eq!(lines[1], "tidy        FAILED       0.1 s");
        assert_eq!(lines[2], "test        not run");
        assert_eq!(lines[3], "total                    2.0 s");
    }
}
