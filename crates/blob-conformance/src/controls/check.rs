//! Proving and repairing with a defect.

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Damage, Demote, Progress, Result, Scan, ScanBlobs,
    ScanOf, Store,
};

use super::{Broken, entry::BrokenEntry};

impl<S: Store + ScanBlobs> ScanBlobs for Broken<S> {
    async fn scan(&self, which: ScanOf) -> Result<Scan<BrokenEntry<S::Entry>>> {
        let store = self.clone();
        Ok(self.inner.scan(which).await?.map(move |entry| store.entry(entry)))
    }
}

impl<S: Store + Demote> Demote for Broken<S> {
    async fn demote(
        &self,
        entry: BrokenEntry<S::Entry>,
        damage: Damage,
    ) -> Result<Option<BrokenEntry<S::EntryMut>>> {
        let demoted = self.inner.demote(entry.into_inner(), damage).await?;
        Ok(demoted.map(|entry| self.entry(entry)))
    }
}

impl<S: Store> ConsistencyCheck for Broken<S> {
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        self.inner.consistency_check(mode, progress).await
    }
}
