//! Licences, advisories, sources and bans, checked by cargo-deny, which is compiled when it is not there.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::sh::{self, Result};

const VERSION: &str = "0.20.2";
/// How long the advisory database may take to arrive; it is a shallow clone of a few megabytes.
const FETCH_LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn run() -> Result<()> {
    let tool = installed_or_built()?;
    // A wrapper of a layer rule that does not use its right is no news.
    let quiet = ["--hide-inclusion-graph", "--allow", "unused-wrapper"];
    sh::run(deny(&tool, ["check"]).args(quiet).args(["licenses", "bans", "sources"]))?;
    advisories(&tool)
}

/// Fails on an advisory that applies, not on a database that cannot be reached.
fn advisories(tool: &Path) -> Result<()> {
    eprintln!("$ cargo-deny fetch db");
    let mut fetch = deny(tool, ["fetch", "db"]);
    // A question for a password would wait for ever.
    fetch.env("GIT_TERMINAL_PROMPT", "0");
    if !sh::succeeds_within(&mut fetch, FETCH_LIMIT) {
        println!("skipped: advisory database unreachable");
        return Ok(());
    }
    sh::run(deny(tool, ["check"]).args(["--hide-inclusion-graph", "advisories"]))
}

fn deny<const N: usize>(tool: &Path, args: [&str; N]) -> Command {
    let mut command = Command::new(tool);
    command.current_dir(sh::root()).arg("--locked").args(args);
    command
}

/// The program: from the search path, from an earlier run, or compiled now.
fn installed_or_built() -> Result<PathBuf> {
    let tools = sh::target_dir().join("tools");
    let built = tools.join("bin").join(format!("cargo-deny{}", std::env::consts::EXE_SUFFIX));
    for candidate in [PathBuf::from("cargo-deny"), built.clone()] {
        if sh::stdout(Command::new(&candidate).arg("--version")).is_ok_and(|text| is_wanted(&text)) {
            return Ok(candidate);
        }
    }
    eprintln!("cargo-deny {VERSION} is not installed: compiling it once into {}", tools.display());
    sh::run(
        sh::cargo(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"])
            .arg(&tools)
            // Its own release profile (fat LTO, one unit) takes many times as long and saves half a second.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    )?;
    Ok(built)
}

fn is_wanted(version_line: &str) -> bool {
    version_line.trim().strip_prefix("cargo-deny ") == Some(VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pinned_version_is_used() {
        assert!(is_wanted("cargo-deny 0.20.2\n"));
        assert!(!is_wanted("cargo-deny 0.20.20\n"));
        assert!(!is_wanted("cargo-deny 0.19.0"));
    }
}
