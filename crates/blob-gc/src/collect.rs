//! One round.

use std::collections::HashSet;

use blob_traits::{EntryStatus, Hash, Progress, SweepBatch, SweepRound, blocking::on_blocking_pool};
use futures_lite::future::yield_now;

use crate::{
    Event, GcError, GcMode, GcOptions, GcReport, GcStore, GcSweepEvent, MarkStore, NoRoots,
    listing::{AllBlobs, weigh},
    live::{LiveSet, Prefix, Verdict, prefix},
    mark::{Marker, Roots, sample_roots, sequences},
};

/// So many blobs are deleted in one step, or looked at between two reports.
const BATCH: usize = 16_384;
/// So often a batch may be refused because new sequences were reached before it is left to the next round.
const MAX_REFUSALS: u32 = 100;

/// Deletes every blob that nothing reaches, and returns what was done.
///
/// Roots are tags, temporary tags and `options.protected`. A root of format `HashSeq` also keeps the blobs that it lists, not
/// what those list. What becomes reachable while the round runs is kept, too. Writers and readers are not held up.
///
/// Dropping the future ends the round at its next batch; what was deleted is deleted, in whole batches. When the receiver of
/// the events goes away, the round ends with [`Error::Cancelled`](blob_traits::Error::Cancelled).
///
/// # Errors
/// [`GcError`]. A round that cannot read what was reachable when it began deletes nothing; one that fails later has deleted
/// whole batches of garbage. [`Error::SweepInProgress`](blob_traits::Error::SweepInProgress) while another round runs.
pub async fn collect<S: GcStore>(
    store: &S,
    options: GcOptions,
    progress: Progress<Event>,
) -> Result<GcReport, GcError> {
    collect_protecting(store, options, progress, async || Ok(Vec::new())).await
}

/// As [`collect`], and asks the caller what else is to be kept once everything that is reached from then on is noted.
///
/// # Errors
/// Those of [`collect`], and [`GcError::Protected`] when the caller cannot say.
pub async fn collect_protecting<S: GcStore>(
    store: &S,
    mut options: GcOptions,
    progress: Progress<Event>,
    protect: impl AsyncFnOnce() -> Result<Vec<blob_traits::HashAndFormat>, BoxError>,
) -> Result<GcReport, GcError> {
    progress.send(Event::GcStarted).await?;
    let round = match options.mode {
        GcMode::Sweep => Some(store.begin_sweep().await?),
        GcMode::DryRun => None,
    };
    // Not before: what the caller protects next would be missed.
    options.protected.extend(protect().await.map_err(GcError::Protected)?);
    let store = store.clone();
    let report = on_blocking_pool(move || async move {
        Ok(Collection { store: &store, options: &options, progress: &progress, round: round.as_ref() }
            .run()
            .await)
    })
    .await??;
    Ok(report)
}

/// What a caller's own code fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

struct Collection<'a, S, R> {
    store: &'a S,
    options: &'a GcOptions,
    progress: &'a Progress<Event>,
    /// `None` in a dry run.
    round: Option<&'a R>,
}

/// What has been reached since marking.
type Extra = HashSet<Prefix>;

impl<S: MarkStore, R: SweepRound> Collection<'_, S, R> {
    async fn run(&self) -> Result<GcReport, GcError> {
        let mut report = GcReport::default();
        let roots = sample_roots(self.store, &self.options.protected).await?;
        report.n_roots = roots.len() as u64;
        if let Some(round) = self.round {
            round.watch(sequences(&roots));
        }
        if roots.is_empty() && self.options.no_roots == NoRoots::Refuse {
            self.check_empty().await?;
        }
        let mut extra = Extra::new();
        let mut first = Some(0);
        while let Some(from) = first {
            let mut live = LiveSet::new(from, self.options.max_memory);
            self.mark(&roots, &mut live, &mut report).await?;
            report.n_passes += 1;
            self.sweep(&live, &mut extra, &mut report).await?;
            first = if self.is_enough(&report, 0) { None } else { live.next_first() };
        }
        self.progress.send(Event::GcCompleted(report)).await?;
        Ok(report)
    }

    async fn mark(&self, roots: &Roots, live: &mut LiveSet, report: &mut GcReport) -> Result<(), GcError> {
        // What is counted is the same in every pass, but for what is kept.
        let (n_sequences, n_missing) = (report.n_sequences, report.n_missing);
        let is_first = report.n_passes == 0;
        let mut marker = Marker::new(self.store, self.options, self.progress, report);
        if !is_first {
            marker = marker.again();
        }
        marker.mark(roots, live).await?;
        if !is_first {
            (report.n_sequences, report.n_missing) = (n_sequences, n_missing);
        }
        Ok(())
    }

    /// Nothing is kept: that is fine only where there is nothing.
    async fn check_empty(&self) -> Result<(), GcError> {
        match AllBlobs::of(self.store).await?.next().await? {
            None => Ok(()),
            Some(_) => Err(GcError::NoRoots),
        }
    }

    /// Deletes what a pass has found to be garbage: a merge of two ordered lists.
    async fn sweep(&self, live: &LiveSet, extra: &mut Extra, report: &mut GcReport) -> Result<(), GcError> {
        let mut blobs = AllBlobs::of(self.store).await?;
        let mut cursor = live.cursor();
        let (mut batch, mut n_bytes, mut n_looked) = (Vec::new(), 0, 0_usize);
        while !self.is_enough(report, 0)
            && let Some(hash) = blobs.next().await?
        {
            let verdict = cursor.look_up(&hash);
            report.n_seen += u64::from(verdict != Verdict::Elsewhere);
            if verdict == Verdict::Garbage {
                // Nothing beyond what is wanted is to go with the rest of a batch.
                if self.options.ensure_free.is_some() {
                    n_bytes += weigh(self.store, &hash).await?.map_or(0, |(_, n_bytes)| n_bytes);
                }
                batch.push(hash);
            }
            if batch.len() >= BATCH || self.is_enough(report, n_bytes) {
                self.sweep_batch(std::mem::take(&mut batch), extra, report).await?;
                n_bytes = 0;
            }
            n_looked += 1;
            if n_looked.is_multiple_of(BATCH) {
                self.tell_progress(report)?;
                yield_now().await;
            }
        }
        self.sweep_batch(batch, extra, report).await
    }

    async fn sweep_batch(
        &self,
        mut batch: Vec<Hash>,
        extra: &mut Extra,
        report: &mut GcReport,
    ) -> Result<(), GcError> {
        if batch.is_empty() {
            return Ok(());
        }
        let Some(round) = self.round else { return self.tell_garbage(&batch, report).await };
        let n_found = batch.len() as u64;
        for _ in 0..MAX_REFUSALS {
            self.mark_reached(round, extra, report).await?;
            batch.retain(|hash| !extra.contains(&prefix(hash)));
            // Where nobody waits for the end any more, this is where it is noticed.
            yield_now().await;
            if let SweepBatch::Swept(swept) = round.sweep(batch.clone()).await? {
                let n_deleted = swept.n_complete + swept.n_partial;
                report.swept += swept;
                report.n_put_off += n_found.saturating_sub(n_deleted);
                return self.tell_progress(report);
            }
        }
        report.n_put_off += n_found;
        Ok(())
    }

    /// Marks what sequences list that were reached, or grew, since they were read.
    async fn mark_reached(&self, round: &R, extra: &mut Extra, report: &mut GcReport) -> Result<(), GcError> {
        for hash in round.take_reached() {
            let mut marker = Marker::new(self.store, self.options, self.progress, report);
            let mark = |child| {
                extra.insert(prefix(&child));
            };
            marker.mark_sequence(hash, mark).await?;
        }
        Ok(())
    }

    async fn tell_garbage(&self, batch: &[Hash], report: &mut GcReport) -> Result<(), GcError> {
        for hash in batch {
            if let Some((status, n_bytes)) = weigh(self.store, hash).await? {
                report.swept.n_complete += u64::from(status == EntryStatus::Complete);
                report.swept.n_partial += u64::from(status == EntryStatus::Partial);
                report.swept.logical_bytes += n_bytes;
                let garbage = GcSweepEvent::Garbage { hash: *hash, status, n_bytes };
                self.progress.send(Event::Sweep(garbage)).await?;
            }
        }
        yield_now().await;
        Ok(())
    }

    fn tell_progress(&self, report: &GcReport) -> Result<(), GcError> {
        let n_deleted = report.swept.n_complete + report.swept.n_partial;
        let event = GcSweepEvent::Progress { n_seen: report.n_seen, n_deleted };
        Ok(self.progress.try_send(Event::Sweep(event))?)
    }

    /// Tells whether enough has been deleted once `more` bytes are.
    fn is_enough(&self, report: &GcReport, more: u64) -> bool {
        self.options
            .ensure_free
            .is_some_and(|n_bytes| report.swept.logical_bytes.saturating_add(more) >= n_bytes)
    }
}
