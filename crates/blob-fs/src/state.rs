//! What the state lock guards (E18, E19): the queue, the pending view and the visible view. No I/O happens here.

mod pending;
mod relocate;
mod wanted;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use blob_traits::{Error, Hash, Result, Tag};

use self::pending::Pending;
pub(crate) use self::relocate::{CompactionState, Relocation};
use crate::{
    by_hash::ByHash,
    failure::{Failure, Severity},
    format::record::CameFrom,
    handle::{Guard, Handles},
    index::IndexReader,
    layout::{FileNo, Layout},
    log::Appended,
    op::{Op, Orphan, Outcome, Queued, Txn},
    overlay::{Change, Overlay},
    partial::Partials,
    recover::{DamagedRange, Recovery},
    row::{BlobRow, Checkpoint, TagRow},
};

type Done = tokio::sync::oneshot::Sender<Outcome>;

/// Guarded by the engine's state lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// Nothing is written any more (E27).
    pub(crate) failed: Option<Failure>,
    next_seq: u64,
    /// In log order (E18).
    pub(crate) queue: VecDeque<Txn>,
    /// Somebody is writing a group.
    pub(crate) leading: bool,
    pending: Pending,
    pub(crate) visible: Visible,
    /// Why the index could not be committed or opened the last time, if that failed (E35).
    pub(crate) index_trouble: Option<Failure>,
    /// How often that has failed.
    pub(crate) index_failures: u64,
    /// Somebody waits for a commit, however long the last one failed ago.
    pub(crate) commit_wanted: bool,
    pub(crate) verification: Verification,
    /// A group failed, and nothing durable says yet that the log ends before it.
    pub(crate) is_log_in_doubt: bool,
    /// The last record that is published, and where it lies.
    pub(crate) published: Checkpoint,
    /// The highest seq known durable.
    pub(crate) durable_seq: u64,
    /// Bytes that are published and not synced (Relaxed), and since when.
    pub(crate) unsynced: Option<(u64, Instant)>,
    /// Bytes of the log that the index does not have.
    pub(crate) log_behind: u64,
    /// Files to be moved to `data/` before the next index commit (E41).
    pub(crate) moves: Vec<Move>,
    /// Files to be removed, with the seq of the record that says so (E5).
    pub(crate) orphans: Vec<(u64, Orphan)>,
    /// How often not all of them could be removed.
    pub(crate) n_failed_removals: u64,
    pub(crate) compaction: CompactionState,
    /// What opening met, as far as nobody has repaired it (E53).
    pub(crate) unrepaired: Unrepaired,
    /// As far as the index has it.
    pub(crate) committed: Checkpoint,
    /// How many commits of the index were begun, and how many have ended well.
    pub(crate) commits: (u64, u64),
    pub(crate) handles: Handles,
    pub(crate) partials: Partials,
    /// How long a sync of the log takes, averaged.
    pub(crate) mean_sync: Duration,
}

/// Damage that opening met, or an earlier opening.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unrepaired {
    /// It is not known what is kept: nothing is collected (E53).
    pub(crate) holds_collection: bool,
    pub(crate) damaged: Vec<DamagedRange>,
    pub(crate) damaged_blobs: Vec<Hash>,
}

impl Unrepaired {
    pub(crate) fn of(recovery: &Recovery) -> Self {
        Self {
            holds_collection: recovery.holds_collection,
            damaged: recovery.damaged.clone(),
            damaged_blobs: recovery.damaged_blobs.clone(),
        }
    }
}

/// Where the store is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// Nothing new is taken; what is queued is written.
    Draining,
    /// The writer has ended; the committer does its last commit.
    Closing,
    Closed,
}

/// A pair of files on its way to `data/`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Move {
    pub(crate) hash: Hash,
    pub(crate) no: FileNo,
    pub(crate) from: CameFrom,
}

/// What readers see (E33): overlay and index as one value.
#[derive(Debug)]
pub(crate) struct Visible {
    pub(crate) active: Overlay,
    /// On its way into the index.
    pub(crate) frozen: Option<Arc<Overlay>>,
    /// `None` while the index is out of order (E35).
    pub(crate) reader: Option<Arc<IndexReader>>,
    /// The committer is going to open the index again: whoever needs it waits.
    pub(crate) reopening: bool,
    /// Changes whenever `reader` does.
    pub(crate) generation: u64,
}

/// The proof of the pages of the index, which whoever writes to it has to give (E68).
#[derive(Debug, Default)]
pub(crate) struct Verification {
    /// How often it was asked for.
    pub(crate) n_wanted: u64,
    /// Up to which of these times it was given.
    n_done: u64,
    /// Whether all were as they should be, the last time.
    outcome: Option<std::result::Result<bool, Failure>>,
    /// They were not, once. What has no row may still be wanted from then on: nothing is collected, and no record is taken
    /// for dead.
    pub(crate) found_damage: bool,
}

impl Verification {
    /// Asks for it. Returns what [`outcome_of`](Self::outcome_of) is to be asked with.
    pub(crate) fn ask(&mut self) -> u64 {
        self.n_wanted += 1;
        self.n_wanted
    }

    pub(crate) fn outcome_of(&self, number: u64) -> Option<std::result::Result<bool, Failure>> {
        self.outcome.clone().filter(|_| self.n_done >= number)
    }

    pub(crate) fn is_due(&self) -> bool {
        self.n_done < self.n_wanted
    }

    pub(crate) fn end(&mut self, n_done: u64, outcome: std::result::Result<bool, Failure>) {
        self.found_damage |= matches!(outcome, Ok(false));
        (self.n_done, self.outcome) = (n_done, Some(outcome));
    }
}

/// What the index said about the keys of an operation, before the lock was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) generation: u64,
    pub(crate) blobs: ByHash<BlobRow>,
    pub(crate) tags: HashMap<Tag, TagRow>,
}

impl State {
    pub(crate) fn new(next_seq: u64, published: Checkpoint, reader: IndexReader, partials: Partials) -> Self {
        Self {
            phase: Phase::Open,
            failed: None,
            next_seq,
            queue: VecDeque::new(),
            leading: false,
            pending: Pending::default(),
            visible: Visible {
                active: Overlay::default(),
                frozen: None,
                reader: Some(Arc::new(reader)),
                reopening: false,
                generation: 0,
            },
            index_trouble: None,
            index_failures: 0,
            commit_wanted: false,
            verification: Verification::default(),
            is_log_in_doubt: false,
            published,
            durable_seq: published.seq,
            unsynced: None,
            log_behind: 0,
            moves: Vec::new(),
            orphans: Vec::new(),
            n_failed_removals: 0,
            unrepaired: Unrepaired::default(),
            compaction: CompactionState { is_due: true, ..CompactionState::default() },
            committed: published,
            commits: (0, 0),
            handles: Handles::default(),
            partials,
            mean_sync: Duration::ZERO,
        }
    }

    /// The highest seq that was given out.
    pub(crate) fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Whether the log has something that the index does not have.
    pub(crate) fn is_ahead_of_index(&self) -> bool {
        self.log_behind > 0 || self.visible.rows() > 0
    }

    /// Whether a commit would bring anything into the index.
    pub(crate) fn has_uncommitted(&self) -> bool {
        self.visible.active.rows() > 0
            || !self.moves.is_empty()
            || self.log_behind > 0
            || !self.compaction.notes.is_empty()
    }

    /// Whether nothing needs files any more that are to be removed (E5, E51).
    pub(crate) fn is_removable(&self, (seq, orphan): &(u64, Orphan)) -> bool {
        *seq <= self.durable_seq && !self.handles.is_pinned(orphan.no)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_readable()?;
        match &self.failed {
            Some(failure) => Err(Error::Failed { what: failure.text() }),
            None => Ok(()),
        }
    }

    /// Fails where the index is known to be damaged, and so does not tell what is dead.
    pub(crate) fn check_index(&self, layout: &Layout) -> Result<()> {
        if !self.verification.found_damage {
            return Ok(());
        }
        Err(Error::DamagedStore {
            path: layout.index(),
            what: "a check has found it to be damaged: nothing is collected or compacted until the store was repaired and opened again"
                .to_owned(),
        })
    }

    pub(crate) fn check_readable(&self) -> Result<()> {
        if self.phase == Phase::Open { Ok(()) } else { Err(Error::Closed) }
    }

    /// Why the index cannot be read or written.
    pub(crate) fn index_error(&self) -> Error {
        match &self.index_trouble {
            Some(trouble) => trouble.to_error(),
            None => Error::Failed { what: "the index is out of order".to_owned() },
        }
    }

    /// Takes note that all up to `seq` is durable.
    pub(crate) fn note_durable(&mut self, seq: u64) {
        self.durable_seq = self.durable_seq.max(seq);
        self.unsynced = (self.published.seq > self.durable_seq).then(|| (0, Instant::now()));
    }

    /// Makes a group visible, in log order, and tells who waits (E21).
    pub(crate) fn publish(&mut self, group: Vec<Txn>, appended: &Appended) {
        let mut places = appended.places.iter();
        let mut waiting = Vec::new();
        for txn in group {
            for Queued { op, seq, orphans, .. } in txn.ops {
                let Some(place) = places.next().copied() else { continue };
                self.orphans.extend(orphans.into_iter().map(|orphan| (seq, orphan)));
                if let Some((hash, state)) = op.blob() {
                    self.note_move(&op);
                    let row = BlobRow { seq, place, state };
                    waiting.extend(self.set_blob(hash, seq, place.segment, Change::Set(row)));
                }
                match op {
                    Op::Delete { hashes } => {
                        for hash in hashes {
                            waiting.extend(self.set_blob(hash, seq, place.segment, Change::Removed));
                        }
                    }
                    Op::TagSet { tag, content } => {
                        self.set_tag(tag, seq, place.segment, Change::Set(TagRow { seq, place, content }));
                    }
                    Op::TagDelete { tags } => {
                        for tag in tags {
                            self.set_tag(tag, seq, place.segment, Change::Removed);
                        }
                    }
                    _ => {}
                }
            }
            waiting.extend(txn.done);
        }
        // The pins of the group are gone by now: who hears of it finds his own alone.
        for done in waiting {
            let _ = done.send(Ok(()));
        }
        self.published = appended.last;
        self.log_behind += appended.bytes;
    }

    fn note_move(&mut self, op: &Op) {
        match op {
            Op::Large { hash, no, came_from, .. } => {
                self.moves.push(Move { hash: *hash, no: *no, from: *came_from });
            }
            Op::Referenced { hash, no, .. } if *no != FileNo::NONE => {
                self.moves.push(Move { hash: *hash, no: *no, from: CameFrom::Temp });
            }
            _ => {}
        }
    }

    /// Returns who waits for this change in particular.
    fn set_blob(&mut self, hash: Hash, seq: u64, segment: u32, change: Change<BlobRow>) -> Vec<Done> {
        self.visible.active.blobs.insert(hash, change);
        let size = change.row().and_then(|row| row.state.complete_size());
        // A partial blob that was begun behind a removal that is queued goes on by itself.
        if let Some(size) = size.filter(|_| !self.is_hidden(&hash)) {
            self.partials.completed(&hash, size);
        }
        match self.pending.blobs.get_mut(&hash) {
            Some(pending) if pending.seq == seq => {
                return self.pending.blobs.remove(&hash).map(|pending| pending.joined).unwrap_or_default();
            }
            Some(pending) => {
                pending.before = Some(segment);
                pending.removals -= usize::from(change.row().is_none());
            }
            None => {}
        }
        Vec::new()
    }

    fn set_tag(&mut self, tag: Tag, seq: u64, segment: u32, change: Change<TagRow>) {
        match self.pending.tags.get_mut(&tag) {
            Some(pending) if pending.seq == seq => drop(self.pending.tags.remove(&tag)),
            Some(pending) => {
                pending.before = Some(segment);
                pending.removed.take_if(|until| *until <= seq);
            }
            None => {}
        }
        self.visible.active.tags.insert(tag, change);
    }

    /// Fails a group and all that is queued behind it, whose decisions built on it (E24): the pending view is the
    /// visible one again, and what was hidden comes back.
    pub(crate) fn fail(&mut self, group: Vec<Txn>, failure: &Failure) {
        let joined = std::mem::take(&mut self.pending).blobs.into_values().flat_map(|pending| pending.joined);
        let mut waiting: Vec<_> = joined.collect();
        for txn in group.into_iter().chain(self.queue.drain(..)) {
            waiting.extend(txn.done);
            // Their record may be on the disk although it failed. So the files stay until a later record is durable,
            // whose segment leaves this one out.
            let unused = txn.ops.iter().filter_map(|queued| Some((queued.seq, queued.op.new_files()?)));
            self.orphans.extend(unused);
        }
        for done in waiting {
            let _ = done.send(Err(failure.clone()));
        }
        if failure.severity == Severity::Store {
            self.failed.get_or_insert_with(|| failure.clone());
        }
    }

    /// Takes note of operations that do not come into the queue: nobody needs the files that were made for them.
    pub(crate) fn refuse(&mut self, ops: &[Op]) {
        self.orphans.extend(ops.iter().filter_map(|op| Some((0, op.new_files()?))));
    }

    /// Takes the next group from the queue (E21): up to 1,024 records or 8 MiB, at least one transaction.
    pub(crate) fn take_group(&mut self) -> Vec<Txn> {
        let (mut records, mut weight, mut n) = (0, 0, 0);
        for txn in &self.queue {
            records += txn.ops.len();
            weight += txn.weight;
            if n > 0 && (records > 1024 || weight > 8 << 20) {
                break;
            }
            n += 1;
        }
        self.queue.drain(..n).collect()
    }

    /// Pins the files of a blob for as long as the guard lives.
    pub(crate) fn guard(&mut self, no: FileNo) -> Arc<Guard> {
        self.handles.guard(no)
    }
}

impl Visible {
    /// The last change of a blob that the index may not have.
    pub(crate) fn overlay_blob(&self, hash: &Hash) -> Option<Change<BlobRow>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.blobs.get(hash));
        self.active.blobs.get(hash).or_else(frozen).copied()
    }

    /// The last change of a tag that the index may not have.
    pub(crate) fn overlay_tag(&self, tag: &Tag) -> Option<Change<TagRow>> {
        let frozen = || self.frozen.as_ref().and_then(|frozen| frozen.tags.get(tag));
        self.active.tags.get(tag).or_else(frozen).copied()
    }

    pub(crate) fn rows(&self) -> usize {
        self.active.rows() + self.frozen.as_ref().map_or(0, |frozen| frozen.rows())
    }
}
