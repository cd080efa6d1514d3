//! Collection with a defect.

use blob_traits::{Hash, Result, Store, Sweep, SweepBatch, SweepRound, Swept};

use super::{Broken, Defect};

/// A round of collection of a broken store.
pub struct BrokenRound<S: Store + Sweep> {
    store: Broken<S>,
    /// `None` where rounds exclude nothing.
    inner: Option<S::Round>,
}

impl<S: Store + Sweep> Sweep for Broken<S> {
    type Round = BrokenRound<S>;

    async fn begin_sweep(&self) -> Result<Self::Round> {
        let inner = match self.defect {
            Defect::TwoRounds => self.inner.begin_sweep().await.ok(),
            _ => Some(self.inner.begin_sweep().await?),
        };
        Ok(BrokenRound { store: self.clone(), inner })
    }
}

impl<S: Store + Sweep> SweepRound for BrokenRound<S> {
    fn watch(&self, sequences: Vec<Hash>) {
        if let Some(inner) = self.inner.as_ref().filter(|_| !self.store.is(Defect::GrowthUnnoticed)) {
            inner.watch(sequences);
        }
    }

    fn take_reached(&self) -> Vec<Hash> {
        let reached = self.inner.as_ref().map(SweepRound::take_reached).unwrap_or_default();
        if self.store.is(Defect::NewSequencesForgotten) { Vec::new() } else { reached }
    }

    async fn sweep(&self, candidates: Vec<Hash>) -> Result<SweepBatch> {
        match (&self.inner, self.store.defect) {
            (_, Defect::SweepDeletesBlindly) | (None, _) => {
                let n_complete = candidates.len() as u64;
                self.store.inner.delete(candidates).await?;
                Ok(SweepBatch::Swept(Swept { n_complete, ..Swept::default() }))
            }
            (Some(_), Defect::SweepDoesNothing) => Ok(SweepBatch::Swept(Swept::default())),
            (Some(inner), _) => inner.sweep(candidates).await,
        }
    }
}

impl<S: Store + Sweep> std::fmt::Debug for BrokenRound<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokenRound").field("store", &self.store).finish_non_exhaustive()
    }
}
