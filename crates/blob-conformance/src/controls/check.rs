//! Proving and repairing with a defect.

use bao_tree::ChunkRanges;
use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Damage, Demote, EntryStatus, MapEntry, Progress,
    ReportLevel, Result, Scan, ScanBlobs, ScanOf, Scanned, Store,
};
use futures_lite::{StreamExt, stream};

use super::{Broken, Defect, entry::BrokenEntry};

impl<S: Store + ScanBlobs> ScanBlobs for Broken<S> {
    async fn scan(&self, which: ScanOf) -> Result<Scan<BrokenEntry<S::Entry>>> {
        let store = self.clone();
        let scan = self.inner.scan(which).await?.map(move |entry| store.entry(entry));
        if ![Defect::ScanLosesPartial, Defect::ScanLosesLast, Defect::ScanTwice].contains(&self.defect) {
            return Ok(scan);
        }
        let mut all = scan.read_all().await?;
        match self.defect {
            Defect::ScanLosesPartial => all.retain(is_complete),
            Defect::ScanTwice => all.extend(all.first().cloned()),
            _ => drop(all.pop()),
        }
        let n_blobs = all.len() as u64;
        Ok(Scan { n_blobs, batches: stream::once(Ok(all.into())).boxed() })
    }
}

fn is_complete<E: MapEntry>(scanned: &Scanned<E>) -> bool {
    match scanned {
        Scanned::Whole { .. } => true,
        Scanned::Entry { entry, .. } => entry.is_complete(),
    }
}

impl<S: Store + Demote> Demote for Broken<S> {
    async fn demote(
        &self,
        entry: BrokenEntry<S::Entry>,
        mut damage: Damage,
    ) -> Result<Option<BrokenEntry<S::EntryMut>>> {
        let mut entry = entry.into_inner();
        match self.defect {
            Defect::DemotedInName => damage.lost = ChunkRanges::empty(),
            Defect::DemotedWholly if !damage.lost.is_empty() => damage.lost = ChunkRanges::all(),
            Defect::DemotedByDeletion => {
                self.inner.delete(vec![entry.hash()]).await?;
                let (hash, size) = (entry.hash(), entry.size().value());
                return Ok(Some(self.entry(self.inner.get_or_create(hash, size).await?)));
            }
            Defect::DemotedBlindly => {
                let Some(current) = self.inner.get(&entry.hash()).await? else { return Ok(None) };
                entry = current;
            }
            Defect::PairsUnmended => damage.mended.clear(),
            _ => {}
        }
        let demoted = self.inner.demote(entry, damage).await?;
        Ok(demoted.map(|entry| self.entry(entry)))
    }
}

impl<S: Store> Broken<S> {
    /// Whether a blob was demoted, as this store tells it.
    pub(super) async fn told_demoted(&self, hash: &blob_traits::Hash) -> Result<bool> {
        match self.defect {
            Defect::DemotionForgotten => Ok(false),
            Defect::DemotionRemembered => Ok(self.inner.entry_status(hash).await? == EntryStatus::Partial),
            _ => self.inner.was_demoted(hash).await,
        }
    }
}

impl<S: Store> ConsistencyCheck for Broken<S> {
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        let mode = match self.defect {
            Defect::CheckMendsUnasked => CheckMode::Repair,
            Defect::CheckNeverMends => CheckMode::Report,
            _ => mode,
        };
        if self.is(Defect::CheckCriesWolf) {
            let (message, level) = ("wolf".to_owned(), ReportLevel::Warn);
            progress.send(ConsistencyCheckProgress::Update { message, entry: None, level }).await?;
        }
        let (Defect::CheckNeverDone | Defect::CheckSaysNothing) = self.defect else {
            return self.inner.consistency_check(mode, progress).await;
        };
        let hidden = match self.defect {
            Defect::CheckNeverDone => is_done,
            _ => is_trouble,
        };
        let (through, mut events) = Progress::channel(1);
        let forwarding = async {
            while let Some(event) = events.recv().await {
                if !hidden(&event) {
                    progress.send(event).await?;
                }
            }
            Ok(())
        };
        let checking = self.inner.consistency_check(mode, through);
        let (checked, forwarded) = futures_lite::future::zip(checking, forwarding).await;
        checked.and(forwarded)
    }
}

fn is_done(event: &ConsistencyCheckProgress) -> bool {
    matches!(event, ConsistencyCheckProgress::Done)
}

fn is_trouble(event: &ConsistencyCheckProgress) -> bool {
    matches!(event, ConsistencyCheckProgress::Update { level, .. } if *level >= ReportLevel::Warn)
}
