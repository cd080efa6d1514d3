//! Rounds of collection of any store.

use std::fmt;

use super::erased::BoxFuture;
use crate::{Hash, Result, SweepBatch, SweepRound};

/// A round of collection of a [`DynStore`](super::DynStore).
pub struct DynRound(Box<dyn ErasedRound>);

trait ErasedRound: Send + Sync {
    fn watch(&self, sequences: Vec<Hash>);
    fn take_reached(&self) -> Vec<Hash>;
    fn sweep(&self, candidates: Vec<Hash>) -> BoxFuture<'_, Result<SweepBatch>>;
}

impl<R: SweepRound> ErasedRound for R {
    fn watch(&self, sequences: Vec<Hash>) {
        SweepRound::watch(self, sequences);
    }

    fn take_reached(&self) -> Vec<Hash> {
        SweepRound::take_reached(self)
    }

    fn sweep(&self, candidates: Vec<Hash>) -> BoxFuture<'_, Result<SweepBatch>> {
        Box::pin(SweepRound::sweep(self, candidates))
    }
}

impl DynRound {
    pub(super) fn new(round: impl SweepRound) -> Self {
        Self(Box::new(round))
    }
}

impl SweepRound for DynRound {
    fn watch(&self, sequences: Vec<Hash>) {
        self.0.watch(sequences);
    }

    fn take_reached(&self) -> Vec<Hash> {
        self.0.take_reached()
    }

    async fn sweep(&self, candidates: Vec<Hash>) -> Result<SweepBatch> {
        self.0.sweep(candidates).await
    }
}

impl fmt::Debug for DynRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynRound").finish_non_exhaustive()
    }
}
