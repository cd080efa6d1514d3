//! From partial to partial with less (E48).

use std::sync::Arc;

use bao_tree::ChunkRanges;
use blob_traits::{Damage, Error, PartialTree, Result};

use super::{
    Life, Partial, Storage,
    disk::Disk,
    draft::{Draft, Linked},
    memory::Memory,
};
use crate::{
    demote::{Pairs, copy_all},
    engine::Engine,
    entry::open_data,
    op::Killed,
    outboard::read_pair,
};

impl Partial {
    /// Takes back that some chunks are there; `false`: the blob is not this partial one any more. Blocks.
    pub(crate) fn demote(&self, engine: &Engine, damage: &Damage) -> Result<bool> {
        // Writers wait.
        let _io = self.io();
        if self.life() != Life::Partial {
            return Ok(false);
        }
        let storage = self.inner().storage.clone();
        if let Storage::Disk(disk) = &storage {
            self.sync_disk_locked(engine, disk)?;
        }
        let tree = without(&self.inner().tree, &damage.lost);
        let mut draft = Draft::new(engine, self.hash);
        match &storage {
            Storage::Memory(memory) => self.draft_memory(&draft, memory, &tree, damage)?,
            Storage::Disk(disk) => self.draft_disk(engine, &draft, disk, &tree, damage)?,
        }
        draft.write_bits(&tree)?;
        let recorded = draft.record(|state, looked| {
            let still = match (&storage, state.pending_blob(&self.hash, looked)) {
                (Storage::Memory(_), None) => true,
                (Storage::Disk(disk), Some((current, Killed::Segment(_)))) => current.is_partial_in(disk.no),
                _ => false,
            };
            still && state.partials.is_current(self)
        })?;
        if recorded {
            let mut inner = self.inner();
            let disk = draft.to_disk();
            if inner.tree.size() != tree.size() {
                // Claimed anew while the files were written.
                disk.set_dirty();
            }
            inner.tree = without(&inner.tree, &damage.lost);
            inner.storage = Storage::Disk(Arc::new(disk));
            drop(inner);
            engine.sync_log().map_err(|failure| failure.to_error())?;
        }
        Ok(recorded)
    }

    /// Writes out what is in memory, also what is lost.
    fn draft_memory(
        &self,
        draft: &Draft<'_>,
        memory: &Memory,
        tree: &PartialTree,
        damage: &Damage,
    ) -> Result<()> {
        let data = draft.create_data()?;
        let mut runs = memory.runs();
        runs.try_for_each(|(offset, bytes)| data.write_all_at(bytes, offset))
            .and_then(|()| data.sync_data())
            .map_err(|e| Error::io("write a partial blob", "", e))?;
        let mut pairs = Pairs::new(self.hash, damage, |parent| Ok(memory.pair(parent)));
        draft.write_pairs(tree, |parent| pairs.get(parent))
    }

    /// Shares the data file with what was before.
    fn draft_disk(
        &self,
        engine: &Engine,
        draft: &Draft<'_>,
        disk: &Disk,
        tree: &PartialTree,
        damage: &Damage,
    ) -> Result<()> {
        let places = [engine.layout.partial_data(&self.hash, disk.no)];
        match draft.link_data(&places)? {
            Linked::Done { .. } => {}
            Linked::Missing => drop(draft.create_data()?),
            Linked::Unsupported => {
                copy_all(&open_data(engine, self.hash, disk.no)?, &draft.create_data()?)?;
            }
        }
        let mut pairs = Pairs::new(self.hash, damage, |parent| {
            let pairs = crate::entry::open_pairs(engine, self.hash, disk.no)?;
            read_pair(&*pairs, parent.number() * 64)
        });
        draft.write_pairs(tree, |parent| pairs.get(parent))
    }
}

/// A tree that has some chunks no more. Of what was written and not present nothing stays.
fn without(tree: &PartialTree, lost: &ChunkRanges) -> PartialTree {
    let size = tree.size();
    PartialTree::restore(size.value(), size.is_verified(), &(tree.present_ranges() - lost.clone()))
}
