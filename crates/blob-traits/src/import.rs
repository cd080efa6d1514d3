//! Bringing whole blobs in.

use std::{fmt, future::Future, io, path::PathBuf, pin::Pin};

use bytes::Bytes;
use futures_lite::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

use crate::{BlobFormat, Hash, Progress, Result, Tag, TempTag, TempTags};

/// Where a blob's bytes come from.
pub enum ImportSource {
    /// From memory.
    Bytes(Bytes),
    /// From a regular file with an absolute path; links are followed.
    File {
        /// The path.
        path: PathBuf,
        /// Whether the file is copied.
        mode: ImportMode,
    },
    /// From a stream; its first error ends the import.
    Stream(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>),
}

impl fmt::Debug for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
            Self::File { path, mode } => write!(f, "File({}, {mode:?})", path.display()),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}

/// How a file is imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportMode {
    /// The file is copied: the bytes that are hashed are the bytes that are stored, and later edits change nothing.
    #[default]
    Copy,
    /// The file is used in place where the store can do so, otherwise copied. A file that changes afterwards is
    /// reported when it is read, never served as the blob.
    TryReference,
}

/// What becomes of an imported blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// What the blob is kept as. The content of a hash sequence is not checked.
    pub format: BlobFormat,
    /// A tag to set in the same durable step.
    pub tag: Option<Tag>,
}

impl From<BlobFormat> for ImportOptions {
    fn from(format: BlobFormat) -> Self {
        Self { format, tag: None }
    }
}

/// What an import reports, per id in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImportProgress {
    /// The source was opened.
    Found {
        /// The import.
        id: u64,
        /// The path of the file, or what stands for it.
        name: String,
    },
    /// Bytes were copied into the store; left out where they need not be.
    CopyProgress {
        /// The import.
        id: u64,
        /// How many bytes so far.
        offset: u64,
    },
    /// The size is known.
    Size {
        /// The import.
        id: u64,
        /// In bytes.
        size: u64,
    },
    /// Bytes were hashed.
    OutboardProgress {
        /// The import.
        id: u64,
        /// How many bytes so far.
        offset: u64,
    },
    /// The hash is known.
    OutboardDone {
        /// The import.
        id: u64,
        /// The name of the blob.
        hash: Hash,
    },
}

/// Imports whole blobs.
pub trait Import: TempTags {
    /// Stores a blob and returns what keeps it alive, and its size.
    ///
    /// Durable when it returns, blob and tag in one step. A blob that is present already is only pinned (and tagged); a
    /// partial one becomes complete. When the import fails, is cancelled, or its future is dropped, nothing is left
    /// behind, but for a future dropped at the very end: then it happened whole.
    ///
    /// # Errors
    /// [`Error::RelativePath`](crate::Error::RelativePath), [`Error::FileNotFound`](crate::Error::FileNotFound),
    /// [`Error::IsADirectory`](crate::Error::IsADirectory), [`Error::NotAFile`](crate::Error::NotAFile),
    /// [`Error::PermissionDenied`](crate::Error::PermissionDenied), [`Error::TooLarge`](crate::Error::TooLarge),
    /// [`Error::NoSpace`](crate::Error::NoSpace), [`Error::Cancelled`](crate::Error::Cancelled), and the errors of the
    /// stream.
    fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> impl Future<Output = Result<(TempTag, u64)>> + Send;
}

/// Conveniences for [`Import`].
pub trait ImportExt: Import {
    /// Imports bytes from memory.
    fn import_bytes(&self, bytes: Bytes, format: BlobFormat) -> impl Future<Output = Result<TempTag>> + Send {
        async move { Ok(self.import(ImportSource::Bytes(bytes), format.into(), Progress::none()).await?.0) }
    }

    /// Imports a file.
    fn import_file(
        &self,
        path: PathBuf,
        mode: ImportMode,
        format: BlobFormat,
        progress: Progress<ImportProgress>,
    ) -> impl Future<Output = Result<(TempTag, u64)>> + Send {
        self.import(ImportSource::File { path, mode }, format.into(), progress)
    }

    /// Imports what a stream yields.
    fn import_stream(
        &self,
        stream: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
        format: BlobFormat,
        progress: Progress<ImportProgress>,
    ) -> impl Future<Output = Result<(TempTag, u64)>> + Send {
        self.import(ImportSource::Stream(Box::pin(stream)), format.into(), progress)
    }

    /// Imports what a reader yields.
    fn import_reader(
        &self,
        reader: impl AsyncRead + Send + Unpin + 'static,
        format: BlobFormat,
        progress: Progress<ImportProgress>,
    ) -> impl Future<Output = Result<(TempTag, u64)>> + Send {
        self.import_stream(ReaderStream::with_capacity(reader, 64 << 10), format, progress)
    }

    /// Imports from any source and sets a tag in the same durable step.
    fn import_tagged(
        &self,
        source: ImportSource,
        format: BlobFormat,
        tag: Tag,
        progress: Progress<ImportProgress>,
    ) -> impl Future<Output = Result<(TempTag, u64)>> + Send {
        self.import(source, ImportOptions { format, tag: Some(tag) }, progress)
    }
}

impl<T: Import + ?Sized> ImportExt for T {}
