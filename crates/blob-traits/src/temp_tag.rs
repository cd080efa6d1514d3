//! Temporary tags: what keeps a blob alive while somebody works with it.

// Also relative where the file is compiled by the exploration of interleavings, with other primitives in `crate::sync`.
#[path = "temp_tag/round.rs"]
mod round;

use std::collections::BTreeMap;

use self::round::Reached;
pub use self::round::{CoveredHashes, Refused, SweepEpoch};
use crate::{
    BlobFormat, Hash, HashAndFormat,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

/// Keeps a blob alive, with what it lists where it is a hash sequence, as long as any clone of it lives.
///
/// Dropping the last clone releases the blob; nothing is deleted at that moment. A temporary tag does not outlive the
/// store's process and may outlive the store. Get one from [`TempTags::temp_tag`](crate::TempTags::temp_tag).
#[derive(Debug)]
pub struct TempTag {
    content: HashAndFormat,
    held: Weak<Mutex<Held>>,
}

/// What keeps blobs alive from within the process.
#[derive(Debug, Default)]
struct Held {
    /// How many temporary tags there are of each content.
    counts: BTreeMap<HashAndFormat, u64>,
    /// What has been reached since a round of collection began, while there is one.
    round: Option<Reached>,
}

impl TempTag {
    /// The blob that is kept alive.
    pub fn hash(&self) -> Hash {
        self.content.hash
    }

    /// Its format.
    pub fn format(&self) -> BlobFormat {
        self.content.format
    }

    /// Both.
    pub fn hash_and_format(&self) -> HashAndFormat {
        self.content
    }

    /// Keeps the blob alive for as long as the store is open.
    pub fn leak(mut self) {
        self.held = Weak::new();
    }
}

impl Clone for TempTag {
    fn clone(&self) -> Self {
        if let Some(held) = self.held.upgrade() {
            *lock(&held).counts.entry(self.content).or_default() += 1;
        }
        Self { content: self.content, held: self.held.clone() }
    }
}

impl Drop for TempTag {
    fn drop(&mut self) {
        let Some(held) = self.held.upgrade() else { return };
        let counts = &mut lock(&held).counts;
        if let Some(count) = counts.get_mut(&self.content) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.content);
            }
        }
    }
}

/// Issues and counts the temporary tags of one store, and notes during a round of collection what is reached meanwhile.
/// Any backend can use it.
///
/// Every act that makes a blob reachable issues a tag first, if only for its own duration: an import, a tag that is set, a
/// partial blob that is begun or completed. That is what makes collection safe; see [`SweepEpoch`].
#[derive(Clone, Debug, Default)]
pub struct TempTagRegistry(Arc<Mutex<Held>>);

impl TempTagRegistry {
    /// Creates a registry without tags.
    pub fn new() -> Self {
        Self::default()
    }

    /// Issues a tag. It protects from this moment on; a round that runs will not sweep the blob.
    pub fn issue(&self, content: HashAndFormat) -> TempTag {
        let mut held = lock(&self.0);
        *held.counts.entry(content).or_default() += 1;
        if let Some(round) = &mut held.round {
            round.reach(content);
        }
        TempTag { content, held: Arc::downgrade(&self.0) }
    }

    /// Says that more of a blob can be read than before: if it is a hash sequence that a round has marked, it is to be
    /// marked again. To be called before anybody can read more, as under the lock that readers take.
    pub fn changed(&self, hash: &Hash) {
        if let Some(round) = &mut lock(&self.0).round {
            round.change(hash);
        }
    }

    /// Tells whether a tag of either format holds this blob itself. What a hash sequence lists is not looked at.
    pub fn holds(&self, hash: &Hash) -> bool {
        lock(&self.0).holds(hash)
    }

    /// Everything that is held at this moment, each once, in order.
    pub fn snapshot(&self) -> Vec<HashAndFormat> {
        lock(&self.0).counts.keys().copied().collect()
    }

    /// Tells whether a round of collection runs.
    pub fn has_round(&self) -> bool {
        lock(&self.0).round.is_some()
    }

    /// Begins a round of collection: from now on everything that is reached is noted. `None` while another one runs.
    pub fn begin_round(&self) -> Option<SweepEpoch> {
        let mut held = lock(&self.0);
        if held.round.is_some() {
            return None;
        }
        held.round = Some(Reached::default());
        Some(SweepEpoch::new(self.0.clone()))
    }

    /// Makes the round that runs fail, if there is one: what it has read of the tags is no longer true. For a store of
    /// which a removal of tags has failed after it was seen.
    pub fn spoil_round(&self) {
        if let Some(round) = &mut lock(&self.0).round {
            round.spoil();
        }
    }
}

impl Held {
    fn holds(&self, hash: &Hash) -> bool {
        self.counts.contains_key(&HashAndFormat::raw(*hash))
            || self.counts.contains_key(&HashAndFormat::hash_seq(*hash))
    }
}

/// What is held is consistent after any panic: no code of others runs while it is locked, but for a decision about a batch,
/// which changes nothing here.
fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}
