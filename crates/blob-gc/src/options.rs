//! What a round is told, and what it tells in the end.

use blob_traits::{HashAndFormat, Swept};

/// How a round of collection is done. The default is the safe choice everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcOptions {
    /// What is kept besides what tags and temporary tags keep: a hash sequence with its children.
    pub protected: Vec<HashAndFormat>,
    /// Whether anything is deleted.
    pub mode: GcMode,
    /// What becomes of a round that meets a hash sequence which cannot be read.
    pub unreadable: UnreadableSequences,
    /// What becomes of a round that finds nothing to keep.
    pub no_roots: NoRoots,
    /// Stops as soon as so many bytes have been deleted, by what was there of the blobs, which go in ascending order. The disk
    /// may have less room than that: [`Swept`] tells the one from the other.
    pub ensure_free: Option<u64>,
    /// How much memory the set of what is reachable may take, in bytes. With less than 16 for each reachable blob the round
    /// makes several passes, each of which reads all hash sequences again.
    pub max_memory: usize,
}

/// Whether a round deletes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GcMode {
    /// It does.
    #[default]
    Sweep,
    /// It reports what it would delete. It does not exclude other rounds, and notes no acts.
    DryRun,
}

/// What becomes of a round that meets a hash sequence which cannot be read or, where it is complete, is damaged or malformed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnreadableSequences {
    /// The round fails before anything more is swept.
    #[default]
    Abort,
    /// The children that can be read and verified are kept, the others are lost if nothing else keeps them.
    KeepWhatCanBeRead,
}

/// What becomes of a round that finds nothing to keep and something to sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoRoots {
    /// The round fails.
    #[default]
    Refuse,
    /// Everything is deleted.
    DeleteAll,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self {
            protected: Vec::new(),
            mode: GcMode::default(),
            unreadable: UnreadableSequences::default(),
            no_roots: NoRoots::default(),
            ensure_free: None,
            max_memory: usize::MAX,
        }
    }
}

/// What a round of collection has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GcReport {
    /// Tags, temporary tags and protected hashes, each content once.
    pub n_roots: u64,
    /// Hash sequences that were read.
    pub n_sequences: u64,
    /// Roots that name a blob which is not there.
    pub n_missing: u64,
    /// Different blobs that are kept, whether they are there or not.
    pub n_live: u64,
    /// Blobs, complete and partial, that were looked at.
    pub n_seen: u64,
    /// Blobs that nothing reached when they were marked, and that were not deleted: because something has reached them since, or
    /// because new hash sequences came faster than they could be read. The next round looks at them again.
    pub n_put_off: u64,
    /// What was deleted; in a dry run, how many blobs would be.
    pub swept: Swept,
    /// How many passes that took.
    pub n_passes: u32,
}
