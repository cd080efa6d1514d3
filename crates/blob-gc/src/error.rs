//! Why a round did not finish.

use blob_traits::{Error, Hash};

/// Why a round of collection did not finish. What was swept before stays swept; where marking fails, nothing is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// A hash sequence that is complete could not be read or does not verify, so that what it lists is not known. Nothing
    /// was swept.
    #[error("hash sequence {hash} cannot be read: nothing was collected; repair it, or remove what names it")]
    UnreadableSequence {
        /// The sequence.
        hash: Hash,
        /// What went wrong.
        source: Error,
    },
    /// A complete blob is kept as a hash sequence and is none: its length is not a multiple of 32. Nothing was swept.
    #[error("blob {hash} of {size} bytes is kept as a hash sequence and is none: nothing was collected")]
    MalformedSequence {
        /// The blob.
        hash: Hash,
        /// Its size in bytes.
        size: u64,
    },
    /// There is something to sweep and nothing that would be kept. Nothing was swept.
    #[error(
        "nothing is kept by any tag, and there are blobs: collecting would delete all of them; allow it if you mean it"
    )]
    NoRoots,
    /// The caller could not say what it protects. Nothing was swept.
    #[error("the caller could not say what it protects")]
    Protected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
}
