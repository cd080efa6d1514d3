//! Partial blobs: in memory while they are small and nobody has asked for more, then in files (E45-E48).

mod demote;
mod disk;
mod draft;
mod memory;
mod mend;
mod promote;
mod writer;

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use bao_tree::{ChunkNum, ChunkRanges, TreeNode, blake3, io::BaoContentItem};
use blob_traits::{
    BaoBlobSize, BatchPlan, Error, Hash, PartialTree, Result, StoredParent, blocking::unblock,
};
use bytes::Bytes;

pub(crate) use self::mend::BitsFile;
pub use self::writer::FsBatchWriter;
use self::{disk::Disk, memory::Memory};
pub(crate) use self::{
    draft::{Draft, Linked},
    memory::pair_bytes,
};
use crate::{engine::Engine, layout::FileNo, outboard::parse_pair, reader::clamp};

/// The partial blobs that somebody works with. Guarded by the state lock.
#[derive(Debug, Default)]
pub(crate) struct Partials(BTreeMap<Hash, Arc<Partial>>);

/// One partial blob. All its writers and readers meet here.
pub(crate) struct Partial {
    hash: Hash,
    life: AtomicU8,
    /// How many bytes it has, once it is complete.
    complete_size: AtomicU64,
    /// Held while bytes are written, synced or moved: one such thing at a time. Locked before `inner`.
    io: Mutex<()>,
    /// Never held during I/O.
    inner: Mutex<Inner>,
}

/// What became of a partial blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Partial = 0,
    /// It is complete; what is written to it is not needed any more.
    Complete = 1,
    /// It was deleted.
    Gone = 2,
}

#[derive(Debug)]
struct Inner {
    tree: PartialTree,
    storage: Storage,
}

#[derive(Clone, Debug)]
enum Storage {
    Memory(Memory),
    Disk(Arc<Disk>),
}

impl Partials {
    pub(crate) fn get(&self, hash: &Hash) -> Option<Arc<Partial>> {
        self.0.get(hash).cloned()
    }

    /// Returns the partial blob, begun in memory under a size claim if there is none.
    pub(crate) fn get_or_begin(&mut self, hash: Hash, size: u64) -> Arc<Partial> {
        let begin =
            || Arc::new(Partial::new(hash, PartialTree::new(size), Storage::Memory(Memory::default())));
        self.0.entry(hash).or_insert_with(begin).clone()
    }

    /// Takes in one that was read from disk, unless somebody was faster.
    fn loaded(&mut self, partial: Partial) -> Arc<Partial> {
        self.0.entry(partial.hash).or_insert_with(|| Arc::new(partial)).clone()
    }

    /// Whether this very one is still the partial blob of its hash.
    fn is_current(&self, partial: &Partial) -> bool {
        self.0.get(&partial.hash).is_some_and(|current| std::ptr::eq(&raw const **current, partial))
    }

    /// The blob is complete now, by whatever way.
    pub(crate) fn completed(&mut self, hash: &Hash, size: u64) {
        if let Some(partial) = self.0.remove(hash) {
            partial.complete_size.store(size, Ordering::Relaxed);
            partial.life.store(Life::Complete as u8, Ordering::Release);
        }
    }

    /// The blob is deleted.
    pub(crate) fn remove(&mut self, hash: &Hash) {
        if let Some(partial) = self.0.remove(hash) {
            partial.life.store(Life::Gone as u8, Ordering::Release);
        }
    }

    /// Forgets what is in memory of a blob whose files are the truth.
    fn forget(&mut self, partial: &Partial) {
        if self.is_current(partial) {
            self.remove(&partial.hash);
        }
    }

    /// All of them, in order.
    pub(crate) fn hashes(&self) -> Vec<Hash> {
        self.0.keys().copied().collect()
    }

    fn all(&self) -> Vec<Arc<Partial>> {
        self.0.values().cloned().collect()
    }
}

impl Engine {
    /// Brings all partial blobs to disk (E79).
    pub(crate) fn sync_partials(&self) -> Result<()> {
        let all = self.state().partials.all();
        let mut done = Ok(());
        for partial in all {
            match partial.sync(self) {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                // One that fails does not keep the others from being synced.
                failed => done = done.and(failed),
            }
        }
        done
    }
}

impl fmt::Debug for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partial")
            .field("hash", &self.hash)
            .field("life", &self.life())
            .finish_non_exhaustive()
    }
}

impl Partial {
    fn new(hash: Hash, tree: PartialTree, storage: Storage) -> Self {
        let life = AtomicU8::new(Life::Partial as u8);
        let inner = Mutex::new(Inner { tree, storage });
        Self { hash, life, complete_size: AtomicU64::new(0), io: Mutex::default(), inner }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self) -> MutexGuard<'_, ()> {
        self.io.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn life(&self) -> Life {
        match self.life.load(Ordering::Acquire) {
            0 => Life::Partial,
            1 => Life::Complete,
            _ => Life::Gone,
        }
    }

    pub(crate) fn hash(&self) -> Hash {
        self.hash
    }

    pub(crate) fn size(&self) -> BaoBlobSize {
        if self.is_complete() {
            return BaoBlobSize::Verified(self.complete_size.load(Ordering::Relaxed));
        }
        self.inner().tree.size()
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.life() == Life::Complete
    }

    /// The number of its files, if it has any and is partial still.
    pub(crate) fn file_no(&self) -> Option<FileNo> {
        match &self.inner().storage {
            Storage::Disk(disk) if self.life() == Life::Partial => Some(disk.no),
            _ => None,
        }
    }

    /// Says what a whole blob would need.
    pub(crate) fn not_complete(&self) -> Error {
        let inner = self.inner();
        let size = inner.tree.size().value();
        match inner.tree.require(self.hash, 0..u64::MAX) {
            Err(e) => e,
            // All is there, and nobody has said yet that the blob is complete.
            Ok(()) => Error::Incomplete {
                hash: self.hash,
                first_missing: size,
                n_missing: 0,
                n_chunks: size.div_ceil(1024).max(1),
            },
        }
    }

    pub(crate) fn present_ranges(&self) -> ChunkRanges {
        self.inner().tree.present_ranges()
    }

    /// How many bytes it has, as far as its size is known.
    pub(crate) fn n_bytes(&self) -> u64 {
        let inner = self.inner();
        let size = inner.tree.size().value();
        let chunks = |run: &[ChunkNum]| match run {
            [start, end] => end.to_bytes().min(size).saturating_sub(start.to_bytes()),
            _ => 0,
        };
        inner.tree.present_ranges().boundaries().chunks(2).map(chunks).sum()
    }

    /// Changes the size claim. What is complete, or gone, by now takes any.
    pub(crate) fn claim(&self, size: u64) -> Result<()> {
        let mut inner = self.inner();
        let before = inner.tree.size();
        let n_kept = match inner.tree.set_claim(size) {
            Err(_) if self.life() != Life::Partial => return Ok(()),
            other => other.map_err(|e| e.of(self.hash))?,
        };
        if inner.tree.size() != before {
            match &mut inner.storage {
                Storage::Memory(memory) => memory.cut(n_kept),
                Storage::Disk(disk) => disk.set_dirty(),
            }
        }
        Ok(())
    }

    /// Reads bytes that must be present.
    pub(crate) async fn read(&self, engine: &Engine, offset: u64, len: usize) -> io::Result<Bytes> {
        let (disk, len) = {
            let inner = self.inner();
            let len = clamp(inner.tree.size().value(), offset, len);
            if len == 0 {
                return Ok(Bytes::new());
            }
            inner.tree.require(self.hash, offset..offset + len as u64)?;
            match &inner.storage {
                Storage::Memory(memory) => return Ok(memory.read(offset, len)),
                Storage::Disk(disk) => (disk.clone(), len),
            }
        };
        disk.read(engine, offset, len).await
    }

    /// Loads a pair of the hash tree over so many bytes; zeros where it is not there.
    pub(crate) async fn load(
        &self,
        engine: &Arc<Engine>,
        node: TreeNode,
        size: u64,
    ) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        let in_tree = |parent: &StoredParent| parent.pre_order(size).is_some();
        let Some(parent) = StoredParent::new(node).filter(in_tree) else { return Ok(None) };
        let disk = {
            let inner = self.inner();
            let known = inner.tree.has_parent(parent);
            match &inner.storage {
                _ if !known => return Ok(parse_pair(&[0; 64])),
                Storage::Memory(memory) => return Ok(parse_pair(&memory.pair(parent))),
                Storage::Disk(disk) => disk.clone(),
            }
        };
        let engine = engine.clone();
        let pair = unblock(move || Ok(disk.pair(&engine, parent)?)).await?;
        Ok(parse_pair(&pair))
    }

    /// Whether a batch can be written without blocking.
    fn fits_memory(&self, engine: &Engine, batch: &[BaoContentItem]) -> bool {
        let bytes: u64 = batch
            .iter()
            .map(|item| match item {
                BaoContentItem::Leaf(leaf) => leaf.data.len() as u64,
                BaoContentItem::Parent(_) => 64,
            })
            .sum();
        match &self.inner().storage {
            Storage::Memory(memory) => memory.bytes() + bytes <= engine.options.partial_memory_max,
            Storage::Disk(_) => false,
        }
    }

    /// Writes a batch (see [`blob_traits::BaoBatchWriter`]). May block unless it fits into memory.
    fn write(&self, engine: &Engine, size: u64, batch: &[BaoContentItem]) -> Result<()> {
        let _io = self.io();
        match self.life() {
            Life::Partial => {}
            Life::Complete => return Ok(()),
            Life::Gone => return Err(Error::NotFound { hash: self.hash }),
        }
        engine.state().check_writable()?;
        let (plan, storage) = {
            let mut inner = self.inner();
            let plan = inner.tree.check(size, batch).map_err(|e| e.of(self.hash))?;
            if plan.is_empty() {
                return Ok(());
            }
            if size == 0 && !plan.leaves().is_empty() {
                // Only the empty blob has no bytes, and that is never partial.
                return Err(Error::Mismatch { hash: self.hash, offset: 0 });
            }
            if let Storage::Memory(memory) = &mut inner.storage {
                memory.write(&plan, batch);
                self.record_locked(engine, &mut inner, &plan)?;
                if inner.storage.memory_bytes() <= engine.options.partial_memory_max {
                    return Ok(());
                }
            }
            (plan, inner.storage.clone())
        };
        match storage {
            // It has grown too large.
            Storage::Memory(memory) => self.to_disk_locked(engine, &memory),
            Storage::Disk(disk) => {
                disk.write(engine, &plan, batch)?;
                disk.set_dirty();
                self.record_locked(engine, &mut self.inner(), &plan)
            }
        }
    }

    /// Records what was written, and tells a round of collection, before anybody can read it.
    fn record_locked(&self, engine: &Engine, inner: &mut Inner, plan: &BatchPlan) -> Result<()> {
        inner.tree.record(plan).map_err(|e| e.of(self.hash))?;
        engine.pins.changed(&self.hash);
        Ok(())
    }

    /// Makes what is there survive a crash. Blocks.
    fn sync(&self, engine: &Engine) -> Result<()> {
        let _io = self.io();
        engine.state().check_readable()?;
        match self.life() {
            Life::Partial => {}
            // Its own record is durable, or a sync of the log makes it so.
            Life::Complete => return engine.sync_log().map_err(|failure| failure.to_error()),
            Life::Gone => return Err(Error::NotFound { hash: self.hash }),
        }
        let storage = self.inner().storage.clone();
        match storage {
            Storage::Memory(memory) => self.to_disk_locked(engine, &memory)?,
            Storage::Disk(disk) => self.sync_disk_locked(engine, &disk)?,
        }
        engine.sync_log().map_err(|failure| failure.to_error())
    }
}

impl Storage {
    fn memory_bytes(&self) -> u64 {
        match self {
            Self::Memory(memory) => memory.bytes(),
            Self::Disk(_) => 0,
        }
    }
}
