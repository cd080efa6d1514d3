//! Why a round did not finish.

use blob_traits::{Error, Hash};

/// Why a round of collection did not finish. What was swept before stays swept; where marking fails at first, nothing is. What
/// is reached while a round sweeps is marked then, and that may fail after some garbage is gone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// A hash sequence could not be read, or is complete and does not verify, or was demoted because it did not, so that what it
    /// lists is not known. Nothing more is swept.
    #[error("hash sequence {hash} cannot be read, and what it lists is not known")]
    UnreadableSequence {
        /// The sequence.
        hash: Hash,
        /// What went wrong.
        source: Error,
    },
    /// A complete blob is kept as a hash sequence and is none: its length is not a multiple of 32. Nothing more is
    /// swept.
    #[error("blob {hash} of {size} bytes is kept as a hash sequence and is none")]
    MalformedSequence {
        /// The blob.
        hash: Hash,
        /// Its size in bytes.
        size: u64,
    },
    /// There is something to sweep and nothing that would be kept. Nothing was swept.
    #[error("nothing is kept by any tag, and there are blobs: collecting would delete all of them")]
    NoRoots,
    /// The caller could not say what it protects. Nothing was swept.
    #[error("the caller could not say what it protects")]
    Protected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl GcError {
    /// Names the variant, stable over releases, as [`Error::code`] does, whose names it takes over.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnreadableSequence { .. } => "unreadable-sequence",
            Self::MalformedSequence { .. } => "malformed-sequence",
            Self::NoRoots => "no-roots",
            Self::Protected(_) => "protected",
            Self::Store(error) => error.code(),
        }
    }

    /// The blob that the error is about, where it is about one.
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::UnreadableSequence { hash, .. } | Self::MalformedSequence { hash, .. } => Some(*hash),
            Self::NoRoots | Self::Protected(_) => None,
            Self::Store(error) => error.hash(),
        }
    }
}
