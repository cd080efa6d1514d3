//! Deleting what nothing reaches.

use std::future::Future;

use crate::{Hash, Result};

/// Deletes blobs that nothing reaches, without ever deleting one that something does.
///
/// `blob-gc` drives it. A backend finds what it needs in [`TempTagRegistry::begin_round`](crate::TempTagRegistry::begin_round).
pub trait Sweep: Send + Sync {
    /// A round of collection.
    type Round: SweepRound;

    /// Begins a round. From this moment until the round is dropped, the store notes every act that makes a blob
    /// reachable: a temporary tag, a tag, an import, a partial blob that is begun or completed, and more of a hash sequence
    /// that the round [watches](SweepRound::watch).
    ///
    /// # Errors
    /// [`Error::SweepInProgress`](crate::Error::SweepInProgress) while another round runs,
    /// [`Error::DamagedStore`](crate::Error::DamagedStore) when the store has damage that may hide what is reachable.
    fn begin_sweep(&self) -> impl Future<Output = Result<Self::Round>> + Send;
}

/// A round of collection. Dropping it ends it; what was swept stays swept.
pub trait SweepRound: Send + Sync + 'static {
    /// Names hash sequences that are going to be read. To be called before they are.
    fn watch(&self, sequences: Vec<Hash>);

    /// Takes the hash sequences that were reached, or of which more can be read, since the last call: what they list must be
    /// marked before anything more is swept.
    fn take_reached(&self) -> Vec<Hash>;

    /// Deletes those of some blobs, complete or partial, that nothing has reached since the round began and no temporary tag
    /// holds, in one step that excludes all such acts. Durable when it returns.
    ///
    /// Readers that are open go on, and a file of the user's is never touched, as with
    /// [`delete`](crate::Delete::delete). Dropping the future leaves the batch deleted as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::SweepSpoiled`](crate::Error::SweepSpoiled) when the store can no longer vouch for what the round has seen.
    fn sweep(&self, candidates: Vec<Hash>) -> impl Future<Output = Result<SweepBatch>> + Send;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepBatch {
    /// It was swept.
    Swept(Swept),
    /// Nothing was deleted: [`take_reached`](SweepRound::take_reached) has hash sequences that are to be marked first.
    MarkFirst,
}

/// What a batch has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many complete blobs were deleted.
    pub n_complete: u64,
    /// How many partial blobs were deleted.
    pub n_partial: u64,
    /// The sizes of those blobs: what a partial one is claimed to have counts as far as it was there.
    pub logical_bytes: u64,
    /// The space that is free now, in bytes.
    pub freed_bytes: u64,
    /// The space that will be, once readers let go of it and the store has tidied up.
    pub pending_bytes: u64,
}

impl std::ops::AddAssign for Swept {
    fn add_assign(&mut self, more: Self) {
        self.n_complete += more.n_complete;
        self.n_partial += more.n_partial;
        self.logical_bytes += more.logical_bytes;
        self.freed_bytes += more.freed_bytes;
        self.pending_bytes += more.pending_bytes;
    }
}
