//! The pending view: what writers decide by (E19), and what the queue makes of it.

use std::collections::{BTreeMap, HashSet};

use blob_traits::{Hash, HashAndFormat, Tag, TagRange, TempTag};
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Done, Looked, State};
use crate::{
    by_hash::ByHash,
    op::{Key, Killed, Op, Outcome, Queued, Txn, orphan},
    row::BlobState,
};

/// As if all that is queued had landed: what differs from the visible view.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) blobs: ByHash<PendingBlob>,
    pub(super) tags: BTreeMap<Tag, PendingTag>,
}

#[derive(Debug)]
pub(super) struct PendingBlob {
    pub(super) seq: u64,
    pub(super) state: Option<BlobState>,
    /// The segment of the record before it, once that is published while this one waits.
    pub(super) before: Option<u32>,
    /// How many removals are queued, this one or before it: they are seen already (E3).
    pub(super) removals: usize,
    /// Imports of the same blob that wait for this record.
    pub(super) joined: Vec<Done>,
}

#[derive(Debug)]
pub(super) struct PendingTag {
    pub(super) seq: u64,
    pub(super) content: Option<HashAndFormat>,
    pub(super) before: Option<u32>,
    /// The last removal that is seen already (E3).
    pub(super) removed: Option<u64>,
}

impl State {
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
        done: Option<Done>,
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
                    let (joined, removals, before) = self
                        .pending
                        .blobs
                        .remove(hash)
                        .map(|p| (p.joined, p.removals, p.before))
                        .unwrap_or_default();
                    let removals = removals + usize::from(new.is_none());
                    // What was published of this key while others were queued is what the first of them makes dead.
                    let pending = PendingBlob { seq, state: new, before, removals, joined };
                    self.pending.blobs.insert(*hash, pending);
                }
                Key::Tag(tag) => {
                    let old = self.pending_tag(tag, looked);
                    killed.push(old.map_or(Killed::Nothing, |(_, killed)| killed));
                    let content = if let Op::TagSet { content, .. } = &op { Some(*content) } else { None };
                    let queued = self.pending.tags.get(tag).map(|pending| pending.removed);
                    let before = self.pending.tags.get(tag).and_then(|pending| pending.before);
                    // Behind a change that is not seen yet, a removal is not seen either.
                    let hides = content.is_none() && !is_rename && queued != Some(None);
                    let removed = if hides { Some(seq) } else { queued.flatten() };
                    self.pending.tags.insert(tag.clone(), PendingTag { seq, content, before, removed });
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
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::{
        index::Index,
        layout::Layout,
        log::Appended,
        partial::Partials,
        row::{Checkpoint, Place},
        vfs::{RealVfs, Vfs},
    };

    /// A state over an empty index.
    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().into());
        std::fs::create_dir(layout.temp_dir()).unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs::default());
        let index = Index::open(&vfs, &layout, Some(&[7; 16]), 1 << 20).unwrap();
        let state = State::new(1, Checkpoint::default(), index.reader().unwrap(), Partials::default());
        (dir, state)
    }

    fn enqueue(state: &mut State, op: Op) {
        state.enqueue(vec![op], &Looked::default(), SmallVec::new(), None, None);
    }

    /// Publishes a group as if it had been written to this segment.
    fn publish(state: &mut State, group: Vec<Txn>, segment: u32) {
        let seq = group.iter().flat_map(|txn| &txn.ops).map(|queued| queued.seq).max().unwrap();
        let places = group.iter().flat_map(|txn| &txn.ops).map(|_| Place { segment, offset: 4096 }).collect();
        let last = Checkpoint { segment, seq, ..Checkpoint::default() };
        state.publish(group, &Appended { places, last, bytes: 0 });
    }

    /// The segments that the second and the third of three operations on one key name, where the first was published in
    /// segment 5 after the second had been queued and before the third was, and the other two are written to segment 6.
    fn kills_of_later([first, second, third]: [Op; 3]) -> Vec<Option<u32>> {
        let (_dir, mut state) = state();
        enqueue(&mut state, first);
        let group = state.take_group();
        enqueue(&mut state, second);
        publish(&mut state, group, 5);
        enqueue(&mut state, third);
        let group = state.take_group();
        state.kills(&group).into_iter().flatten().collect()
    }

    /// What had been published was forgotten when the third was queued; the second named its own segment, and the first
    /// could come back when that had been compacted.
    #[test]
    fn record_names_what_was_published_before_a_third_of_its_key_was_queued() {
        let hash = Hash::EMPTY;
        let small = || Op::Small { hash, data: Bytes::new(), outboard: Vec::new() };
        let kills = kills_of_later([small(), Op::Delete { hashes: vec![hash] }, small()]);
        assert_eq!(kills, [Some(5), Some(0)]);
        let set = |n| Op::TagSet { tag: "a".into(), content: HashAndFormat::raw(Hash::from_bytes([n; 32])) };
        assert_eq!(kills_of_later([set(1), set(2), set(3)]), [Some(5), None]);
        let removal = Op::TagDelete { tags: vec!["a".into()] };
        assert_eq!(kills_of_later([set(1), removal, set(2)]), [Some(5), Some(0)]);
    }

    #[test]
    fn record_names_the_segment_of_the_one_before_it_when_that_is_published_first() {
        let (_dir, mut state) = state();
        let set = |n| Op::TagSet { tag: "a".into(), content: HashAndFormat::raw(Hash::from_bytes([n; 32])) };
        enqueue(&mut state, set(1));
        let first = state.take_group();
        enqueue(&mut state, set(2));
        let second = state.take_group();
        publish(&mut state, first, 5);
        enqueue(&mut state, set(3));
        assert_eq!(state.kills(&second).concat(), [Some(5)]);
        publish(&mut state, second, 6);
        let third = state.take_group();
        assert_eq!(state.kills(&third).concat(), [Some(6)]);
    }
}
