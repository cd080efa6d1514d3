//! Taking back that something is there.

use std::{collections::HashMap, ops::Range, sync::Arc};

use blob_traits::{Damage, Demote, PartialTree, Result, StoredParent};

use crate::{
    entry::{Content, MemEntry, Pair},
    partial::Pieces,
    store::MemStore,
};

impl Demote for MemStore {
    async fn demote(&self, entry: MemEntry, damage: Damage) -> Result<Option<MemEntry>> {
        let state = self.state()?;
        let blob = entry.blob();
        if !state.blobs.get(&blob.hash).is_some_and(|current| Arc::ptr_eq(current, blob)) {
            return Ok(None);
        }
        let mended: HashMap<StoredParent, Pair> = damage
            .mended
            .iter()
            .filter_map(|parent| Some((StoredParent::new(parent.node)?, parent.pair)))
            .collect();
        let mut content = blob.content();
        if entry.was_completed_since() {
            return Ok(None);
        }
        let present = content.present_ranges() - damage.lost;
        let tree = PartialTree::restore(content.size().value(), content.size().is_verified(), &present);
        let read = |range: Range<u64>| {
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            content.read(blob.hash, range.start, len).unwrap_or_default()
        };
        let pair = |parent| mended.get(&parent).copied().or_else(|| content.pair(parent));
        let pieces = Pieces::demoted(tree, read, pair);
        *content = Content::Partial(pieces);
        drop(content);
        Ok(Some(entry))
    }
}
