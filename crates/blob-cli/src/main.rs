//! The `blob` command.

mod add;
mod args;
mod bao;
mod completions;
mod exit;
mod export;
mod get;
mod has;
mod ls;
mod new_file;
mod open;
mod output;
mod progress;
mod range;
mod reach;
mod rm;
mod run;
mod stat;
mod tag;
mod target;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run()
}
