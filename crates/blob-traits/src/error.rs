//! The one error of every store.

mod info;

use std::{io, path::PathBuf};

use bao_tree::{
    ChunkNum,
    io::{DecodeError, EncodeError},
};

use crate::{Hash, Tag};

pub use info::ErrorInfo;

/// What every call of a store returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Says why a call of a store failed, in terms that a caller can act on.
///
/// Converts to [`io::Error`] and back without loss, so that it reaches the caller of a reader or a batch writer as
/// well: `Error::from(io_error)` takes it out again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The blob is not in the store.
    #[error("blob {hash} is not in the store")]
    NotFound {
        /// The blob.
        hash: Hash,
    },
    /// Bytes that the call needs are not there: the blob is partial.
    #[error(
        "blob {hash} is partial: {n_missing} of its {n_chunks} chunks are missing, the first at byte {first_missing}"
    )]
    Incomplete {
        /// The blob.
        hash: Hash,
        /// The first byte that is missing.
        first_missing: u64,
        /// How many chunks of 1 KiB are missing of what was asked for.
        n_missing: u64,
        /// How many chunks the blob has by its current size claim.
        n_chunks: u64,
    },
    /// A partial blob has another size claim, or its size is already verified.
    #[error("blob {hash} cannot have {claimed} bytes: its current size claim is {current}")]
    SizeConflict {
        /// The blob.
        hash: Hash,
        /// The size that was claimed with the call.
        claimed: u64,
        /// The size that the store goes by.
        current: u64,
    },
    /// The size of a partial blob has not been verified: its last chunk is missing.
    #[error("the size of blob {hash} is not verified: its last chunk is missing")]
    SizeUnverified {
        /// The blob.
        hash: Hash,
    },
    /// A blob is larger than the store accepts.
    #[error("a blob of {size} bytes is over this store's limit of {limit} bytes")]
    TooLarge {
        /// The size of the blob, or how much of it was seen.
        size: u64,
        /// The limit of the store.
        limit: u64,
    },
    /// A batch for a partial blob is malformed; nothing of it was written.
    #[error("malformed batch for blob {hash}: {reason}")]
    InvalidBatch {
        /// The blob.
        hash: Hash,
        /// What is wrong with it.
        reason: InvalidBatch,
    },
    /// An entry was handed to a [`DynStore`](crate::dynamic::DynStore) over another type of store.
    #[error("the entry of blob {hash} comes from another type of store")]
    ForeignEntry {
        /// The blob.
        hash: Hash,
    },
    /// Bytes from a stream, a file or the store do not belong to the hash.
    #[error("bytes at {offset} do not belong to blob {hash}")]
    Mismatch {
        /// The blob.
        hash: Hash,
        /// Where the mismatch was noticed, in bytes from the start of the blob.
        offset: u64,
    },
    /// A file that the store refers to is not what it was when it was imported.
    #[error("{} has changed since it was imported as blob {hash}; import it again", path.display())]
    Changed {
        /// The blob.
        hash: Hash,
        /// The file.
        path: PathBuf,
    },
    /// What the store keeps of a blob is damaged or lost.
    #[error("blob {hash} is damaged in the store: {what}")]
    Damaged {
        /// The blob.
        hash: Hash,
        /// What was found.
        what: String,
    },
    /// A blob is no well-formed sequence of hashes, or no collection.
    #[error("blob {hash} is no collection: {reason}")]
    NotACollection {
        /// The blob.
        hash: Hash,
        /// What is wrong with it.
        reason: String,
    },
    /// A tag does not exist.
    #[error("there is no tag \"{tag}\"")]
    TagNotFound {
        /// The tag.
        tag: Tag,
    },
    /// The name of a tag is too long.
    #[error("a tag name of {len} bytes is over the limit of {limit} bytes")]
    TagTooLong {
        /// The length of the name.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A path that must be absolute is relative.
    #[error("{} is a relative path; give an absolute one", path.display())]
    RelativePath {
        /// The path.
        path: PathBuf,
    },
    /// There is no file of that name.
    #[error("there is no file {}", path.display())]
    FileNotFound {
        /// The path.
        path: PathBuf,
    },
    /// The path stands for a directory.
    #[error("{} is a directory", path.display())]
    IsADirectory {
        /// The path.
        path: PathBuf,
    },
    /// The path stands for a fifo, a socket or a device.
    #[error("{} is no regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses access to a path.
    #[error("no permission for {}", path.display())]
    PermissionDenied {
        /// The path.
        path: PathBuf,
    },
    /// The target of an export exists and was not to be replaced.
    #[error("{} exists already", path.display())]
    TargetExists {
        /// The path.
        path: PathBuf,
    },
    /// A name in a collection cannot be exported.
    #[error("the name \"{name}\" in the collection cannot be exported: {reason}")]
    UnsafeName {
        /// The name, escaped.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// The disk is full, or a quota is used up. Nothing was lost.
    #[error("no space left for the store")]
    NoSpace {
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process, or this one, has the store open.
    #[error("the store {} is open elsewhere ({})", path.display(), holder.as_deref().unwrap_or("holder unknown"))]
    Locked {
        /// The directory of the store.
        path: PathBuf,
        /// What the holder says of itself.
        holder: Option<String>,
    },
    /// The store has a format that this release cannot read; nothing was changed.
    #[error("{} has format {found}, this release reads up to {supported}; use a newer release", path.display())]
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// The version found.
        found: String,
        /// The newest version that can be read.
        supported: String,
    },
    /// A file of the store itself is damaged; nothing was changed.
    #[error("{} is damaged: {what}", path.display())]
    DamagedStore {
        /// The file.
        path: PathBuf,
        /// What was found, and what to do.
        what: String,
    },
    /// Another round of collection runs.
    #[error("another round of collection runs on this store; wait until it has ended")]
    SweepInProgress,
    /// What a round of collection has seen is no longer true, because the store has failed meanwhile.
    #[error(
        "this round of collection cannot go on: the store could not record a removal that it had shown already"
    )]
    SweepSpoiled,
    /// The receiver of progress events went away, or a callback refused to go on.
    #[error("cancelled")]
    Cancelled,
    /// The store was shut down.
    #[error("the store has been shut down")]
    Closed,
    /// An earlier failure left the store unable to write; reads work, reopening it helps.
    #[error("the store cannot write since an earlier failure ({what}); open it again")]
    Failed {
        /// The earlier failure.
        what: String,
    },
    /// The system failed in another way.
    #[error("{doing}{}", path.as_ref().map(|p| format!(" {}", p.display())).unwrap_or_default())]
    Io {
        /// What was being done; empty where that is not known.
        doing: &'static str,
        /// To which path.
        path: Option<PathBuf>,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Says what is wrong with a batch of hash tree items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidBatch {
    /// A leaf reaches past the end of the blob, or past the end of numbers.
    #[error("a leaf at {offset} of {len} bytes reaches past the end")]
    LeafBeyondSize {
        /// Where the leaf starts.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// A leaf does not start at a chunk, or ends inside of one that is not the last.
    #[error("a leaf at {offset} of {len} bytes does not consist of whole chunks")]
    LeafMisaligned {
        /// Where the leaf starts.
        offset: u64,
        /// How long it is.
        len: u64,
    },
    /// A parent is no node of the tree.
    #[error("node {node} is not in the tree")]
    ParentOutsideTree {
        /// The number of the node.
        node: u64,
    },
    /// Items are not in order: parents in pre-order, leaves by offset.
    #[error("items are out of order")]
    OutOfOrder,
}

impl Error {
    /// Attaches what was being done, and to which path, to an error of the system.
    ///
    /// Conditions that have a variant of their own (a missing file, no permission, a full disk, an error of a store
    /// inside) become that variant.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match Self::from(source) {
            Self::Io { doing: "", path: None, source } => match source.kind() {
                io::ErrorKind::NotFound => Self::FileNotFound { path },
                io::ErrorKind::PermissionDenied => Self::PermissionDenied { path },
                io::ErrorKind::IsADirectory => Self::IsADirectory { path },
                io::ErrorKind::AlreadyExists => Self::TargetExists { path },
                _ => Self::Io { doing, path: Some(path), source },
            },
            other => other,
        }
    }

    /// Says that a stream for `hash` could not be decoded.
    pub fn decode(hash: Hash, error: DecodeError) -> Self {
        match error {
            DecodeError::Io(e) => e.into(),
            DecodeError::ParentHashMismatch(node) => Self::mismatch(hash, node.chunk_range().start),
            DecodeError::LeafHashMismatch(chunk) => Self::mismatch(hash, chunk),
            DecodeError::ParentNotFound(_) | DecodeError::LeafNotFound(_) => {
                Self::from(io::Error::new(io::ErrorKind::UnexpectedEof, error))
            }
        }
    }

    /// Says that ranges of `hash` could not be encoded.
    pub fn encode(hash: Hash, error: EncodeError) -> Self {
        match error {
            EncodeError::Io(e) => e.into(),
            EncodeError::ParentHashMismatch(node) => Self::mismatch(hash, node.chunk_range().start),
            EncodeError::LeafHashMismatch(chunk) => Self::mismatch(hash, chunk),
            EncodeError::SizeMismatch => Self::mismatch(hash, ChunkNum(0)),
            EncodeError::ParentWrite(_) | EncodeError::LeafWrite(_) => {
                Self::from(io::Error::new(io::ErrorKind::ConnectionReset, error))
            }
        }
    }

    fn mismatch(hash: Hash, chunk: ChunkNum) -> Self {
        Self::Mismatch { hash, offset: chunk.to_bytes() }
    }

    /// Names the variant, stable over releases: for logs, scripts and other languages.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not-found",
            Self::Incomplete { .. } => "incomplete",
            Self::SizeConflict { .. } => "size-conflict",
            Self::SizeUnverified { .. } => "size-unverified",
            Self::TooLarge { .. } => "too-large",
            Self::InvalidBatch { .. } => "invalid-batch",
            Self::ForeignEntry { .. } => "foreign-entry",
            Self::Mismatch { .. } => "mismatch",
            Self::Changed { .. } => "changed",
            Self::Damaged { .. } => "damaged",
            Self::NotACollection { .. } => "not-a-collection",
            Self::TagNotFound { .. } => "tag-not-found",
            Self::TagTooLong { .. } => "tag-too-long",
            Self::RelativePath { .. } => "relative-path",
            Self::FileNotFound { .. } => "file-not-found",
            Self::IsADirectory { .. } => "is-a-directory",
            Self::NotAFile { .. } => "not-a-file",
            Self::PermissionDenied { .. } => "permission-denied",
            Self::TargetExists { .. } => "target-exists",
            Self::UnsafeName { .. } => "unsafe-name",
            Self::NoSpace { .. } => "no-space",
            Self::Locked { .. } => "locked",
            Self::UnsupportedFormat { .. } => "unsupported-format",
            Self::DamagedStore { .. } => "damaged-store",
            Self::SweepInProgress => "sweep-in-progress",
            Self::SweepSpoiled => "sweep-spoiled",
            Self::Cancelled => "cancelled",
            Self::Closed => "closed",
            Self::Failed { .. } => "failed",
            Self::Io { .. } => "io",
        }
    }

    /// The blob that the error is about, where it is about one.
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::NotFound { hash }
            | Self::Incomplete { hash, .. }
            | Self::SizeConflict { hash, .. }
            | Self::SizeUnverified { hash }
            | Self::InvalidBatch { hash, .. }
            | Self::ForeignEntry { hash }
            | Self::Mismatch { hash, .. }
            | Self::Changed { hash, .. }
            | Self::Damaged { hash, .. }
            | Self::NotACollection { hash, .. } => Some(*hash),
            _ => None,
        }
    }

    /// The path that the error is about, where it is about one.
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Self::Changed { path, .. }
            | Self::RelativePath { path }
            | Self::FileNotFound { path }
            | Self::IsADirectory { path }
            | Self::NotAFile { path }
            | Self::PermissionDenied { path }
            | Self::TargetExists { path }
            | Self::Locked { path, .. }
            | Self::UnsupportedFormat { path, .. }
            | Self::DamagedStore { path, .. } => Some(path),
            Self::Io { path, .. } => path.as_ref(),
            _ => None,
        }
    }

    fn kind(&self) -> io::ErrorKind {
        use io::ErrorKind as K;
        match self {
            Self::NotFound { .. } | Self::TagNotFound { .. } | Self::FileNotFound { .. } => K::NotFound,
            Self::Incomplete { .. } => K::UnexpectedEof,
            Self::InvalidBatch { .. }
            | Self::ForeignEntry { .. }
            | Self::SizeConflict { .. }
            | Self::SizeUnverified { .. }
            | Self::TagTooLong { .. }
            | Self::RelativePath { .. }
            | Self::NotAFile { .. }
            | Self::UnsafeName { .. } => K::InvalidInput,
            Self::TooLarge { .. } => K::FileTooLarge,
            Self::Mismatch { .. }
            | Self::Changed { .. }
            | Self::Damaged { .. }
            | Self::NotACollection { .. }
            | Self::DamagedStore { .. } => K::InvalidData,
            Self::IsADirectory { .. } => K::IsADirectory,
            Self::PermissionDenied { .. } => K::PermissionDenied,
            Self::TargetExists { .. } => K::AlreadyExists,
            Self::NoSpace { .. } => K::StorageFull,
            Self::Locked { .. } | Self::SweepInProgress => K::ResourceBusy,
            Self::UnsupportedFormat { .. } => K::Unsupported,
            Self::Cancelled => K::Interrupted,
            Self::Closed => K::NotConnected,
            Self::Failed { .. } | Self::SweepSpoiled => K::Other,
            Self::Io { source, .. } => source.kind(),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(error) => error,
            Err(source)
                if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                Self::NoSpace { source }
            }
            Err(source) => Self::Io { doing: "", path: None, source },
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io { doing: "", path: None, source } => source,
            // An interrupted call is one that std retries; a cancelled operation must not look like it.
            Error::Cancelled => Self::other(Error::Cancelled),
            error => Self::new(error.kind(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_io_error() {
        let hash = Hash::new(b"x");
        let back = Error::from(io::Error::from(Error::Incomplete {
            hash,
            first_missing: 7,
            n_missing: 1,
            n_chunks: 2,
        }));
        assert!(matches!(back, Error::Incomplete { hash: h, first_missing: 7, .. } if h == hash));
        let plain = io::Error::from(Error::from(io::Error::from_raw_os_error(5)));
        assert_eq!(plain.raw_os_error(), Some(5));
    }

    #[test]
    fn a_full_disk_is_named_as_such() {
        let error = Error::io("write", "/x", io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(error, Error::NoSpace { .. }));
    }
}
