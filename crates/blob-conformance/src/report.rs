//! What a run writes down for `cargo xtask conformance`: one line of JSON for each trial.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde::Serialize;

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Record<'a> {
    pub(crate) backend: &'a str,
    pub(crate) flavour: &'a str,
    pub(crate) group: &'a str,
    pub(crate) case: &'a str,
    pub(crate) status: Status,
    /// Why it was waived or is pending, or how it failed.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(crate) reason: &'a str,
    pub(crate) seed: u64,
    pub(crate) ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Passed,
    Failed,
    Waived,
    Pending,
    Skipped,
    Deep,
}

/// Where the lines go; nowhere unless a file was asked for.
#[derive(Debug, Default)]
pub(crate) struct Report(Option<Mutex<File>>);

impl Report {
    /// Adds to a file.
    pub(crate) fn append_to(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        Ok(Self(Some(Mutex::new(file))))
    }

    /// Writes a line. A report that cannot be written must not pass for a short one.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub(crate) fn add(&self, record: &impl Serialize) {
        let Some(file) = &self.0 else { return };
        let mut line = serde_json::to_vec(record).expect("a record is plain data");
        line.push(b'\n');
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).expect("the report can be written");
    }
}

/// Milliseconds, as they are reported.
pub(crate) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
