//! Deleting what nothing reaches (E52, E53).

use std::{collections::HashMap, sync::Arc};

use blob_traits::{
    Error, Hash, Refused, Result, Sweep, SweepBatch, SweepEpoch, SweepRound, Swept, blocking::unblock,
};
use smallvec::SmallVec;

use crate::{
    delete::{PER_RECORD, PER_STEP},
    engine::{Decision, Engine, Keys},
    layout::FileNo,
    op::Op,
    partial::Partial,
    row::{BlobRow, BlobState},
    state::{Looked, State},
    store::FsStore,
};

/// A round of collection.
#[derive(Debug)]
pub struct FsRound {
    engine: Arc<Engine>,
    epoch: Arc<SweepEpoch>,
}

impl Sweep for FsStore {
    type Round = FsRound;

    async fn begin_sweep(&self) -> Result<FsRound> {
        self.engine.state().check_writable()?;
        self.engine.state().check_index(&self.engine.layout)?;
        let unrepaired = self.engine.state().unrepaired.clone();
        if unrepaired.holds_collection {
            let damaged = unrepaired.damaged.first();
            let path = damaged.map_or_else(|| self.engine.layout.log_dir(), |damaged| damaged.path.clone());
            return Err(Error::DamagedStore {
                path,
                what: "what the damaged records said is not known: nothing is collected until a check has repaired it".to_owned(),
            });
        }
        let epoch = self.engine.pins.begin_round().ok_or(Error::SweepInProgress)?;
        Ok(FsRound { engine: self.engine.clone(), epoch: Arc::new(epoch) })
    }
}

impl SweepRound for FsRound {
    fn watch(&self, sequences: Vec<Hash>) {
        self.epoch.watch(sequences);
    }

    fn take_reached(&self) -> Vec<Hash> {
        self.epoch.take_reached()
    }

    /// More than 262,144 candidates are swept in several steps.
    async fn sweep(&self, mut candidates: Vec<Hash>) -> Result<SweepBatch> {
        let (engine, epoch) = (self.engine.clone(), self.epoch.clone());
        // Many look-ups in the index.
        unblock(move || {
            candidates.sort_unstable();
            candidates.dedup();
            let mut swept = Swept::default();
            for step in candidates.chunks(PER_STEP) {
                let keys = Keys { blobs: step.into(), tags: SmallVec::new() };
                let looked = engine.look_up(&keys)?;
                engine.load_partials(step, &looked)?;
                match engine.sweep(&epoch, &keys, looked)? {
                    Some(weighed) => swept += engine.settle(weighed),
                    // What the steps before have deleted is not there the next time.
                    None => return Ok(SweepBatch::MarkFirst),
                }
            }
            Ok(SweepBatch::Swept(swept))
        })
        .await
    }
}

impl Engine {
    /// Loads the partial blobs among some, so that it is known how much of them is there.
    fn load_partials(self: &Arc<Self>, hashes: &[Hash], looked: &Looked) -> Result<()> {
        let maybe: Vec<Hash> = {
            let state = self.state();
            let is_partial = |row: &BlobRow| matches!(row.state, BlobState::Partial { .. });
            let row = |hash: &Hash| match state.visible.overlay_blob(hash) {
                Some(change) => change.row(),
                None => looked.blobs.get(hash).copied(),
            };
            hashes.iter().copied().filter(|hash| row(hash).is_some_and(|row| is_partial(&row))).collect()
        };
        for hash in maybe {
            if let Some(BlobRow { state: BlobState::Partial { no, .. }, .. }) = self.blob(&hash)? {
                // One whose files are damaged or gone is swept like the others.
                let _ = Partial::load_from_disk(self, hash, no);
            }
        }
        Ok(())
    }

    /// Decides about a batch and queues its deletion in one critical section of the state lock (E52). `None`: something is
    /// to be marked first.
    fn sweep(&self, epoch: &SweepEpoch, keys: &Keys, looked: Looked) -> Result<Option<Weighed>> {
        self.transact_looked(keys, looked, keys.blobs.len() as u64 * 36, |state, looked| {
            state.check_index(&self.layout)?;
            let condemned = epoch.decide(|covered| {
                keys.blobs.iter().copied().filter(|hash| !covered.covers(hash)).collect::<Vec<_>>()
            });
            let condemned = match condemned {
                Ok(condemned) => condemned,
                Err(Refused::MarkFirst) => return Ok(Decision::Nothing(None)),
                Err(Refused::Spoiled) => return Err(Error::SweepSpoiled),
            };
            let (mut weighed, mut recorded) = (Weighed::default(), Vec::new());
            for hash in condemned {
                let there = state.pending_blob(&hash, looked).map(|(there, _)| there);
                state.weigh(&hash, there, &mut weighed);
                state.partials.remove(&hash);
                recorded.extend(there.map(|_| hash));
            }
            let ops: Vec<Op> =
                recorded.chunks(PER_RECORD).map(|hashes| Op::Delete { hashes: hashes.to_vec() }).collect();
            let weighed = Some(weighed);
            Ok(if ops.is_empty() {
                Decision::Nothing(weighed)
            } else {
                Decision::Write(ops, SmallVec::new(), weighed)
            })
        })
    }

    /// Waits until the files of a batch have gone but for those that somebody reads, and sums up.
    fn settle(&self, Weighed { mut swept, files }: Weighed) -> Swept {
        let left = self.await_removal(&files);
        for (no, n_bytes) in files {
            *(if left.contains(&no) { &mut swept.pending_bytes } else { &mut swept.freed_bytes }) += n_bytes;
        }
        swept
    }
}

/// What the deletion of a batch brings. It is not known yet which files go at once.
#[derive(Debug, Default)]
struct Weighed {
    swept: Swept,
    /// The bytes that the files of a number take.
    files: HashMap<FileNo, u64>,
}

impl State {
    /// Adds what the deletion of a blob brings.
    fn weigh(&self, hash: &Hash, recorded: Option<BlobState>, weighed: &mut Weighed) {
        let swept = &mut weighed.swept;
        if let Some((state, size)) = recorded.and_then(|state| Some((state, state.complete_size()?))) {
            swept.n_complete += 1;
            swept.logical_bytes += size;
            match state.file_no() {
                // A referenced file is the user's: what it takes is no part of that.
                Some(no) => drop(weighed.files.insert(no, state.file_len())),
                // Its record is dead: that comes back with compaction.
                None if matches!(state, BlobState::Small { .. }) => swept.pending_bytes += state.log_len(),
                None => {}
            }
            return;
        }
        let in_memory = self.partials.get(hash).map(|partial| partial.n_bytes());
        if recorded.is_none() && in_memory.is_none() {
            return;
        }
        let n_bytes = in_memory.unwrap_or(0);
        swept.n_partial += 1;
        swept.logical_bytes += n_bytes;
        // One that is in memory alone takes nothing on the disk.
        if let Some(no) = recorded.and_then(BlobState::file_no) {
            weighed.files.insert(no, n_bytes);
        }
    }
}
