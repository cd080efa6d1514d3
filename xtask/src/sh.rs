//! Running other programs from the root of the workspace.

use std::{
    env, io,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a task did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A program could not be started.
    #[error("cannot run `{command}`: {source}")]
    Spawn { command: String, source: io::Error },
    /// A program ran and reported failure.
    #[error("`{command}` failed ({status})")]
    Failed { command: String, status: ExitStatus },
    /// A check found something; the findings have been printed.
    #[error("{check}: {n_findings} finding(s), listed above")]
    Findings { check: &'static str, n_findings: usize },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    /// A line of a report is not what the suite writes.
    #[error("line {line} of {} is not of the suite: {source}", path.display())]
    Report { path: PathBuf, line: usize, source: serde_json::Error },
    /// Nothing was run.
    #[error("no trial has this name: see the manifests in crates/blob-conformance/tests for what there is")]
    NothingRun,
    /// Trials failed; they have been listed.
    #[error("{n_failed} trial(s) failed, listed above")]
    Trials { n_failed: usize },
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// The dependency graph could not be read.
    #[error("cannot read the workspace's metadata: {0}")]
    Metadata(#[from] cargo_metadata::Error),
    /// A step of `ci` failed.
    #[error("step `{step}` failed: {source}")]
    Step { step: String, source: Box<Error> },
}

/// The root directory of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; what was compiled in is stale once the clone has been moved.
    let xtask =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    xtask.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The directory that cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    root().join(target)
}

/// Cargo, as it runs us, in the root of the workspace.
pub(crate) fn cargo<I: AsRef<str>>(args: impl IntoIterator<Item = I>) -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root());
    for arg in args {
        command.arg(arg.as_ref());
    }
    command
}

/// Cargo for the workspace in `peers/`, or for the member of it that has this manifest.
pub(crate) fn cargo_in_peers<'a>(manifest: &'a str, args: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = cargo(args.into_iter().chain(["--manifest-path", manifest]));
    // A target directory of its own: its dependencies must not displace what the quick loop has built.
    command.env_remove("CARGO_TARGET_DIR");
    command
}

/// Puts temporary directories on tmpfs where there is one. Thousands of stores that sync would show how fast the disk is, and
/// nothing else. Whoever sets `TMPDIR` decides.
pub(crate) fn on_tmpfs(command: &mut Command) {
    let tmpfs = Path::new("/dev/shm");
    if env::var_os("TMPDIR").is_none() && tmpfs.is_dir() {
        command.env("TMPDIR", tmpfs);
    }
}

/// Prints a command and runs it with our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = show(command);
    eprintln!("$ {line}");
    let status = command.status().map_err(|source| Error::Spawn { command: line.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: line, status }) }
}

/// Runs a command and returns its standard output; its standard error is ours.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let line = show(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Error::Spawn { command: line.clone(), source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::Failed { command: line, status: output.status })
    }
}

/// Whether a command starts and succeeds. Prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// As [`succeeds`], but a command that takes longer than `limit` is ended and has not succeeded.
pub(crate) fn succeeds_within(command: &mut Command, limit: Duration) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = quiet.spawn() else { return false };
    let begun = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if begun.elapsed() < limit => thread::sleep(Duration::from_millis(50)),
            Ok(None) | Err(_) => {
                // The child is gone or about to go: nothing depends on how it ends.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

fn show(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let mut line = program.to_string_lossy().into_owned();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/usr/bin/cargo");
        assert_eq!(show(command.args(["fmt", "--check"])), "cargo fmt --check");
    }

    #[test]
    fn a_command_that_takes_too_long_has_not_succeeded() {
        assert!(!succeeds_within(Command::new("sleep").arg("30"), Duration::from_millis(100)));
        assert!(succeeds_within(&mut Command::new("true"), Duration::from_secs(30)));
    }
}
