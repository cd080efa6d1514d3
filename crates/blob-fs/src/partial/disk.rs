//! The files of a partial blob: bytes, pairs, and which ranges are valid (E45-E47).
//!
//! Pairs lie in the order of their parents' numbers, which no size claim changes; the pre-order that complete blobs
//! have is written when the blob is complete.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bao_tree::io::BaoContentItem;
use blob_traits::{BaoBlobSize, BatchPlan, Error, Hash, PartialTree, Result, StoredParent};
use bytes::Bytes;
use smallvec::{SmallVec, smallvec};

use super::{Partial, Storage, memory::Memory, memory::pair_bytes};
use crate::{
    engine::{Decision, Engine, Keys},
    entry::{open_data, open_pairs},
    files::read_range,
    format::bits::{Bits, MAX_LEN, SizeState},
    handle::Guard,
    layout::FileNo,
    op::{Killed, Op, Orphan, OrphanKind},
    outboard::read_pair,
    row::Origin,
    vfs::{Access, FileRef, VfsFile},
};

/// The files of a partial blob.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) hash: Hash,
    pub(super) no: FileNo,
    /// Kept open while there is something in them that has not been synced: opened anew, they might not tell that
    /// writing it has failed.
    open: Mutex<Option<OpenFiles>>,
    /// There is something that `.bits` does not say yet.
    dirty: AtomicBool,
    _guard: Arc<Guard>,
}

/// The files that are written to.
#[derive(Clone, Debug)]
pub(super) struct OpenFiles {
    pub(super) data: FileRef,
    pub(super) pairs: FileRef,
}

impl OpenFiles {
    fn open(engine: &Engine, hash: Hash, no: FileNo) -> Result<Self> {
        let open = |path: PathBuf| match engine.vfs.open(&path, Access::ReadWrite) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::Damaged { hash, what: format!("{} is missing", path.display()) })
            }
            Err(e) => Err(Error::io("open", path, e)),
        };
        let data = open(engine.layout.partial_data(&hash, no))?;
        Ok(Self { data, pairs: open(engine.layout.partial_pairs(&hash, no))? })
    }
}

impl Disk {
    /// Takes over files that are durable.
    pub(super) fn new(hash: Hash, no: FileNo, guard: Arc<Guard>) -> Self {
        Self { hash, no, open: Mutex::default(), dirty: AtomicBool::new(false), _guard: guard }
    }

    pub(super) fn set_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    fn open(&self) -> MutexGuard<'_, Option<OpenFiles>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the files for writing, to be kept open until [`close`](Self::close).
    pub(super) fn files(&self, engine: &Engine) -> Result<OpenFiles> {
        let mut open = self.open();
        if let Some(files) = &*open {
            return Ok(files.clone());
        }
        Ok(open.insert(OpenFiles::open(engine, self.hash, self.no)?).clone())
    }

    /// Closes the files, all of which is synced.
    pub(super) fn close(&self) {
        drop(self.open().take());
    }

    /// Writes what was planned of a batch; leaves that follow each other in one go.
    pub(super) fn write(&self, engine: &Engine, plan: &BatchPlan, batch: &[BaoContentItem]) -> Result<()> {
        engine.check_room()?;
        let OpenFiles { data, pairs } = self.files(engine)?;
        let failed = |e| Error::io("write a partial blob", "", e);
        for planned in plan.parents() {
            if let Some(BaoContentItem::Parent(parent)) = batch.get(planned.index) {
                let offset = planned.parent.number() * 64;
                pairs.write_all_at(&pair_bytes(&parent.pair), offset).map_err(failed)?;
            }
        }
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for planned in plan.leaves() {
            let offset = planned.offset();
            if offset != run.0 + run.1.len() as u64 || run.1.len() >= 1 << 20 {
                data.write_all_at(&run.1, run.0).map_err(failed)?;
                run = (offset, Vec::new());
            }
            run.1.extend_from_slice(&planned.bytes(batch));
        }
        data.write_all_at(&run.1, run.0).map_err(failed)
    }

    pub(super) async fn read(&self, engine: &Engine, offset: u64, len: usize) -> io::Result<Bytes> {
        let data = open_data(engine, self.hash, self.no)?;
        read_range(data, offset, len).await.map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                let what = "its partial file is too short".to_owned();
                return Error::Damaged { hash: self.hash, what }.into();
            }
            e
        })
    }

    pub(super) fn pair(&self, engine: &Engine, parent: StoredParent) -> io::Result<[u8; 64]> {
        let pairs = open_pairs(engine, self.hash, self.no)?;
        read_pair(&*pairs, parent.number() * 64)
    }
}

impl Disk {
    /// Makes the files durable.
    fn sync_files(&self, engine: &Engine) -> Result<()> {
        let path = engine.layout.partial_data(&self.hash, self.no);
        let files = self.files(engine)?;
        files.data.sync_data().and_then(|()| files.pairs.sync_data()).map_err(|e| Error::io("sync", path, e))
    }
}

impl Partial {
    /// Opens the partial blob that a record speaks of. Its ranges are those of its `.bits`; none, where that is missing
    /// or bad (E46). `None`: by now the blob is something else.
    pub(crate) fn load_from_disk(engine: &Arc<Engine>, hash: Hash, no: FileNo) -> Result<Option<Arc<Self>>> {
        if let Some(partial) = engine.state().partials.get(&hash) {
            return Ok(Some(partial));
        }
        let guard = engine.state().guard(no);
        OpenFiles::open(engine, hash, no)?;
        let tree = read_bits(engine, hash, no)?;
        let disk = Disk::new(hash, no, guard);
        let partial = Self::new(hash, tree, Storage::Disk(Arc::new(disk)));
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        engine.decide_unrecorded(&keys, |state, looked| {
            let current = state.pending_blob(&hash, looked).map(|(state, _)| state);
            let still = current.is_some_and(|state| state.is_partial_in(no));
            still.then(|| state.partials.loaded(partial))
        })
    }

    /// The partial blob as its `.bits` has it, whether its files are there or not, and without anything where that cannot be
    /// read: who looks at the blob is told so then. Nobody else gets to see this one.
    pub(crate) fn as_recorded(engine: &Engine, hash: Hash, no: FileNo) -> Self {
        let guard = engine.state().guard(no);
        let tree = read_bits(engine, hash, no).unwrap_or_else(|_| PartialTree::new(0));
        Self::new(hash, tree, Storage::Disk(Arc::new(Disk::new(hash, no, guard))))
    }

    /// Moves the blob from memory to files of its own (E45). The caller holds `io`.
    pub(super) fn to_disk_locked(&self, engine: &Engine, memory: &Memory) -> Result<()> {
        let no = engine.new_file_no();
        let made = self.make_files(engine, no, memory);
        let recorded = made.and_then(|made| self.record_begin(engine, no).map(|begun| begun.then_some(made)));
        match recorded {
            Ok(Some((disk, size))) => {
                let mut inner = self.inner();
                if inner.tree.size() != size {
                    // Claimed anew while the files were written.
                    disk.set_dirty();
                }
                inner.storage = Storage::Disk(Arc::new(disk));
                Ok(())
            }
            // It was completed or deleted meanwhile, or the record may be on disk although it failed: the files go
            // once a later record is durable, or when the store is opened again.
            other => {
                let mut state = engine.state();
                let seq = state.last_seq();
                state.orphans.push((seq, Orphan { hash: self.hash, no, what: OrphanKind::All }));
                other.map(drop)
            }
        }
    }

    /// Returns the files and the size that they speak of.
    fn make_files(&self, engine: &Engine, no: FileNo, memory: &Memory) -> Result<(Disk, BaoBlobSize)> {
        engine.check_room()?;
        let (vfs, layout, hash) = (&engine.vfs, &engine.layout, self.hash);
        let create = |path: PathBuf| vfs.create_new(&path).map_err(|e| Error::io("create", path, e));
        let data = create(layout.partial_data(&hash, no))?;
        let pairs = create(layout.partial_pairs(&hash, no))?;
        let failed = |e| Error::io("write", layout.partial_data(&hash, no), e);
        for (offset, bytes) in memory.runs() {
            data.write_all_at(bytes, offset).map_err(failed)?;
        }
        for (number, pair) in memory.pairs() {
            pairs.write_all_at(pair, number * 64).map_err(failed)?;
        }
        let guard = engine.state().guard(no);
        let open = Mutex::new(Some(OpenFiles { data, pairs }));
        let disk = Disk { hash, no, open, dirty: AtomicBool::new(false), _guard: guard };
        disk.sync_files(engine)?;
        let size = self.write_bits(engine, &disk)?;
        Ok((disk, size))
    }

    /// Has the beginning of a partial blob recorded; `false`: there is another state by now, which is durable where the
    /// blob is complete.
    fn record_begin(&self, engine: &Engine, no: FileNo) -> Result<bool> {
        let hash = self.hash;
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        engine.transact_blocking(&keys, 0, |state, looked| {
            Ok(match state.pending_blob(&hash, looked) {
                None if state.partials.is_current(self) => {
                    let begin = Op::PartialBegin { hash, no, origin: Origin::Begun };
                    Decision::Write(vec![begin], SmallVec::new(), true)
                }
                Some((old, Killed::Queued)) if old.complete_size().is_some() => Decision::Join(hash, false),
                _ => Decision::Nothing(false),
            })
        })
    }

    /// Syncs the files, then says in `.bits` what is valid in them. The caller holds `io`.
    pub(super) fn sync_disk_locked(&self, engine: &Engine, disk: &Disk) -> Result<()> {
        if !disk.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        if let Err(e) = disk.sync_files(engine) {
            // What a failed sync covered is not certain (E26): the files say again what the last `.bits` said.
            engine.state().partials.forget(self);
            return Err(e);
        }
        let written = self.write_bits(engine, disk);
        if written.is_err() {
            disk.set_dirty();
        }
        written.map(drop)
    }

    /// Says in `.bits` what is valid in the files, which are synced.
    fn write_bits(&self, engine: &Engine, disk: &Disk) -> Result<BaoBlobSize> {
        let (hash, no) = (self.hash, disk.no);
        let (size, ranges) = {
            let inner = self.inner();
            (inner.tree.size(), inner.tree.present_ranges())
        };
        // Nobody else writes: the caller holds `io`.
        disk.close();
        let size_state = if size.is_verified() { SizeState::Verified } else { SizeState::Claimed };
        place_bits(engine, &Bits { hash, no, size: size.value(), size_state, ranges })?;
        Ok(size)
    }
}

/// Puts a `.bits` in the place of an earlier one, or of none, and makes the names in `partial/` durable (E46).
pub(super) fn place_bits(engine: &Engine, bits: &Bits) -> Result<()> {
    let (vfs, path) = (&engine.vfs, engine.layout.partial_bits(&bits.hash, bits.no));
    let failed = |doing: &'static str| {
        let path = &path;
        move |e| Error::io(doing, path, e)
    };
    let bytes = bits.encode().map_err(|e| failed("encode")(io::Error::other(e)))?;
    let temp = engine.layout.temp(engine.new_file_no(), "bits");
    let file = vfs.create_new(&temp).map_err(failed("create"))?;
    let placed =
        file.write_all_at(&bytes, 0).and_then(|()| file.sync_data()).and_then(|()| vfs.replace(&temp, &path));
    if let Err(e) = placed {
        let _ = vfs.remove_file(&temp);
        return Err(failed("write")(e));
    }
    sync_partial_dir(engine)
}

/// Makes the names in `partial/` durable, not while files are being moved out of it (E41).
pub(super) fn sync_partial_dir(engine: &Engine) -> Result<()> {
    let _not_moving = engine.moving.read().unwrap_or_else(PoisonError::into_inner);
    let dir = engine.layout.partial_dir();
    engine.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))
}

fn read_bits(engine: &Engine, hash: Hash, no: FileNo) -> Result<PartialTree> {
    let path = engine.layout.partial_bits(&hash, no);
    let file = match engine.vfs.open(&path, Access::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(PartialTree::new(0)),
        Err(e) => return Err(Error::io("open", path, e)),
    };
    let bytes = read_all(&*file).map_err(|e| Error::io("read", path, e))?;
    let bits =
        bytes.and_then(|bytes| Bits::decode(&bytes).ok()).filter(|bits| (bits.hash, bits.no) == (hash, no));
    Ok(match bits {
        Some(bits) if bits.size <= engine.options.max_blob_size => {
            PartialTree::restore(bits.size, bits.size_state == SizeState::Verified, &bits.ranges)
        }
        _ => PartialTree::new(0),
    })
}

/// Reads a whole file; `None` for one that is longer than any `.bits`.
pub(super) fn read_all(file: &dyn VfsFile) -> io::Result<Option<Vec<u8>>> {
    let size = file.stat()?.size;
    if size > MAX_LEN as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Some(bytes))
}
