//! What a failed write says to everybody who waited for it.

use std::{
    io,
    path::{Path, PathBuf},
};

use blob_traits::Error;

/// A failure that can be handed to many waiters.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    doing: &'static str,
    path: PathBuf,
    kind: io::ErrorKind,
    os: Option<i32>,
    text: String,
    pub(crate) severity: Severity,
}

/// What a failure means for later writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The queue is lost; the next write may work.
    Queue,
    /// What is on the disk is not known any more: nothing is written until the store is opened again (E27).
    Store,
}

impl Failure {
    pub(crate) fn new(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        Self {
            doing,
            path: path.to_owned(),
            kind: error.kind(),
            os: error.raw_os_error(),
            text: error.to_string(),
            severity: Severity::Queue,
        }
    }

    /// What went wrong with a file.
    pub(crate) fn of(doing: &'static str, path: &Path, error: &Error) -> Self {
        match error {
            Error::Io { source, .. } | Error::NoSpace { source } => Self::new(doing, path, source),
            other => Self::new(doing, path, &io::Error::other(other.to_string())),
        }
    }

    pub(crate) fn fatal(mut self) -> Self {
        self.severity = Severity::Store;
        self
    }

    /// Whether the disk, or a quota, was full.
    pub(crate) fn is_no_space(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    pub(crate) fn to_error(&self) -> Error {
        let source = self
            .os
            .map_or_else(|| io::Error::new(self.kind, self.text.clone()), io::Error::from_raw_os_error);
        match Error::from(source) {
            Error::Io { source, .. } => {
                Error::Io { doing: self.doing, path: Some(self.path.clone()), source }
            }
            other => other,
        }
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}: {}", self.doing, self.path.display(), self.text)
    }
}
