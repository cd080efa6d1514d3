//! Taking back that something is there.

use blob_traits::{Damage, Demote, Result};

use crate::{entry::Entry, store::FsStore};

impl Demote for FsStore {
    async fn demote(&self, _entry: Entry, _damage: Damage) -> Result<Option<Entry>> {
        unimplemented!("helper C")
    }
}
