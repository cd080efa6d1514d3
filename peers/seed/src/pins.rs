//! Temporary tags: one of the seed's for each content that ours hold.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use blob_traits::{HashAndFormat, TempTag, TempTagRegistry, TempTags};
use iroh_blobs::store::Store;

use crate::{
    convert::{content_to_ours, content_to_theirs},
    store::Seed,
};

/// Ours are counted by our registry, which tells nobody when the last one goes: so theirs are let go before the next
/// call to the seed, the first that could notice.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    issued: TempTagRegistry,
    held: Mutex<BTreeMap<HashAndFormat, iroh_blobs::TempTag>>,
}

impl Pins {
    /// Issues one of ours for one of theirs.
    pub(crate) fn adopt(&self, theirs: iroh_blobs::TempTag) -> TempTag {
        let content = content_to_ours(theirs.hash_and_format());
        let mut held = self.held();
        held.entry(content).or_insert(theirs);
        self.issued.issue(content)
    }

    /// Lets go of theirs where ours are gone.
    pub(crate) fn release(&self) {
        let mut held = self.held();
        let issued = self.issued.snapshot();
        held.retain(|content, _| issued.binary_search(content).is_ok());
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<HashAndFormat, iroh_blobs::TempTag>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> TempTags for Seed<S> {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.pins().adopt(self.store().temp_tag(content_to_theirs(content)))
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        self.pins().release();
        Box::new(self.store().temp_tags().map(content_to_ours))
    }
}
