//! Looking at one blob: in one go where it is small, in several places at once where it is large.

use std::{path::PathBuf, sync::Arc};

use bao_tree::ChunkRanges;
use blob_traits::{
    Batch, BlobStatus, EntryStatus, ErrorInfo, Hash, MapEntry, Result, Scanned,
    blocking::{Alive, Watch, unblock},
};
use futures_buffered::FuturesUnorderedBounded;
use futures_lite::StreamExt;

use crate::{
    DamagedBlob,
    inspect::{Cv, Findings, Inspection, is_sound_in_memory},
    limits::Limits,
    pace::{Pace, Paced, Pause},
    pieces::{Opened, Pieces, ReadAhead},
    report::n_bytes,
    subtree::{GROUP, Subtree, whole_groups},
};

/// A blob over this size is looked at in parts of about this size.
const PART: u64 = 8 << 20;

/// What was found of a blob.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) size: u64,
    pub(crate) status: EntryStatus,
    /// What was recorded as present, in whole chunk groups.
    pub(crate) present: ChunkRanges,
    pub(crate) findings: Findings,
    /// How many bytes are stored, where that is another number than the size of a complete blob.
    pub(crate) stored_len: Option<u64>,
}

impl Looked {
    fn new(
        size: u64,
        status: EntryStatus,
        present: ChunkRanges,
        mut findings: Findings,
        stored_len: Option<u64>,
    ) -> Self {
        findings.bad &= present.clone();
        findings.unreadable &= present.clone();
        let tree = bao_tree::BaoTree::new(size, blob_traits::BLOCK_SIZE);
        findings.mended.sort_by_key(|parent| tree.pre_order_offset(parent.node));
        let stored_len = stored_len.filter(|stored| status == EntryStatus::Complete && *stored != size);
        Self { size, status, present, findings, stored_len }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.findings.is_sound() && self.stored_len.is_none()
    }

    /// Whether something is wrong that costs no data.
    pub(crate) fn has_bad_tree(&self) -> bool {
        self.findings.n_mended > 0 || self.stored_len.is_some()
    }

    /// What is valid, in whole chunk groups.
    pub(crate) fn valid(&self) -> ChunkRanges {
        &(&self.present - &self.findings.bad) - &self.findings.unreadable
    }

    pub(crate) fn to_damage(&self, hash: Hash) -> DamagedBlob {
        DamagedBlob {
            hash,
            size: self.size,
            status: self.status,
            path: None,
            bad: self.findings.bad.clone(),
            unreadable: self.findings.unreadable.clone(),
            n_bad_pairs: self.findings.n_mended + self.findings.n_lost_pairs,
            stored_len: self.stored_len,
            error: self.findings.error.as_ref().map(ErrorInfo::from),
        }
    }
}

/// What becomes of the pairs that are stored wrongly or not at all, as they should be: 64 bytes for each 16 KiB of a blob
/// whose tree is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WrongPairs {
    /// They are counted. Of a blob of any size no more are in memory than those of the parts that are being looked at, and one
    /// for each part.
    Counted,
    /// They are kept, for who mends them.
    Kept,
}

impl WrongPairs {
    fn trim(self, findings: &mut Findings) {
        if self == Self::Counted {
            findings.forget_pairs();
        }
    }
}

/// One part of a blob that is to be looked at.
struct Part {
    tree: Subtree,
    expected: Cv,
}

/// What was seen of a batch.
pub(crate) struct Seen<E> {
    /// Blobs that were handed out with all that is stored of them, and are sound.
    pub(crate) sound: Vec<Sound>,
    /// Such blobs that are not.
    pub(crate) suspect: Vec<(Hash, Option<PathBuf>)>,
    /// Other complete ones that were looked at.
    pub(crate) looked: Vec<(E, Option<PathBuf>, Looked)>,
    /// Those that take a look by themselves.
    pub(crate) unseen: Vec<(E, Option<PathBuf>)>,
    pub(crate) rest: Rest<E>,
}

/// What is left of a batch.
pub(crate) enum Rest<E> {
    Nothing,
    /// It is looked at when what was seen until now has been told, and somebody has waited.
    Later(Batch<E>, Pause),
    /// The budget is spent.
    LeftOut,
}

/// A blob in which there is nothing wrong.
pub(crate) struct Sound {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) path: Option<PathBuf>,
}

/// Looks at the blobs of a batch, one after the other on one thread, but for those that are large or partial.
///
/// # Errors
/// Those that concern the store as a whole. What is wrong with a blob is in its answer.
pub(crate) async fn look_at_batch<E: MapEntry>(batch: Batch<E>, limits: &Arc<Limits>) -> Result<Seen<E>> {
    // What is read is admitted blob by blob.
    let permit = limits.admit(0).await;
    let alive = Alive::default();
    let (watch, of_run) = (alive.watch(), limits.clone());
    let seen = unblock(move || look_at_some(batch, &of_run, &watch)).await;
    drop(permit);
    seen
}

/// Blocks.
fn look_at_some<E: MapEntry>(mut batch: Batch<E>, limits: &Limits, watch: &Watch) -> Result<Seen<E>> {
    let (sound, suspect, looked, unseen) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut seen = Seen { sound, suspect, looked, unseen, rest: Rest::Nothing };
    while let Some(scanned) = batch.next() {
        watch.check()?;
        let scanned = scanned?;
        if !limits.begin(scanned.complete_bytes()) {
            seen.rest = Rest::LeftOut;
            return Ok(seen);
        }
        match scanned {
            Scanned::Whole { hash, data, outboard, path } => {
                let size = data.len() as u64;
                if is_sound_in_memory(hash, data, outboard) {
                    seen.sound.push(Sound { hash, size, path });
                } else {
                    seen.suspect.push((hash, path));
                }
                let pause = limits.pace.owe(size);
                if pause.is_due() {
                    seen.rest = Rest::Later(batch, pause);
                    return Ok(seen);
                }
            }
            Scanned::Entry { entry, path } if is_quick(&entry) && !limits.pace.is_limited() => {
                let size = entry.size().value();
                let Top { findings, stored_len, .. } = look_at_top(&entry, size, None, watch, None)?;
                let present = whole_groups(&ChunkRanges::all(), size);
                let looked = Looked::new(size, EntryStatus::Complete, present, findings, stored_len);
                seen.looked.push((entry, path, looked));
            }
            Scanned::Entry { entry, path } => {
                seen.unseen.push((entry, path));
                // What it takes of the budget is known then.
                seen.rest = Rest::Later(batch, Pause::default());
                return Ok(seen);
            }
        }
    }
    Ok(seen)
}

/// Whether a blob is looked at in one go.
fn is_quick<E: MapEntry>(entry: &E) -> bool {
    entry.is_complete() && entry.size().value() <= PART
}

/// Looks at all that is there of a blob. `on_bytes` is told how many bytes have been looked at.
///
/// # Errors
/// Those that concern the store as a whole. What is wrong with the blob is in the answer.
pub(crate) async fn look_at<S, E>(
    store: &S,
    entry: &E,
    limits: &Limits,
    pairs: WrongPairs,
    mut on_bytes: impl FnMut(u64) -> Result<()>,
) -> Result<Looked>
where
    S: BlobStatus,
    E: MapEntry,
{
    let is_complete = entry.is_complete();
    let size = entry.size().value();
    let all = whole_groups(&ChunkRanges::all(), size);
    let present = if is_complete {
        all
    } else {
        let present = store.present_ranges(&entry.hash()).await?.unwrap_or_else(ChunkRanges::empty);
        whole_groups(&present, size)
    };
    let only = (!is_complete).then(|| Arc::new(present.clone()));
    // Dropped with this future, which the work on other threads notices.
    let alive = Alive::default();
    let at_once = if size <= PART { n_bytes(&present, size) } else { 0 };
    let permit = limits.admit(at_once).await;
    let (watch, opened, ranges) = (alive.watch(), entry.clone(), only.clone());
    // Of a blob that is looked at in parts nothing has been admitted yet.
    let pace = (size > PART).then(|| limits.pace.clone());
    let top = unblock(move || look_at_top(&opened, size, ranges.as_deref(), &watch, pace.as_deref())).await?;
    drop(permit);
    let Top { mut findings, parts, stored_len } = top;
    pairs.trim(&mut findings);
    let mut n_looked = at_once;
    let mut running = FuturesUnorderedBounded::new(limits.jobs.max(1));
    let mut parts = parts.into_iter();
    loop {
        while running.len() < limits.jobs.max(1)
            && let Some(part) = parts.next()
        {
            let (watch, entry, ranges) = (alive.watch(), entry.clone(), only.clone());
            let len = n_bytes(&(&present & &ChunkRanges::from(part.tree.chunks())), size);
            running.push(async move {
                let _permit = limits.admit(len).await;
                let found = unblock(move || look_at_part(&entry, &part, ranges.as_deref(), &watch)).await?;
                Ok::<_, blob_traits::Error>((len, found))
            });
        }
        let Some(done) = running.next().await else { break };
        let (len, mut found) = done?;
        pairs.trim(&mut found);
        findings.join(found);
        n_looked += len;
        on_bytes(n_looked.min(size))?;
    }
    let status = if is_complete { EntryStatus::Complete } else { EntryStatus::Partial };
    Ok(Looked::new(size, status, present, findings, stored_len))
}

/// What looking at the top of a tree has brought.
#[derive(Default)]
struct Top {
    findings: Findings,
    /// What is still to be looked at.
    parts: Vec<Part>,
    stored_len: Option<u64>,
}

/// Looks at the top of a tree, down to parts that can be looked at side by side; at all of a small blob.
fn look_at_top<E: MapEntry>(
    entry: &E,
    size: u64,
    only: Option<&ChunkRanges>,
    watch: &Watch,
    pace: Option<&Pace>,
) -> Result<Top> {
    let mut top = Top::default();
    let whole = Subtree::whole(size);
    let mut pieces = match Opened::new(entry, ReadAhead::Window) {
        Ok(pieces) => pieces,
        Err(e) => {
            top.findings.lose(&whole, e)?;
            return Ok(top);
        }
    };
    top.stored_len = pieces.stored_len().ok().flatten();
    let mut open = vec![(whole, *entry.hash().as_bytes())];
    let mut paced;
    let pieces: &mut dyn Pieces = match pace {
        Some(pace) => {
            paced = Paced { pieces: &mut pieces, pace, watch };
            &mut paced
        }
        None => &mut pieces,
    };
    let mut inspection = Inspection::new(pieces, &mut top.findings).there(only).watched(watch);
    while let Some((tree, expected)) = open.pop() {
        if size <= PART {
            inspection.run(&tree, &expected)?;
        } else if tree.n_groups() * GROUP <= PART {
            top.parts.push(Part { tree, expected });
        } else if let Some([left, right]) = inspection.open(&tree, &expected)? {
            open.extend([right, left]);
        }
    }
    Ok(top)
}

fn look_at_part<E: MapEntry>(
    entry: &E,
    part: &Part,
    only: Option<&ChunkRanges>,
    watch: &Watch,
) -> Result<Findings> {
    let mut findings = Findings::default();
    match Opened::new(entry, ReadAhead::Window) {
        Ok(mut pieces) => Inspection::new(&mut pieces, &mut findings)
            .there(only)
            .watched(watch)
            .run(&part.tree, &part.expected)?,
        Err(e) => findings.lose(&part.tree, e)?,
    }
    Ok(findings)
}
