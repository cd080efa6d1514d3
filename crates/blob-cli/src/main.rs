//! The `blob` command.

mod add;
mod args;
mod bao;
mod check;
mod completions;
mod du;
mod exit;
mod export;
mod gc;
mod get;
mod has;
mod ls;
mod new_file;
mod open;
mod output;
mod progress;
mod range;
mod rm;
mod run;
mod stat;
mod tag;
mod target;
mod validate;
mod why;

use std::process::ExitCode;

fn main() -> ExitCode {
    run::run()
}
