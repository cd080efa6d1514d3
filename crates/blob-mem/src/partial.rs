//! Blobs that are written piece by piece.

use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

use bao_tree::{ChunkNum, io::BaoContentItem};
use blob_traits::{
    BaoBatchWriter, Error, Hash, MapEntryMut, MapMut, PartialTree, Result, StoredParent, blocking::unblock,
};
use bytes::{Bytes, BytesMut};

use crate::{
    entry::{Blob, Content, MemEntry, Pair, Whole},
    store::{MemStore, State},
};

/// Above this size in bytes a blob is put together on the blocking pool.
const LARGE: u64 = 1 << 20;

/// The bytes and hashes that there are of a partial blob.
#[derive(Clone)]
pub(crate) struct Pieces {
    tree: PartialTree,
    /// It was complete, or had more, until repair took that back.
    demoted: bool,
    /// By their first chunk. They do not overlap; each starts at a chunk and ends at one or at the blob's end.
    data: BTreeMap<u64, Bytes>,
    pairs: BTreeMap<StoredParent, Pair>,
}

impl Pieces {
    pub(crate) fn new(size: u64) -> Self {
        Self::over(PartialTree::new(size), false)
    }

    fn over(tree: PartialTree, demoted: bool) -> Self {
        Self { tree, demoted, data: BTreeMap::new(), pairs: BTreeMap::new() }
    }

    /// Takes what is not lost of a blob whose bytes and pairs others have.
    pub(crate) fn demoted(
        tree: PartialTree,
        read: impl Fn(Range<u64>) -> Bytes,
        pair: impl Fn(StoredParent) -> Option<Pair>,
    ) -> Self {
        let mut pieces = Self::over(tree, true);
        for run in pieces.tree.present_ranges().boundaries().chunks(2) {
            let [start, end] = run else { continue };
            let bytes = read(start.to_bytes()..end.to_bytes().min(pieces.tree.size().value()));
            pieces.data.insert(start.0, bytes);
        }
        let pairs = pieces.tree.parents().filter_map(|parent| Some((parent, pair(parent)?)));
        pieces.pairs = pairs.collect();
        pieces
    }

    pub(crate) fn was_demoted(&self) -> bool {
        self.demoted
    }

    /// How many bytes there are.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.data.values().map(|piece| piece.len() as u64).sum()
    }

    pub(crate) fn tree(&self) -> &PartialTree {
        &self.tree
    }

    pub(crate) fn pair(&self, parent: StoredParent) -> Option<Pair> {
        self.pairs.get(&parent).copied()
    }

    /// Reads what is present, up to the end by the current claim.
    pub(crate) fn read(&self, hash: Hash, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.saturating_add(len as u64).min(self.tree.size().value());
        self.tree.require(hash, offset..end)?;
        let parts = self.parts(offset..end.max(offset));
        if let [part] = parts.as_slice() {
            return Ok(part.clone());
        }
        let mut bytes = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
        for part in parts {
            bytes.extend_from_slice(&part);
        }
        Ok(bytes.freeze())
    }

    /// The bytes of a range that are there, piece by piece.
    fn parts(&self, range: Range<u64>) -> Vec<Bytes> {
        let chunks = ChunkNum::full_chunks(range.start).0..ChunkNum::chunks(range.end).0;
        let first = self.data.range(..=chunks.start).next_back().map_or(chunks.start, |(start, _)| *start);
        let mut parts = Vec::new();
        for (start, piece) in self.data.range(first..chunks.end.max(first)) {
            let within = |at: u64| usize::try_from(at.saturating_sub(start << 10)).unwrap_or(usize::MAX);
            let part = within(range.start).min(piece.len())..within(range.end).min(piece.len());
            if !part.is_empty() {
                parts.push(piece.slice(part));
            }
        }
        parts
    }

    /// Takes another size claim and forgets what it makes leave.
    fn set_claim(&mut self, hash: Hash, size: u64) -> Result<()> {
        if size == self.tree.size().value() {
            return Ok(());
        }
        let n_kept = self.tree.set_claim(size).map_err(|error| error.of(hash))?;
        self.cut(n_kept);
        self.data.split_off(&n_kept);
        self.pairs.retain(|parent, _| self.tree.has_parent(*parent));
        Ok(())
    }

    /// Writes a batch, or nothing of it.
    fn write(&mut self, hash: Hash, size: u64, batch: &[BaoContentItem]) -> Result<()> {
        let plan = self.tree.check(size, batch).map_err(|error| error.of(hash))?;
        if size == 0 && !plan.leaves().is_empty() {
            // Only the empty blob has no bytes, and that is never partial.
            return Err(Error::Mismatch { hash, offset: 0 });
        }
        for planned in plan.parents() {
            if let Some(BaoContentItem::Parent(parent)) = batch.get(planned.index) {
                self.pairs.insert(planned.parent, parent.pair);
            }
        }
        for planned in plan.leaves() {
            self.insert(planned.chunks.clone(), &planned.bytes(batch));
        }
        self.tree.record(&plan).map_err(|error| error.of(hash))
    }

    /// Takes a copy of some chunks, which may be a small part of a large buffer, in place of what is there of them.
    fn insert(&mut self, chunks: Range<u64>, bytes: &[u8]) {
        self.cut(chunks.start);
        self.cut(chunks.end);
        while let Some((&start, _)) = self.data.range(chunks.clone()).next() {
            self.data.remove(&start);
        }
        self.data.insert(chunks.start, Bytes::copy_from_slice(bytes));
    }

    /// Makes a chunk the first of its piece.
    fn cut(&mut self, chunk: u64) {
        let Some((start, piece)) = self.data.range_mut(..chunk).next_back() else { return };
        let at = usize::try_from((chunk - start).saturating_mul(1024)).unwrap_or(usize::MAX);
        if at < piece.len() {
            let behind = piece.split_off(at);
            self.data.insert(chunk, behind);
        }
    }

    /// Puts the blob together once all of it is there.
    fn to_whole(&self) -> Whole {
        let size = self.tree.size().value();
        let mut data = BytesMut::with_capacity(self.data.values().map(Bytes::len).sum());
        for piece in self.data.values() {
            data.extend_from_slice(piece);
        }
        let mut pairs: Vec<_> =
            self.pairs.iter().map(|(parent, pair)| (parent.pre_order(size), pair)).collect();
        pairs.sort_unstable_by_key(|(position, _)| *position);
        let outboard: Vec<u8> = pairs
            .iter()
            .flat_map(|(_, (left, right))| [*left.as_bytes(), *right.as_bytes()].concat())
            .collect();
        Whole { data: data.freeze(), outboard: outboard.into() }
    }
}

impl MapMut for MemStore {
    type EntryMut = MemEntry;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<MemEntry>> {
        let state = self.state()?;
        Ok(self.find(&state, *hash).map(MemEntry::new))
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<MemEntry> {
        let mut state = self.state()?;
        let _pin = self.pins().get_or_create(&state, hash);
        let found = self.find(&state, hash);
        if let Some(blob) = found {
            if let Content::Partial(pieces) = &mut *blob.content() {
                self.check_size(size)?;
                pieces.set_claim(hash, size)?;
            }
            return Ok(MemEntry::new(blob));
        }
        self.check_size(size)?;
        let blob = self.new_blob(hash, Content::Partial(Pieces::new(size)));
        state.blobs.insert(hash, blob.clone());
        Ok(MemEntry::new(blob))
    }

    async fn insert_complete(&self, entry: MemEntry) -> Result<()> {
        let hash = entry.blob().hash;
        let pieces = {
            let state = self.state()?;
            if self.is_complete_instead(&state, entry.blob())? {
                return Ok(());
            }
            match &*entry.blob().content() {
                Content::Partial(pieces) => {
                    pieces.tree.require_complete(hash)?;
                    pieces.clone()
                }
                Content::Removed(_) => return Err(Error::NotFound { hash }),
                Content::Whole(_) => return Ok(()),
            }
        };
        // A blob that is all there does not change any more, so that this need not hold a lock.
        let whole = if pieces.tree.size().value() > LARGE {
            unblock(move || Ok(pieces.to_whole())).await?
        } else {
            pieces.to_whole()
        };
        let state = self.state()?;
        let _pin = self.pins().insert_complete(&state, hash);
        if !self.is_complete_instead(&state, entry.blob())? {
            entry.blob().complete(whole);
            entry.blob().changed();
        }
        Ok(())
    }
}

impl MemStore {
    /// Tells whether the store has a blob complete already, be it this one or one that took its place.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not complete, and this one was deleted.
    fn is_complete_instead(&self, state: &State, blob: &Arc<Blob>) -> Result<bool> {
        match self.find(state, blob.hash) {
            Some(found) if found.is_whole() => Ok(true),
            Some(found) if Arc::ptr_eq(&found, blob) => Ok(false),
            _ => Err(Error::NotFound { hash: blob.hash }),
        }
    }
}

impl MapEntryMut for MemEntry {
    type BatchWriter = MemBatchWriter;

    async fn batch_writer(&self) -> io::Result<MemBatchWriter> {
        self.blob().check_open()?;
        Ok(MemBatchWriter(self.blob().clone()))
    }
}

/// Writes a partial blob.
#[derive(Debug)]
pub struct MemBatchWriter(Arc<Blob>);

impl BaoBatchWriter for MemBatchWriter {
    /// Fails with [`Error::NotFound`] when the blob was deleted while it was partial.
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        self.0.check_open()?;
        match &mut *self.0.content() {
            Content::Partial(pieces) => {
                pieces.write(self.0.hash, size, &batch)?;
                self.0.changed();
                Ok(())
            }
            Content::Removed(_) => Err(Error::NotFound { hash: self.0.hash }.into()),
            Content::Whole(_) => Ok(()),
        }
    }

    /// Does nothing: there is no storage that is more permanent than memory.
    async fn sync(&mut self) -> io::Result<()> {
        Ok(self.0.check_open()?)
    }
}
