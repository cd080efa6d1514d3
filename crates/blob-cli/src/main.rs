//! The `blob` command.

mod args;
mod range;
mod target;
mod run;
mod open;
mod output;
mod progress;
mod exit;
mod add;
mod get;
mod new_file;
mod export;
mod ls;
mod stat;
mod has;
mod reach;
mod tag;
mod rm;
mod bao;
mod completions;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run()
}
