//! What a run is told.

use std::{
    collections::BTreeSet,
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use blob_traits::{Hash, HashAndFormat, TagRange};

use crate::Source;

/// How blobs are validated. The default looks at every byte of every blob, on all cores.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ValidateOptions {
    /// How many blobs, or parts of large ones, are looked at side by side; by default twice as many as there are cores.
    pub jobs: Option<NonZeroUsize>,
    /// At most so many bytes are read per second, of the store and of sources together. Needs a runtime with a clock.
    pub rate: Option<NonZeroU64>,
    /// When to stop.
    pub budget: Budget,
    /// Which blobs are looked at.
    pub subset: Subset,
}

/// After how much work a run ends, with what it has found so far. Blobs that are being looked at are finished.
///
/// A repair has it twice, once for looking and once for mending: otherwise one that finds damage late would never mend it.
/// Blobs that are left out say so, with [`Outcome::NotBegun`](crate::Outcome::NotBegun).
///
/// A run always begins at the start of the store's order: to see all of a store little by little, vary the seed of
/// [`Subset::Sample`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Bytes of blobs.
    pub n_bytes: Option<u64>,
    /// Time since the beginning.
    pub time: Option<Duration>,
}

/// Which blobs are looked at.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Subset {
    /// All of them.
    #[default]
    All,
    /// Those of these that are there.
    Hashes(BTreeSet<Hash>),
    /// What these tags point to, and what is listed in the hash sequences among that.
    Tags(TagRange),
    /// These blobs, and what is listed in those of them that are hash sequences, of what is there.
    Roots(Vec<HashAndFormat>),
    /// About one in so many, chosen by their hashes and a seed: another seed chooses others, the same seed the same.
    Sample {
        /// One in how many.
        one_in: NonZeroU64,
        /// Changes which ones.
        seed: u64,
    },
}

/// How blobs are repaired.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// How damage is looked for.
    pub validate: ValidateOptions,
    /// Where lost ranges may be found, in this order. Nothing of them is trusted.
    pub sources: Vec<Source>,
}
