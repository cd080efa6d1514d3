//! Tests: with cargo-nextest where it is installed, with cargo's own runner elsewhere.

use crate::sh::{self, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Passed on to the test runner, for example a part of a test's name
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    workspace(&args.rest)
}

/// Runs all tests of the workspace except those in documentation.
pub(crate) fn workspace(rest: &[String]) -> Result<()> {
    let runner: &[&str] = if sh::succeeds(&mut sh::cargo(["nextest", "--version"])) {
        &["nextest", "run"]
    } else {
        &["test", "--lib", "--bins", "--tests", "--examples"]
    };
    let mut command = sh::cargo(runner);
    command.args(["--workspace", "--locked"]).args(rest);
    if runner.contains(&"nextest") {
        // One process for each of their thousands of trials would take minutes; they have a command of their own.
        let suite = "package(blob-conformance) and binary(/^(mem|fs|dynamic|controls)$/)";
        command.args(["--filterset", &format!("not ({suite})")]);
    }
    sh::on_tmpfs(&mut command);
    sh::run(&mut command)
}

/// Runs the examples in the documentation, which cargo-nextest does not.
pub(crate) fn documentation() -> Result<()> {
    sh::run(&mut sh::cargo(["test", "--doc", "--workspace", "--locked"]))
}
