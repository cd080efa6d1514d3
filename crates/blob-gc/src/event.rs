//! What a round reports.

use blob_traits::{EntryStatus, Hash, HashAndFormat};

use crate::GcReport;

/// What a round of collection reports, in this order: `GcStarted`, marks, sweeps, `GcCompleted`. While it sweeps it may have to
/// mark what was reached meanwhile, and with little memory it marks and sweeps in turns; what is missing or cannot be read is
/// reported once. A round that fails ends without `GcCompleted`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A round has begun.
    GcStarted,
    /// Something about marking.
    Mark(GcMarkEvent),
    /// Something about sweeping.
    Sweep(GcSweepEvent),
    /// The round has ended well.
    GcCompleted(GcReport),
}

/// What marking reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcMarkEvent {
    /// A root names a blob that is not in the store. That is no error.
    Missing {
        /// The root.
        root: HashAndFormat,
    },
    /// A root names a hash sequence that is not complete: the children that can be read are kept.
    PartialSequence {
        /// The sequence.
        hash: Hash,
        /// How many children that is.
        n_children: u64,
    },
    /// A hash sequence could not be read, or only in part, and [`GcOptions`](crate::GcOptions) say that the round goes on.
    UnreadableSequence {
        /// The sequence.
        hash: Hash,
        /// How many children were kept nonetheless.
        n_children: u64,
    },
    /// So much was marked so far.
    Progress {
        /// Hash sequences that were read.
        n_sequences: u64,
        /// Children that they list.
        n_children: u64,
    },
    /// Marking is done, in this pass.
    Marked {
        /// How many different blobs are kept, whether they are there or not.
        n_live: u64,
    },
}

/// What sweeping reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GcSweepEvent {
    /// A dry run: this blob would be deleted. They come in ascending order.
    Garbage {
        /// The blob.
        hash: Hash,
        /// Complete or partial.
        status: EntryStatus,
        /// How much of it is there.
        n_bytes: u64,
    },
    /// So much was swept so far.
    Progress {
        /// Blobs that were looked at.
        n_seen: u64,
        /// Blobs that were deleted.
        n_deleted: u64,
    },
}
