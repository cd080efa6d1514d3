//! The files of a blob that is about to be partial with less than there was (E48).
//!
//! They get a number of their own, and the data file becomes theirs by a second name instead of moving to them. So the
//! record alone decides which files count, a crash on either side of it leaves names that are cleared away as ever
//! (E47, E51), there is nothing for replay to repeat, and handles to the blob as it was go on reading under the old
//! name. It takes no room for the bytes, however many there are.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use blob_traits::{Error, Hash, PartialTree, Result, StoredParent};
use smallvec::{SmallVec, smallvec};

use super::disk::{Disk, place_bits};
use crate::{
    engine::{Decision, Engine, Keys},
    format::bits::{Bits, SizeState},
    handle::Guard,
    layout::FileNo,
    op::{Op, Orphan, OrphanKind},
    row::Origin,
    state::{Looked, State},
    vfs::FileRef,
};

/// How much of the pairs is gathered before it is written.
const BUFFER: usize = 256 << 10;

/// Files that belong to nobody until they are recorded; they go if they never are.
pub(crate) struct Draft<'a> {
    engine: &'a Engine,
    hash: Hash,
    no: FileNo,
    guard: Arc<Guard>,
    is_recorded: bool,
}

/// What came of giving a file a second name.
#[derive(Debug)]
pub(crate) enum Linked {
    /// It has it. The file has so many names now.
    Done { n_names: u64 },
    /// There is no such file.
    Missing,
    /// The file system cannot.
    Unsupported,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(engine: &'a Engine, hash: Hash) -> Self {
        let no = engine.new_file_no();
        let guard = engine.state().guard(no);
        Self { engine, hash, no, guard, is_recorded: false }
    }

    fn data_path(&self) -> PathBuf {
        self.engine.layout.partial_data(&self.hash, self.no)
    }

    /// Creates an empty data file.
    pub(crate) fn create_data(&self) -> Result<FileRef> {
        let path = self.data_path();
        self.engine.vfs.create_new(&path).map_err(|e| Error::io("create", path, e))
    }

    /// Gives the data file that lies in one of these places a second name.
    pub(crate) fn link_data(&self, places: &[PathBuf]) -> Result<Linked> {
        let (vfs, path) = (&self.engine.vfs, self.data_path());
        // It may be on its way to `data/` (E41).
        let _not_moving = self.engine.moving.read().unwrap_or_else(PoisonError::into_inner);
        for from in places {
            match vfs.hard_link(from, &path) {
                Ok(()) => {
                    let stat = vfs.stat(&path).map_err(|e| Error::io("look at", &path, e))?;
                    return Ok(Linked::Done { n_names: stat.n_links });
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) if cannot_link(&e) => return Ok(Linked::Unsupported),
                Err(e) => return Err(Error::io("link", from, e)),
            }
        }
        Ok(Linked::Missing)
    }

    /// Takes back the name that the data file got.
    pub(crate) fn unlink_data(&self) -> Result<()> {
        let path = self.data_path();
        self.engine.vfs.remove_file(&path).map_err(|e| Error::io("remove", path, e))
    }

    /// Says how long the data file is.
    pub(crate) fn data_len(&self) -> Result<u64> {
        let path = self.data_path();
        Ok(self.engine.vfs.stat(&path).map_err(|e| Error::io("look at", path, e))?.size)
    }

    /// Writes the pairs of all parents of a tree, and makes them durable.
    pub(crate) fn write_pairs(
        &self,
        tree: &PartialTree,
        mut pair: impl FnMut(StoredParent) -> Result<[u8; 64]>,
    ) -> Result<()> {
        let path = self.engine.layout.partial_pairs(&self.hash, self.no);
        let failed = |doing: &'static str| {
            let path = &path;
            move |e| Error::io(doing, path, e)
        };
        let file = self.engine.vfs.create_new(&path).map_err(failed("create"))?;
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for parent in tree.parents() {
            let offset = parent.number() * 64;
            if offset != run.0 + run.1.len() as u64 || run.1.len() >= BUFFER {
                file.write_all_at(&run.1, run.0).map_err(failed("write"))?;
                run.0 = offset;
                run.1.clear();
            }
            run.1.extend_from_slice(&pair(parent)?);
        }
        file.write_all_at(&run.1, run.0).and_then(|()| file.sync_data()).map_err(failed("write"))
    }

    /// Says what of the files is valid, and makes their names durable. All they have is durable by then.
    pub(crate) fn write_bits(&self, tree: &PartialTree) -> Result<()> {
        let size = tree.size();
        let size_state = if size.is_verified() { SizeState::Verified } else { SizeState::Claimed };
        let (hash, no, ranges) = (self.hash, self.no, tree.present_ranges());
        place_bits(self.engine, &Bits { hash, no, size: size.value(), size_state, ranges })
    }

    /// Has it recorded that the blob is these files now, if under the state lock it is `still` what they were made of.
    pub(crate) fn record(&mut self, still: impl FnOnce(&State, &Looked) -> bool) -> Result<bool> {
        let (hash, no) = (self.hash, self.no);
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        self.is_recorded = self.engine.transact_blocking(&keys, 0, |state, looked| {
            Ok(if still(state, looked) {
                let begin = Op::PartialBegin { hash, no, origin: Origin::Demoted };
                Decision::Write(vec![begin], SmallVec::new(), true)
            } else {
                Decision::Nothing(false)
            })
        })?;
        Ok(self.is_recorded)
    }

    /// The files, for a partial blob that is being worked with.
    pub(super) fn to_disk(&self) -> Disk {
        Disk::new(self.hash, self.no, self.guard.clone())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if self.is_recorded {
            return;
        }
        // The record may be on the disk although it failed: the files go once a later one is durable, or when the
        // store is opened again.
        let mut state = self.engine.state();
        let seq = state.last_seq();
        state.orphans.push((seq, Orphan { hash: self.hash, no: self.no, what: OrphanKind::All }));
    }
}

/// Whether this says that a file cannot have a second name here.
fn cannot_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}
