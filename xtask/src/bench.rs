//! Benches: our own with criterion, and the comparison program that lives outside the workspace.

use std::path::PathBuf;

use crate::sh::{self, Result};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Build and run the comparison with other stores, on tmpfs and on a real disk; with `collect`, that of collection
    #[arg(long)]
    peers: bool,
    /// Where the comparison puts its stores, instead of tmpfs and the build directory; may be repeated
    #[arg(long, requires = "peers")]
    dir: Vec<PathBuf>,
    /// Passed on to the benches or to the comparison program
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    if args.peers { compare(args) } else { criterion(&args.rest) }
}

fn criterion(rest: &[String]) -> Result<()> {
    sh::run(sh::cargo(["bench", "--locked", "--package", "blob-benches"]).args(rest))
}

fn compare(args: &Args) -> Result<()> {
    let mut command = sh::cargo_in_peers("peers/compare/Cargo.toml", ["run", "--release", "--locked"]);
    // What is passed on comes first: it may begin with a subcommand, whose option `--dir` is then.
    command.arg("--").args(&args.rest);
    for dir in if args.dir.is_empty() { default_dirs() } else { args.dir.clone() } {
        command.arg("--dir").arg(dir);
    }
    sh::run(&mut command)
}

/// tmpfs where there is one, and the disk that holds the build directory.
fn default_dirs() -> Vec<PathBuf> {
    let tmpfs = PathBuf::from("/dev/shm");
    // Relative to the root, where commands run.
    let disk = PathBuf::from("peers/target");
    tmpfs.is_dir().then_some(tmpfs).into_iter().chain([disk]).collect()
}
