//! What must be gone when a trial is over: tasks, open files, temporary files.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use crate::{Failure, Outcome, suite::Backend};

/// Waits for what is on its way out, and fails where something stays.
///
/// Work that nobody waits for any more ends within `patience`.
pub(crate) fn audit<S>(backend: &Backend<S>, dir: &Path, runtime: &Runtime, patience: Duration) -> Outcome {
    let metrics = runtime.metrics();
    eventually(patience, "tasks are still running", || match metrics.num_alive_tasks() {
        0 => Vec::new(),
        n => {
            // A runtime of one thread runs its tasks in here only.
            runtime.block_on(tokio::task::yield_now());
            vec![format!("{n} tasks")]
        }
    })?;
    eventually(patience, "files are still open", || open_files(dir))?;
    match backend.leftovers {
        Some(find) => eventually(patience, "files were left behind", || {
            find(&dir.join("store")).unwrap_or_else(|e| vec![format!("(cannot look: {e})")])
        }),
        None => Ok(()),
    }
}

fn eventually(patience: Duration, what: &str, mut found: impl FnMut() -> Vec<String>) -> Outcome {
    let begun = Instant::now();
    loop {
        let left = found();
        if left.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > patience {
            return Err(Failure::from(format!("{what} after the store was closed: {}", left.join(", "))));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The files below a directory that this process has open. Empty where the system does not tell.
fn open_files(dir: &Path) -> Vec<String> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let paths = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    paths.filter(|path| path.starts_with(dir)).map(|path| path.display().to_string()).collect()
}

/// All files below a directory with their lengths, for the report of a failure.
pub(crate) fn list_files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                Ok(metadata) => {
                    let path = entry.path();
                    let shown = path.strip_prefix(dir).unwrap_or(&path).display();
                    found.push(format!("{shown} ({} bytes)", metadata.len()));
                }
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}
