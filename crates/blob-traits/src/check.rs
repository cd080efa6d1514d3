//! Checking what only the backend knows of: its own files and rows.

use std::{fmt, future::Future};

use serde::{Deserialize, Serialize};

use crate::{ErrorInfo, Hash, Progress, Result};

/// Checks that a store's own records and files agree.
///
/// Whether the bytes of blobs are those of their hashes is not checked here: that is what blob-validate does, over any
/// store.
pub trait ConsistencyCheck: Send + Sync {
    /// Compares records and files both ways, and reports what does not agree. With [`CheckMode::Repair`] it mends what
    /// it finds, so that a second run finds nothing; what might be data is put aside, never removed, and files that are
    /// none of the store's are left alone.
    ///
    /// Safe to interrupt at any point and to repeat. Other calls may run at the same time. Dropping the future ends it at
    /// the next file.
    ///
    /// # Errors
    /// [`Error::Cancelled`](crate::Error::Cancelled), and those of the system that concern the store as a whole. What is
    /// wrong with one blob is reported, not returned.
    fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// Whether a check changes anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckMode {
    /// It reports.
    #[default]
    Report,
    /// It mends what it reports.
    Repair,
}

/// What a check reports: `Start`, any number of updates, then `Done` or `Abort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConsistencyCheckProgress {
    /// The check has begun.
    Start,
    /// Something was found, or done.
    Update {
        /// What, in words for a person.
        message: String,
        /// The blob that it is about.
        entry: Option<Hash>,
        /// How bad it is.
        level: ReportLevel,
    },
    /// The check has ended.
    Done,
    /// The check could not go on.
    Abort(ErrorInfo),
}

/// How bad something is that a check has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ReportLevel {
    /// What the check is doing.
    Trace,
    /// Good to know: nothing is wrong.
    Info,
    /// Something is not as it should be, and no data is concerned.
    Warn,
    /// Data is damaged or missing.
    Error,
}

impl fmt::Display for ReportLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trace => "trace",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        })
    }
}
