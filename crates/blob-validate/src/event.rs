//! What a run reports on its way.

use blob_traits::{ErrorInfo, Hash, RangeSpec};
use serde::{Deserialize, Serialize};

use crate::Outcome;

/// What validation reports: `Starting`; for each blob, by its id, `Entry`, offsets, `EntryDone`, or the same of a partial one;
/// then `AllDone` or `Abort`. Blobs that are looked at side by side are reported side by side. Offsets may be missed by who
/// is slow, but for the last one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValidateProgress {
    /// The run has begun.
    Starting {
        /// How many blobs there are to look at, complete and partial.
        total: u64,
    },
    /// A complete blob is looked at.
    Entry {
        /// The number of this blob, unique in the run.
        id: u64,
        /// The blob.
        hash: Hash,
        /// The file that has its bytes, where there is one.
        path: Option<String>,
        /// Its size in bytes.
        size: u64,
    },
    /// So much of it has been looked at.
    EntryProgress {
        /// The number of the blob.
        id: u64,
        /// In bytes from its start; of a large blob that is looked at in several places, how many bytes in all.
        offset: u64,
    },
    /// The blob has been looked at.
    EntryDone {
        /// The number of the blob.
        id: u64,
        /// What is wrong with it.
        error: Option<String>,
    },
    /// A partial blob is looked at.
    PartialEntry {
        /// The number of this blob, unique in the run.
        id: u64,
        /// The blob.
        hash: Hash,
        /// The file that has its bytes, where there is one.
        path: Option<String>,
        /// Its size in bytes, which may be no more than a claim.
        size: u64,
    },
    /// So much of it has been looked at.
    PartialEntryProgress {
        /// The number of the blob.
        id: u64,
        /// How many bytes.
        offset: u64,
    },
    /// The partial blob has been looked at.
    PartialEntryDone {
        /// The number of the blob.
        id: u64,
        /// What is valid of it, in whole chunk groups.
        ranges: RangeSpec,
    },
    /// The run has ended.
    AllDone,
    /// The run could not go on.
    Abort(ErrorInfo),
}

/// What repair reports: all that validation does, up to `AllDone`, then for each damaged blob `Repairing`, any number of
/// `Fetched`, and `Repaired`; nothing for a blob that is not begun because the budget is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairProgress {
    /// Damage is looked for.
    Validate(ValidateProgress),
    /// A blob is being repaired.
    Repairing {
        /// The number of this blob, unique in the run.
        id: u64,
        /// The blob.
        hash: Hash,
        /// How many of its bytes are lost.
        n_lost: u64,
    },
    /// So much came from a source.
    Fetched {
        /// The number of the blob.
        id: u64,
        /// How many bytes of it in all.
        n_bytes: u64,
    },
    /// A blob has been repaired as far as that goes.
    Repaired {
        /// The number of the blob.
        id: u64,
        /// What became of it.
        outcome: Outcome,
    },
}
