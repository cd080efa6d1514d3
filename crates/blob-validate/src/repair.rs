//! Repairing what validation finds.

use bao_tree::ChunkRanges;
use blob_traits::{Damage, Error, ErrorInfo, Hash, HashAndFormat, MapEntry, Progress, Result};

use crate::{
    Fetched, Outcome, RepairOptions, RepairProgress, RepairReport, RepairStore, RepairedBlob, Source,
    check::{Looked, WrongPairs, look_at},
    fill::{failure, fill_from},
    limits::Limits,
    report::{n_bytes, to_bytes},
    subtree::whole_groups,
    validate::validate,
};

/// A blob that becomes another one so often while it is looked at is left to the next run.
const MAX_TRIES: u32 = 3;

/// Looks for damage and repairs it.
///
/// - A hash tree that is damaged over sound bytes is made anew from them.
/// - A complete blob with damaged bytes becomes partial, with exactly its sound ranges: a download can fill the gaps.
/// - Lost ranges are fetched from the sources, in their order: only those ranges and the pairs above them are read, and
///   nothing is written that is not proved by the hash. A blob that is whole then becomes complete.
/// - What an earlier repair has left partial is completed as well, as far as the sources go.
/// - When the [budget](crate::Budget) is spent once more, by what is read to repair, no other blob is begun.
/// - What the system fails to read may be sound: it is left as it is, unless a source has the blob.
///
/// Only what the store has on record is repaired. A blob whose record is lost, with everything that told of it, is no damage that
/// could be found: nothing tells it from one that was never there, a tag that names it included. It comes back when it is
/// imported again.
///
/// A file of a user's that the store refers to is never touched. Each blob is repaired by itself, in steps that each are atomic
/// and durable: a run can be interrupted at any point and repeated. Readers and writers are not held up. The pairs of one
/// blob at a time that are wrong are in memory, which is 4 MiB for each GiB of a blob whose tree is lost altogether.
///
/// # Errors
/// Those of [`validate`](crate::validate()). What goes wrong with one blob is in the report.
pub async fn repair<S: RepairStore>(
    store: &S,
    options: RepairOptions,
    progress: Progress<RepairProgress>,
) -> Result<RepairReport> {
    let found = validate(store, options.validate.clone(), progress.map(RepairProgress::Validate)).await?;
    // A budget of its own: what was found in the last moment of the other is mended as well.
    let limits = Limits::new(&options.validate);
    let mut hashes: Vec<Hash> = found.damaged.iter().map(|blob| blob.hash).collect();
    hashes.extend(&found.demoted);
    hashes.sort_unstable();
    hashes.dedup();
    let mut report = RepairReport { found, blobs: Vec::new() };
    for hash in hashes {
        if limits.is_spent() {
            report.blobs.push(RepairedBlob::not_begun(hash));
            continue;
        }
        let id = progress.new_id();
        let mut blob = Repair {
            store,
            sources: &options.sources,
            limits: &limits,
            progress: &progress,
            id,
            hash,
            fetched: Fetched::default(),
            failures: Vec::new(),
        };
        let outcome = match blob.run().await {
            Ok(outcome) => outcome,
            Err(e @ (Error::Cancelled | Error::Closed)) => return Err(e),
            Err(e) => Outcome::Failed(ErrorInfo::from(&e)),
        };
        progress.send(RepairProgress::Repaired { id, outcome: outcome.clone() }).await?;
        let Repair { fetched, failures, .. } = blob;
        report.blobs.push(RepairedBlob { hash, outcome, fetched, failures });
    }
    Ok(report)
}

/// Repair as a method of the store.
pub trait RepairExt: RepairStore {
    /// Looks for damage and repairs it, as [`repair`] does.
    fn repair(
        &self,
        options: RepairOptions,
        progress: Progress<RepairProgress>,
    ) -> impl Future<Output = Result<RepairReport>> + Send {
        repair(self, options, progress)
    }
}

impl<S: RepairStore> RepairExt for S {}

/// The repair of one blob.
struct Repair<'a, S> {
    store: &'a S,
    sources: &'a [Source],
    limits: &'a Limits,
    progress: &'a Progress<RepairProgress>,
    id: u64,
    hash: Hash,
    fetched: Fetched,
    failures: Vec<String>,
}

impl<S: RepairStore> Repair<'_, S> {
    async fn run(&mut self) -> Result<Outcome> {
        let store = self.store;
        // Nothing that is worth repairing is to be collected meanwhile.
        let _pin = store.temp_tag(HashAndFormat::raw(self.hash));
        for _ in 0..MAX_TRIES {
            let Some(entry) = store.get(&self.hash).await? else { return Ok(Outcome::Vanished) };
            let looked = look_at(store, &entry, self.limits, WrongPairs::Kept, |_| Ok(())).await?;
            let lost = self.lost(&looked).await;
            let is_left = !(&looked.findings.unreadable - &lost).is_empty();
            if looked.findings.unreadable != ChunkRanges::empty() && lost.is_empty() && !looked.has_bad_tree()
            {
                return Ok(Outcome::Unreadable);
            }
            let is_partial = !entry.is_complete();
            let was_demoted = store.was_demoted(&self.hash).await?;
            if looked.is_sound() {
                return if is_partial {
                    self.complete_what_was_demoted(was_demoted).await
                } else {
                    Ok(Outcome::Complete)
                };
            }
            let n_lost = n_bytes(&lost, looked.size);
            self.progress.send(RepairProgress::Repairing { id: self.id, hash: self.hash, n_lost }).await?;
            let damage = Damage { lost: lost.clone(), mended: looked.findings.mended };
            let Some(entry) = store.demote(entry, damage).await? else { continue };
            let wanted = if was_demoted { ChunkRanges::all() } else { lost };
            return Ok(match self.fill_and_complete(entry, wanted).await? {
                Outcome::Complete if is_left => Outcome::Unreadable,
                outcome => outcome,
            });
        }
        Ok(Outcome::Failed(ErrorInfo {
            code: "busy".to_owned(),
            message: "it changed each time it was looked at; run the repair again".to_owned(),
            hash: Some(self.hash),
            path: None,
        }))
    }

    /// What is to be taken back. What cannot be read is, where a source has the blob.
    async fn lost(&self, looked: &Looked) -> ChunkRanges {
        let mut lost = looked.findings.bad.clone();
        if !looked.findings.unreadable.is_empty() {
            for source in self.sources {
                lost |= source.has(&self.hash, looked.size, &looked.findings.unreadable).await;
            }
        }
        lost
    }

    /// A partial blob in which nothing is wrong: what is missing of it was taken back earlier, or it is whole.
    async fn complete_what_was_demoted(&mut self, was_demoted: bool) -> Result<Outcome> {
        let Some(entry) = self.store.get_mut(&self.hash).await? else { return Ok(Outcome::Vanished) };
        let wanted = if was_demoted { ChunkRanges::all() } else { ChunkRanges::empty() };
        let n_lost = n_bytes(&self.missing(&entry, &wanted).await?, entry.size().value());
        self.progress.send(RepairProgress::Repairing { id: self.id, hash: self.hash, n_lost }).await?;
        self.fill_and_complete(entry, wanted).await
    }

    async fn fill_and_complete(&mut self, entry: S::EntryMut, wanted: ChunkRanges) -> Result<Outcome> {
        for source in self.sources {
            let missing = self.missing(&entry, &wanted).await?;
            if missing.is_empty() {
                break;
            }
            let before = self.fetched.n_bytes;
            let on_bytes = |n_bytes| {
                self.progress.try_send(RepairProgress::Fetched { id: self.id, n_bytes: before + n_bytes })
            };
            match fill_from(self.store, &entry, source, &missing, &self.limits.pace, &on_bytes).await {
                Ok((fetched, failed)) => {
                    self.fetched.n_bytes += fetched.n_bytes;
                    self.fetched.n_hash_bytes += fetched.n_hash_bytes;
                    self.failures.extend(failed.map(|e| failure(source, &e)));
                }
                // A store that is closed may be the source; where it is this one, the next call says so.
                Err(e @ (Error::Cancelled | Error::NoSpace { .. })) => return Err(e),
                Err(e) => self.failures.push(failure(source, &e)),
            }
        }
        match self.store.insert_complete(entry.clone()).await {
            Ok(()) => Ok(Outcome::Complete),
            Err(Error::Incomplete { .. } | Error::SizeUnverified { .. }) => {
                let size = entry.size().value();
                let missing = to_bytes(&self.missing(&entry, &ChunkRanges::all()).await?, size);
                Ok(Outcome::Partial { missing })
            }
            Err(Error::NotFound { .. }) => Ok(Outcome::Vanished),
            Err(e) => Err(e),
        }
    }

    /// What is wanted and not there, in whole chunk groups.
    async fn missing(&self, entry: &S::EntryMut, wanted: &ChunkRanges) -> Result<ChunkRanges> {
        let size = entry.size().value();
        let present = self.store.present_ranges(&self.hash).await?.unwrap_or_else(ChunkRanges::empty);
        let all = whole_groups(&ChunkRanges::all(), size);
        Ok(&(wanted & &all) - &present)
    }
}
