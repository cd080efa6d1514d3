//! Deleting by force (E51).

use blob_traits::{Delete, Hash, Result, blocking::unblock};
use smallvec::SmallVec;

use crate::{
    engine::{Decision, Engine, Keys},
    op::Op,
    store::FsStore,
};

/// So many blobs are deleted by one record.
pub(crate) const PER_RECORD: usize = 65_536;
/// And so many in one step: a transaction has at most 16 MiB (E9).
pub(crate) const PER_STEP: usize = 4 * PER_RECORD;

impl Delete for FsStore {
    /// More than 262,144 blobs are deleted in several steps.
    async fn delete(&self, mut hashes: Vec<Hash>) -> Result<()> {
        let engine = self.engine.clone();
        hashes.sort_unstable();
        hashes.dedup();
        if hashes.len() <= 16 {
            return engine.delete(&hashes).await;
        }
        // Many look-ups in the index.
        unblock(move || {
            hashes.chunks(PER_STEP).try_for_each(|step| futures_lite::future::block_on(engine.delete(step)))
        })
        .await
    }
}

impl Engine {
    async fn delete(&self, hashes: &[Hash]) -> Result<()> {
        let keys = Keys { blobs: hashes.into(), tags: SmallVec::new() };
        self.transact(&keys, keys.blobs.len() as u64 * 36, |state, looked| {
            for hash in &keys.blobs {
                state.partials.remove(hash);
            }
            let there = |hash: &&Hash| state.pending_blob(hash, looked).is_some();
            let hashes: Vec<Hash> = keys.blobs.iter().filter(there).copied().collect();
            let hidden = keys.blobs.iter().any(|hash| state.is_hidden(hash));
            let mut ops: Vec<Op> =
                hashes.chunks(PER_RECORD).map(|hashes| Op::Delete { hashes: hashes.to_vec() }).collect();
            if ops.is_empty() && hidden {
                // Another call's removal is queued and not durable yet: what follows it in the log is.
                ops.push(Op::Mark);
            }
            Ok(if ops.is_empty() { Decision::Nothing(()) } else { Decision::Write(ops, SmallVec::new(), ()) })
        })
        .await
    }
}
