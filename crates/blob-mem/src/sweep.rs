//! Deleting what nothing reaches.

use std::sync::Arc;

use blob_traits::{Error, Hash, Refused, Result, Sweep, SweepBatch, SweepEpoch, SweepRound, Swept};

use crate::{entry::Content, store::MemStore};

/// A round of collection.
#[derive(Debug)]
pub struct MemRound {
    store: MemStore,
    epoch: SweepEpoch,
}

impl Sweep for MemStore {
    type Round = MemRound;

    async fn begin_sweep(&self) -> Result<MemRound> {
        self.state().map(drop)?;
        let epoch = self.pins().begin_round().ok_or(Error::SweepInProgress)?;
        Ok(MemRound { store: self.clone(), epoch })
    }
}

impl SweepRound for MemRound {
    fn watch(&self, sequences: Vec<Hash>) {
        self.epoch.watch(sequences);
    }

    fn take_reached(&self) -> Vec<Hash> {
        self.epoch.take_reached()
    }

    async fn sweep(&self, mut candidates: Vec<Hash>) -> Result<SweepBatch> {
        // Every act but the issuing of a temporary tag is a critical section of this lock.
        let mut state = self.store.state()?;
        match self.epoch.decide(|covered| candidates.retain(|hash| !covered.covers(hash))) {
            Ok(()) => {}
            Err(Refused::MarkFirst) => return Ok(SweepBatch::MarkFirst),
            Err(Refused::Spoiled) => return Err(Error::SweepSpoiled),
        }
        let mut swept = Swept::default();
        for blob in candidates.iter().filter_map(|hash| state.remove(hash)) {
            let len = match &*blob.content() {
                Content::Whole(whole) => {
                    swept.n_complete += 1;
                    whole.data.len() as u64
                }
                Content::Partial(pieces) | Content::Removed(pieces) => {
                    swept.n_partial += 1;
                    pieces.n_bytes()
                }
            };
            swept.logical_bytes += len;
            let is_held = Arc::strong_count(&blob) > 1;
            *(if is_held { &mut swept.pending_bytes } else { &mut swept.freed_bytes }) += len;
        }
        Ok(SweepBatch::Swept(swept))
    }
}
