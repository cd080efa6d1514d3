//! Project tasks: everything that CI does, and what a maintainer does by hand.
//!
//! Drives cargo and reads the sources as text; links none of the crates it checks.

mod bench;
mod ci;
mod conformance;
mod deny;
mod interop;
mod layering;
mod sh;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Tasks of this workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that must hold before a commit: what CI runs
    Ci(ci::Args),
    /// The quick loop: all tests of the workspace, nothing else
    Test(test::Args),
    /// Every behaviour on every backend, as a matrix
    Conformance(conformance::Args),
    /// Which of our crates may depend on which
    Layering,
    /// Checks of the sources and documents as text
    Tidy,
    /// Our formats beside those of iroh-blobs, each read by the other
    Interop,
    /// Criterion benches, or with `--peers` the comparison with other stores
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Ci(args) => ci::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Layering => layering::run(),
        Task::Tidy => tidy::run(),
        Task::Interop => interop::run(),
        Task::Bench(args) => bench::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
