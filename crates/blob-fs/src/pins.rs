//! Every act that makes a blob reachable goes through here, one function for each.
//!
//! An act pins its blob before it looks whether the blob is there, under the state lock where it decides something
//! (E20), and holds the pin until its record is published or has failed (E23). While
//! a round of collection runs, it is noted there what they reach (E52).

use blob_traits::{BlobFormat, Hash, HashAndFormat, SweepEpoch, TempTag, TempTagRegistry};

use crate::state::State;

/// The pins of a store.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    temp_tags: TempTagRegistry,
}

impl Pins {
    /// Somebody asked for a temporary tag.
    pub(crate) fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// A tag is going to point to a blob.
    pub(crate) fn tag(&self, _decided_under: &State, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// A blob is going to be imported; the pin is what the caller gets in the end.
    pub(crate) fn import(&self, _decided_under: &State, content: HashAndFormat) -> TempTag {
        self.reached(content)
    }

    /// Somebody is going to write a partial blob.
    pub(crate) fn get_or_create(&self, _decided_under: &State, hash: Hash) -> TempTag {
        self.reached(raw(hash))
    }

    /// A partial blob is going to be complete.
    pub(crate) fn insert_complete(&self, _decided_under: &State, hash: Hash) -> TempTag {
        self.reached(raw(hash))
    }

    /// More of a blob can be read than before.
    pub(crate) fn changed(&self, hash: &Hash) {
        self.temp_tags.changed(hash);
    }

    /// A round of collection begins, unless one runs.
    pub(crate) fn begin_round(&self) -> Option<SweepEpoch> {
        self.temp_tags.begin_round()
    }

    /// Whether a round of collection runs.
    pub(crate) fn has_round(&self) -> bool {
        self.temp_tags.has_round()
    }

    /// Tags come back that were seen to be gone.
    pub(crate) fn spoil_round(&self) {
        self.temp_tags.spoil_round();
    }

    /// All that is pinned, each once, in order.
    pub(crate) fn snapshot(&self) -> Vec<HashAndFormat> {
        self.temp_tags.snapshot()
    }

    fn reached(&self, content: HashAndFormat) -> TempTag {
        self.temp_tags.issue(content)
    }
}

fn raw(hash: Hash) -> HashAndFormat {
    HashAndFormat { hash, format: BlobFormat::Raw }
}
