//! Going through the blobs of a store.

use std::{
    collections::BTreeSet,
    num::NonZeroU64,
    path::{Path, PathBuf},
    sync::Arc,
};

use bao_tree::{ChunkRanges, blake3};
use blob_traits::{
    Batch, BoxStream, EntryStatus, Error, ErrorInfo, Hash, HashAndFormat, MapEntry, Progress, RangeSpec,
    ReadBlob, Result, Scan, ScanOf, TagRange,
};
use futures_buffered::FuturesUnorderedBounded;
use futures_lite::{StreamExt, future::yield_now};

use crate::{
    Ended, FailedBlob, Subset, ValidateOptions, ValidateProgress, ValidateReport, ValidateStore,
    check::{Looked, Rest, Sound, WrongPairs, look_at, look_at_batch},
    inspect::of_this_blob,
    limits::Limits,
    report::to_bytes,
    subtree::whole_groups,
};

/// Recomputes the hash trees of blobs from their bytes and compares them with what is stored.
///
/// Several blobs, and several parts of a large one, are looked at side by side, in the order in which the store reads them
/// best. What is wrong with one blob is reported, and the run goes on; a blob that is deleted meanwhile is left out. Changes
/// nothing.
///
/// Dropping the future ends the work at the next chunk group.
///
/// # Errors
/// [`Error::Cancelled`] when the receiver of the events goes away, and those that concern the store as a whole.
pub async fn validate<S: ValidateStore>(
    store: &S,
    options: ValidateOptions,
    progress: Progress<ValidateProgress>,
) -> Result<ValidateReport> {
    let limits = Arc::new(Limits::new(&options));
    let report = Run { store, limits: &limits, progress: &progress }.run(&options.subset).await;
    match &report {
        Ok(_) => progress.send(ValidateProgress::AllDone).await?,
        // Nobody listens any more.
        Err(Error::Cancelled) => {}
        Err(e) => progress.send(ValidateProgress::Abort(ErrorInfo::from(e))).await?,
    }
    report
}

/// Validation as a method of the store.
pub trait ValidateExt: ValidateStore {
    /// Looks for damage, as [`validate`] does.
    fn validate(
        &self,
        options: ValidateOptions,
        progress: Progress<ValidateProgress>,
    ) -> impl Future<Output = Result<ValidateReport>> + Send {
        validate(self, options, progress)
    }
}

impl<S: ValidateStore> ValidateExt for S {}

/// A hash sequence is read in pieces of a chunk group.
const AT_ONCE: usize = 16 << 10;

struct Run<'a, S> {
    store: &'a S,
    limits: &'a Arc<Limits>,
    progress: &'a Progress<ValidateProgress>,
}

/// What came of a blob, or of several.
enum Checked {
    Vanished,
    Failed(FailedBlob),
    Looked {
        hash: Hash,
        path: Option<PathBuf>,
        looked: Looked,
        was_demoted: bool,
    },
    /// Small, complete ones in which there is nothing wrong.
    Sound {
        n: u64,
        n_bytes: u64,
    },
}

/// A blob whose beginning has been reported.
struct Begun {
    id: u64,
    hash: Hash,
    is_complete: bool,
}

impl Begun {
    fn offset_event(&self, offset: u64) -> ValidateProgress {
        if self.is_complete {
            ValidateProgress::EntryProgress { id: self.id, offset }
        } else {
            ValidateProgress::PartialEntryProgress { id: self.id, offset }
        }
    }
}

impl<S: ValidateStore> Run<'_, S> {
    async fn run(&self, subset: &Subset) -> Result<ValidateReport> {
        let Scan { n_blobs, batches } = self.store.scan(chosen(self.store, subset).await?).await?;
        self.progress.send(ValidateProgress::Starting { total: n_blobs }).await?;
        let mut report = ValidateReport::default();
        self.go_through(batches, &mut report).await?;
        report.damaged.sort_by_key(|blob| blob.hash);
        report.failed.sort_by_key(|blob| blob.hash);
        report.demoted.sort_unstable();
        Ok(report)
    }

    async fn go_through(
        &self,
        mut batches: BoxStream<Batch<S::Entry>>,
        report: &mut ValidateReport,
    ) -> Result<()> {
        // While some are hashed, others are on their way to the threads that hash, and back.
        let at_once = self.limits.jobs.saturating_mul(4);
        let mut running = FuturesUnorderedBounded::new(at_once);
        let mut has_more = true;
        loop {
            while has_more && running.len() < at_once {
                let batch = batches.next().await.transpose()?;
                if batch.is_some() && self.limits.is_spent() {
                    report.ended = Ended::BudgetSpent;
                    has_more = false;
                } else if let Some(batch) = batch {
                    running.push(self.check_batch(batch));
                } else {
                    has_more = false;
                }
            }
            let Some(checked) = running.next().await else { return Ok(()) };
            let (checked, ended) = checked?;
            for checked in checked {
                note(report, checked);
            }
            if ended == Ended::BudgetSpent {
                report.ended = ended;
            }
        }
    }

    async fn check_batch(&self, batch: Batch<S::Entry>) -> Result<(Vec<Checked>, Ended)> {
        let (mut all, mut rest) = (Vec::new(), batch);
        loop {
            let seen = look_at_batch(rest, self.limits).await?;
            all.push(self.report_sound(seen.sound).await?);
            for (hash, path) in seen.suspect {
                // As it is now: it may have been written anew.
                all.push(match of_this_blob(self.store.get(&hash).await)? {
                    Ok(Some(entry)) => {
                        // That of a blob which has become partial is another.
                        let path = path.filter(|_| entry.is_complete());
                        self.check_entry(entry, path).await?
                    }
                    Ok(None) => Checked::Vanished,
                    Err(e) => Checked::failed(hash, &e),
                });
            }
            for (entry, path, looked) in seen.looked {
                let begun = self.begin(&entry, path.as_deref()).await?;
                all.push(self.end(begun, path, Ok(looked)).await?);
            }
            for (entry, path) in seen.unseen {
                all.push(self.check_entry(entry, path).await?);
            }
            rest = match seen.rest {
                Rest::Nothing => return Ok((all, Ended::AllDone)),
                Rest::LeftOut => return Ok((all, Ended::BudgetSpent)),
                Rest::Later(rest, pause) => {
                    pause.wait().await;
                    rest
                }
            };
        }
    }

    async fn report_sound(&self, blobs: Vec<Sound>) -> Result<Checked> {
        let sound =
            Checked::Sound { n: blobs.len() as u64, n_bytes: blobs.iter().map(|blob| blob.size).sum() };
        if !self.progress.is_none() {
            for Sound { hash, size, path } in blobs {
                let (id, path) = (self.progress.new_id(), to_text(path.as_deref()));
                self.progress.send(ValidateProgress::Entry { id, hash, path, size }).await?;
                self.progress.send(ValidateProgress::EntryDone { id, error: None }).await?;
            }
        }
        Ok(sound)
    }

    async fn check_entry(&self, entry: S::Entry, path: Option<PathBuf>) -> Result<Checked> {
        let begun = self.begin(&entry, path.as_deref()).await?;
        let on_bytes = |offset| self.progress.try_send(begun.offset_event(offset));
        let looked = match look_at(self.store, &entry, self.limits, WrongPairs::Counted, on_bytes).await {
            Err(e @ (Error::Cancelled | Error::Closed)) => return Err(e),
            looked => looked,
        };
        self.end(begun, path, looked).await
    }

    async fn begin(&self, entry: &S::Entry, path: Option<&Path>) -> Result<Begun> {
        let (id, hash, size) = (self.progress.new_id(), entry.hash(), entry.size().value());
        let is_complete = entry.is_complete();
        let path = to_text(path);
        self.progress
            .send(if is_complete {
                ValidateProgress::Entry { id, hash, path, size }
            } else {
                ValidateProgress::PartialEntry { id, hash, path, size }
            })
            .await?;
        Ok(Begun { id, hash, is_complete })
    }

    async fn end(&self, begun: Begun, path: Option<PathBuf>, looked: Result<Looked>) -> Result<Checked> {
        let checked = self.judge(begun.hash, path, looked).await?;
        if let Checked::Looked { looked, .. } = &checked {
            let n_present = crate::report::n_bytes(&looked.present, looked.size);
            self.progress.send(begun.offset_event(n_present)).await?;
        }
        self.progress.send(done_event(begun.id, begun.is_complete, &checked)).await?;
        Ok(checked)
    }

    /// What is wrong with a blob that is not there any more, or not the same, is no damage.
    async fn judge(&self, hash: Hash, path: Option<PathBuf>, looked: Result<Looked>) -> Result<Checked> {
        let judged = match looked {
            Ok(looked) => of_this_blob(self.judge_looked(hash, path, looked).await)?,
            Err(e) => Err(e),
        };
        match judged {
            Ok(checked) => Ok(checked),
            Err(e) => Ok(match of_this_blob(self.store.get(&hash).await)? {
                Ok(None) => Checked::Vanished,
                Ok(Some(_)) | Err(_) => Checked::failed(hash, &e),
            }),
        }
    }

    async fn judge_looked(&self, hash: Hash, path: Option<PathBuf>, mut looked: Looked) -> Result<Checked> {
        if !looked.is_sound() {
            let Some(present) = self.store.present_ranges(&hash).await? else { return Ok(Checked::Vanished) };
            // Another claim of its size may have made ranges of a partial blob leave meanwhile.
            looked.findings.bad &= present.clone();
            looked.findings.unreadable &= present;
        }
        let is_partial = looked.status == EntryStatus::Partial;
        let was_demoted = is_partial && self.store.was_demoted(&hash).await?;
        Ok(Checked::Looked { hash, path, looked, was_demoted })
    }
}

impl Checked {
    fn failed(hash: Hash, error: &Error) -> Self {
        Self::Failed(FailedBlob { hash, error: ErrorInfo::from(error) })
    }
}

fn to_text(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.to_string_lossy().into_owned())
}

fn done_event(id: u64, is_complete: bool, checked: &Checked) -> ValidateProgress {
    if is_complete {
        let error = match checked {
            Checked::Failed(failed) => Some(failed.error.message.clone()),
            Checked::Looked { hash, looked, .. } if !looked.is_sound() => {
                Some(looked.to_damage(*hash).to_string())
            }
            _ => None,
        };
        return ValidateProgress::EntryDone { id, error };
    }
    let ranges = match checked {
        Checked::Looked { looked, .. } => RangeSpec::new(looked.valid()),
        _ => RangeSpec::EMPTY,
    };
    ValidateProgress::PartialEntryDone { id, ranges }
}

fn note(report: &mut ValidateReport, checked: Checked) {
    match checked {
        Checked::Vanished => report.n_vanished += 1,
        Checked::Sound { n, n_bytes } => {
            report.n_complete += n;
            report.n_bytes += n_bytes;
        }
        Checked::Failed(failed) => report.failed.push(failed),
        Checked::Looked { hash, path, looked, was_demoted } => {
            report.n_bytes += crate::report::n_bytes(&looked.present, looked.size);
            match looked.status {
                EntryStatus::Partial => report.n_partial += 1,
                _ => report.n_complete += 1,
            }
            if was_demoted {
                report.demoted.push(hash);
            }
            if !looked.is_sound() {
                report.damaged.push(crate::DamagedBlob { path, ..looked.to_damage(hash) });
            }
        }
    }
}

/// The blobs of a subset.
async fn chosen<S: ValidateStore>(store: &S, subset: &Subset) -> Result<ScanOf> {
    Ok(match subset {
        Subset::All => ScanOf::All,
        Subset::Hashes(hashes) => ScanOf::Hashes(hashes.clone()),
        Subset::Tags(range) => ScanOf::Hashes(reached_by_tags(store, range.clone()).await?),
        Subset::Roots(roots) => ScanOf::Hashes(reached_by(store, roots).await?),
        Subset::Sample { one_in, seed } => {
            let mut sample = BTreeSet::new();
            for mut listing in [store.blobs().await?, store.partial_blobs().await?] {
                while let Some(hash) = listing.next().await {
                    let hash = hash?;
                    if is_in_sample(&hash, *one_in, *seed) {
                        sample.insert(hash);
                    }
                }
            }
            ScanOf::Hashes(sample)
        }
    })
}

fn is_in_sample(hash: &Hash, one_in: NonZeroU64, seed: u64) -> bool {
    let mut mixed = blake3::Hasher::new();
    mixed.update(&seed.to_le_bytes()).update(hash.as_bytes());
    let mut number = [0; 8];
    mixed.finalize_xof().fill(&mut number);
    u64::from_le_bytes(number).is_multiple_of(one_in.get())
}

/// What tags point to, and what is listed in the sequences among it, as far as those can be read.
async fn reached_by_tags<S: ValidateStore>(store: &S, range: TagRange) -> Result<BTreeSet<Hash>> {
    let mut reached = BTreeSet::new();
    let mut tags = store.tags(range).await?;
    while let Some(tag) = tags.next().await {
        let (_, root) = tag?;
        reach(store, root, &mut reached).await?;
    }
    Ok(reached)
}

/// The same of roots.
async fn reached_by<S: ValidateStore>(store: &S, roots: &[HashAndFormat]) -> Result<BTreeSet<Hash>> {
    let mut reached = BTreeSet::new();
    for root in roots {
        reach(store, *root, &mut reached).await?;
    }
    Ok(reached)
}

/// What cannot be read of a sequence is damage of the sequence, which is looked at itself.
async fn reach<S: ValidateStore>(store: &S, root: HashAndFormat, reached: &mut BTreeSet<Hash>) -> Result<()> {
    reached.insert(root.hash);
    if !root.format.is_hash_seq() {
        return Ok(());
    }
    let children = async {
        let Some(entry) = store.get(&root.hash).await? else { return Ok(()) };
        // What is there, not what somebody claims.
        let present = store.present_ranges(&root.hash).await?.unwrap_or_else(ChunkRanges::empty);
        let mut reader = entry.data_reader().await?;
        for range in to_bytes(&whole_groups(&present, entry.size().value()), entry.size().value()) {
            for offset in range.clone().step_by(AT_ONCE) {
                let len = usize::try_from(range.end - offset).unwrap_or(AT_ONCE).min(AT_ONCE);
                if let Ok(bytes) = reader.read_range(offset, len).await {
                    reached.extend(bytes.as_chunks().0.iter().map(|child| Hash::from_bytes(*child)));
                }
                yield_now().await;
            }
        }
        Ok(())
    };
    of_this_blob(children.await).map(drop)
}
