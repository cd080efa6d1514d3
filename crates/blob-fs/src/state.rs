//! What the state lock guards (E18, E19): the queue, the pending view and the visible view. No I/O happens here.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use blob_traits::{Error, Hash, HashAndFormat, Result, Tag, TagRange, TempTag};
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    failure::{Failure, Severity},
    format::record::CameFrom,
    handle::{Guard, Handles},
    index::IndexReader,
    layout::FileNo,
    log::Appended,
    op::{Key, Killed, Op, Orphan, Outcome, Queued, Txn, orphan},
    overlay::{Change, Overlay},
    partial::Partials,
    row::{BlobRow, BlobState, Checkpoint, TagRow},
};

type Done = oneshot::Sender<Outcome>;

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
    pub(crate) handles: Handles,
    pub(crate) partials: Partials,
    /// How long a sync of the log takes, averaged.
    pub(crate) mean_sync: Duration,
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

/// As if all that is queued had landed: what differs from the visible view.
#[derive(Debug, Default)]
struct Pending {
    blobs: HashMap<Hash, PendingBlob>,
    tags: BTreeMap<Tag, PendingTag>,
}

#[derive(Debug)]
struct PendingBlob {
    seq: u64,
    state: Option<BlobState>,
    /// The segment of the record before it, once that is published while this one waits.
    before: Option<u32>,
    /// How many removals are queued, this one or before it: they are seen already (E3).
    removals: usize,
    /// Imports of the same blob that wait for this record.
    joined: Vec<Done>,
}

#[derive(Debug)]
struct PendingTag {
    seq: u64,
    content: Option<HashAndFormat>,
    before: Option<u32>,
    /// The last removal that is seen already (E3).
    removed: Option<u64>,
}

/// What the index said about the keys of an operation, before the lock was taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Looked {
    pub(crate) generation: u64,
    pub(crate) blobs: HashMap<Hash, BlobRow>,
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
            is_log_in_doubt: false,
            published,
            durable_seq: published.seq,
            unsynced: None,
            log_behind: 0,
            moves: Vec::new(),
            orphans: Vec::new(),
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

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_readable()?;
        match &self.failed {
            Some(failure) => Err(Error::Failed { what: failure.text() }),
            None => Ok(()),
        }
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

    /// The state of a blob in the pending view, and where its record lies.
    pub(crate) fn pending_blob(&self, hash: &Hash, looked: &Looked) -> Option<(BlobState, Killed)> {
        if let Some(pending) = self.pending.blobs.get(hash) {
            return pending.state.map(|state| (state, Killed::Queued));
        }
        let row = match self.visible.overlay_blob(hash) {
            Some(change) => change.row(),
            None => looked.blobs.get(hash).copied(),
        };
        row.map(|row| (row.state, Killed::Segment(row.place.segment)))
    }

    /// What a tag points to in the pending view, and where its record lies.
    pub(crate) fn pending_tag(&self, tag: &Tag, looked: &Looked) -> Option<(HashAndFormat, Killed)> {
        if let Some(pending) = self.pending.tags.get(tag) {
            return pending.content.map(|content| (content, Killed::Queued));
        }
        let row = match self.visible.overlay_tag(tag) {
            Some(change) => change.row(),
            None => looked.tags.get(tag).copied(),
        };
        row.map(|row| (row.content, Killed::Segment(row.place.segment)))
    }

    /// Tags of a range that the index may not have, removed ones among them.
    pub(crate) fn recent_tags(&self, range: &TagRange) -> impl Iterator<Item = &Tag> {
        let overlays = self.visible.frozen.as_deref().into_iter().chain([&self.visible.active]);
        let changed = overlays.flat_map(|overlay| overlay.tags.keys());
        self.pending.tags.keys().chain(changed).filter(|tag| range.contains(tag))
    }

    /// Whether a removal of the blob is decided and not yet durable: it is hidden already (E3).
    pub(crate) fn is_hidden(&self, hash: &Hash) -> bool {
        self.pending.blobs.get(hash).is_some_and(|pending| pending.removals > 0)
    }

    /// Whether a tag is going to be set.
    pub(crate) fn is_tag_queued(&self, tag: &Tag) -> bool {
        self.pending.tags.get(tag).is_some_and(|pending| pending.content.is_some())
    }

    /// Blobs whose removal is decided and not yet durable.
    pub(crate) fn hidden_blobs(&self) -> impl Iterator<Item = Hash> {
        self.pending.blobs.iter().filter(|(_, pending)| pending.removals > 0).map(|(hash, _)| *hash)
    }

    /// Whether a tag is going to be gone, seen already or not.
    pub(crate) fn is_tag_removal_queued(&self, tag: &Tag) -> bool {
        self.pending.tags.get(tag).is_some_and(|pending| pending.content.is_none())
    }

    /// Whether a removal of the tag is seen that is not yet durable (E3).
    pub(crate) fn is_tag_hidden(&self, tag: &Tag) -> bool {
        self.pending.tags.get(tag).is_some_and(|pending| pending.removed.is_some())
    }

    /// Tags of which a removal is seen that is not yet durable.
    pub(crate) fn hidden_tags(&self) -> impl Iterator<Item = &Tag> {
        self.pending.tags.keys().filter(|tag| self.is_tag_hidden(tag))
    }

    /// Waits for the record of a blob that is queued; `None` if none is.
    pub(crate) fn join(&mut self, hash: &Hash) -> Option<oneshot::Receiver<Outcome>> {
        let pending = self.pending.blobs.get_mut(hash)?;
        let (sender, receiver) = oneshot::channel();
        pending.joined.push(sender);
        Some(receiver)
    }

    /// Gives operations their seqs and their place in the queue, as one transaction, and changes the pending view.
    pub(crate) fn enqueue(
        &mut self,
        ops: Vec<Op>,
        looked: &Looked,
        pins: SmallVec<[TempTag; 1]>,
        share: Option<OwnedSemaphorePermit>,
        done: Option<oneshot::Sender<Outcome>>,
    ) {
        let weight = ops.iter().map(Op::weight).sum();
        // A tag that gets another name is seen under one of the two at any time.
        let is_rename = ops.iter().any(|op| matches!(op, Op::TagSet { .. }));
        let ops = ops.into_iter().map(|op| self.decide(op, looked, is_rename)).collect();
        self.queue.push_back(Txn { ops, weight, done, _pins: pins, _share: share });
    }

    fn decide(&mut self, op: Op, looked: &Looked, is_rename: bool) -> Queued {
        let seq = self.next_seq;
        self.next_seq += 1;
        let mut orphans = Vec::new();
        let new = op.blob().map(|(_, state)| state);
        let mut killed = SmallVec::new();
        for key in op.keys() {
            match &key {
                Key::Blob(hash) => {
                    let old = self.pending_blob(hash, looked);
                    killed.push(old.map_or(Killed::Nothing, |(_, killed)| killed));
                    orphans.extend(old.and_then(|(state, _)| orphan(*hash, state, new)));
                    let (joined, removals) =
                        self.pending.blobs.remove(hash).map(|p| (p.joined, p.removals)).unwrap_or_default();
                    let removals = removals + usize::from(new.is_none());
                    let pending = PendingBlob { seq, state: new, before: None, removals, joined };
                    self.pending.blobs.insert(*hash, pending);
                }
                Key::Tag(tag) => {
                    let old = self.pending_tag(tag, looked);
                    killed.push(old.map_or(Killed::Nothing, |(_, killed)| killed));
                    let content = if let Op::TagSet { content, .. } = &op { Some(*content) } else { None };
                    let queued = self.pending.tags.get(tag).map(|pending| pending.removed);
                    // Behind a change that is not seen yet, a removal is not seen either.
                    let hides = content.is_none() && !is_rename && queued != Some(None);
                    let removed = if hides { Some(seq) } else { queued.flatten() };
                    self.pending.tags.insert(tag.clone(), PendingTag { seq, content, before: None, removed });
                }
            }
        }
        Queued { op, seq, killed, orphans }
    }

    /// The segments of the records that a group makes dead; `None` stands for the group's own (E56).
    pub(crate) fn kills(&self, group: &[Txn]) -> Vec<SmallVec<[Option<u32>; 1]>> {
        let mut in_group = HashSet::new();
        let mut resolve = |(key, killed): (Key, &Killed)| {
            let segment = match killed {
                Killed::Nothing => Some(0),
                Killed::Segment(segment) => Some(*segment),
                Killed::Queued if in_group.contains(&key) => None,
                // Published while this one waited.
                Killed::Queued => self.published_before(&key),
            };
            in_group.insert(key);
            segment
        };
        let ops = group.iter().flat_map(|txn| &txn.ops);
        ops.map(|queued| queued.op.keys().into_iter().zip(&queued.killed).map(&mut resolve).collect())
            .collect()
    }

    fn published_before(&self, key: &Key) -> Option<u32> {
        match key {
            Key::Blob(hash) => self.pending.blobs.get(hash).and_then(|pending| pending.before),
            Key::Tag(tag) => self.pending.tags.get(tag).and_then(|pending| pending.before),
        }
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
