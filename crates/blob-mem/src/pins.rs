//! Every act that makes a blob reachable goes through here, one function for each.
//!
//! An act is one critical section of the state lock; it takes a pin at its start and lets it go when what it did can
//! be seen, or hands it to the caller. While
//! a round of collection runs, it is noted there what they reach.

use blob_traits::{Hash, HashAndFormat, SweepEpoch, TempTag, TempTagRegistry};

use crate::store::State;

/// The pins of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins {
    temp_tags: TempTagRegistry,
}

impl Pins {
    /// Somebody asks for a temporary tag. Takes no lock of the store's: it must work at any time.
    pub(crate) fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// A tag is going to point to a blob.
    pub(crate) fn tag(&self, _decided_under: &State, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// A blob is going to be imported; the pin is what the caller gets.
    pub(crate) fn import(&self, _decided_under: &State, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// Somebody is going to write a partial blob.
    pub(crate) fn get_or_create(&self, _decided_under: &State, hash: Hash) -> TempTag {
        self.reached(HashAndFormat::raw(hash))
    }

    /// A partial blob is going to be complete.
    pub(crate) fn insert_complete(&self, _decided_under: &State, hash: Hash) -> TempTag {
        self.reached(HashAndFormat::raw(hash))
    }

    /// More of a blob can be read than before.
    pub(crate) fn changed(&self, hash: &Hash) {
        self.temp_tags.changed(hash);
    }

    /// A round of collection begins, unless one runs.
    pub(crate) fn begin_round(&self) -> Option<SweepEpoch> {
        self.temp_tags.begin_round()
    }

    /// All that is pinned, each once, in order.
    pub(crate) fn snapshot(&self) -> Vec<HashAndFormat> {
        self.temp_tags.snapshot()
    }

    fn reached(&self, content: HashAndFormat) -> TempTag {
        self.temp_tags.issue(content)
    }
}
