//! Taking whole blobs out.

use std::{future::Future, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Hash, Progress, Result};

/// How a blob is written to a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportMode {
    /// The file gets a copy; later edits to it change nothing in the store.
    #[default]
    Copy,
    /// The blob is moved out to the file and referred to there, where the store can do so; otherwise copied.
    TryReference,
}

/// What becomes of a file that has the target's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExistingTarget {
    /// It stays, and the export fails.
    #[default]
    Refuse,
    /// It is replaced, in one step, when the new file is whole.
    Replace,
}

/// How an export is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportOptions {
    /// Copy or move out.
    pub mode: ExportMode,
    /// Refuse or replace what is there.
    pub existing: ExistingTarget,
}

impl From<ExportMode> for ExportOptions {
    fn from(mode: ExportMode) -> Self {
        Self { mode, existing: ExistingTarget::Refuse }
    }
}

/// What a hash stands for in an export.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportFormat {
    /// One blob, for one file.
    #[default]
    Blob,
    /// A collection, for one file per child below the target.
    Collection,
}

/// What an export reports, per id in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExportProgress {
    /// Begins.
    Start {
        /// The export.
        id: u64,
        /// The blob.
        hash: Hash,
        /// The target.
        path: PathBuf,
        /// Whether the target will hold bytes that the store no longer keeps itself.
        stable: bool,
    },
    /// Bytes were written; left out where the file is moved or shares its blocks.
    Progress {
        /// The export.
        id: u64,
        /// How many bytes so far.
        offset: u64,
    },
    /// The target is whole and durable.
    Done {
        /// The export.
        id: u64,
    },
}

/// Exports whole blobs to files.
pub trait Export: Send + Sync {
    /// Writes a complete blob to an absolute path whose directory exists. The target appears whole or not at all.
    ///
    /// A copy is verified against the hash while it is written, unless the file system lets it share the blocks of the
    /// store's file.
    ///
    /// # Errors
    /// [`Error::RelativePath`](crate::Error::RelativePath), [`Error::NotFound`](crate::Error::NotFound),
    /// [`Error::Incomplete`](crate::Error::Incomplete), [`Error::TargetExists`](crate::Error::TargetExists),
    /// [`Error::IsADirectory`](crate::Error::IsADirectory) when the target is one,
    /// [`Error::FileNotFound`](crate::Error::FileNotFound) when its directory is missing,
    /// [`Error::Mismatch`](crate::Error::Mismatch) and [`Error::Changed`](crate::Error::Changed) when the stored bytes
    /// are wrong, [`Error::Cancelled`](crate::Error::Cancelled).
    fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> impl Future<Output = Result<()>> + Send;
}
