//! Room on the disk that nothing else may take, for removals when the disk is full (E61).
//!
//! It is a file whose blocks are given back to the system when they are needed. While it is given up, what makes the
//! store larger is refused, so that what was in it is left for removals.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use blob_traits::{Error, Result};

use crate::{
    layout::Layout,
    vfs::{Access, FileRef, Kind, Vfs},
};

/// No more than this part of what a store holds is kept in reserve.
const SHARE: u64 = 8;
/// Less is of no use, so that small stores have none.
const LEAST: u64 = 4 << 20;
/// So many rows go to the index at once while it is given up: each may need a page of its own, and what is replaced is
/// free two commits later.
pub(crate) const ROWS_IN_NEED: usize = 256;
/// Written at once where a file system cannot allocate.
const PIECE: u64 = 1 << 20;

/// The reserve of a store.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    /// It never gets larger.
    most: u64,
    /// The length of its file.
    held: Mutex<u64>,
    is_given_up: AtomicBool,
    n_given_up: AtomicU64,
}

impl Reserve {
    /// Looks for the reserve that an earlier process has left: a file of no length was given up (E61).
    pub(crate) fn find(vfs: &dyn Vfs, layout: &Layout, most: u64) -> Result<Self> {
        let path = layout.reserve();
        let (held, is_given_up, most) = match vfs.stat(&path) {
            Ok(stat) if stat.kind == Kind::File => (stat.size, stat.size == 0, most),
            // Nothing of ours.
            Ok(_) => (0, false, 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => (0, false, most),
            Err(e) => return Err(Error::io("look at", path, e)),
        };
        let reserve = Self {
            path,
            most,
            held: Mutex::new(held),
            is_given_up: AtomicBool::new(is_given_up),
            n_given_up: AtomicU64::new(0),
        };
        Ok(reserve)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> u64 {
        *self.held()
    }

    /// Whether a store that holds so many bytes has no use for all of it.
    pub(crate) fn is_too_large_for(&self, n_bytes: u64) -> bool {
        let held = self.bytes();
        held > 0 && self.wanted(n_bytes) <= held / 2
    }

    /// Whether what is left of the disk is for removals alone.
    pub(crate) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Acquire)
    }

    /// How often it was given up.
    pub(crate) fn n_given_up(&self) -> u64 {
        self.n_given_up.load(Ordering::Acquire)
    }

    /// Gives it up, unless somebody has done so since it had been given up `before` times. Returns whether there is more
    /// room than then.
    pub(crate) fn give_up(&self, vfs: &dyn Vfs, before: u64) -> bool {
        let mut held = self.held();
        if *held > 0 {
            match self.set_len(vfs, 0) {
                Ok(file) => {
                    // Some file systems have the room only then.
                    let _ = file.sync_data();
                }
                Err(e) => {
                    tracing::warn!(error = %e, "the reserve cannot be given up");
                    return false;
                }
            }
            tracing::warn!(bytes = *held, "the disk is full: nothing is taken but removals");
            *held = 0;
            self.is_given_up.store(true, Ordering::Release);
            self.n_given_up.fetch_add(1, Ordering::AcqRel);
        }
        self.n_given_up() > before
    }

    /// Makes it as large as is right for a store that holds so many bytes, as far as there is room.
    pub(crate) fn tend(&self, vfs: &dyn Vfs, layout: &Layout, n_bytes: u64) {
        let wanted = self.wanted(n_bytes);
        let mut held = self.held();
        let tended = match next_step(wanted, *held, self.most, self.is_given_up()) {
            Step::Nothing => return,
            Step::Remove => self.remove(vfs).map(|()| 0),
            Step::Shrink => self.set_len(vfs, wanted).map(|_| wanted),
            Step::Grow => self.grow(vfs, layout, *held, wanted),
        };
        match tended {
            Ok(now) => {
                if now > 0 || wanted == 0 {
                    self.is_given_up.store(false, Ordering::Release);
                }
                *held = now;
            }
            Err(e) => tracing::debug!(error = %e, "the reserve is left as it is"),
        }
    }

    /// How large it is to be for a store that holds so many bytes.
    pub(crate) fn wanted(&self, n_bytes: u64) -> u64 {
        let wanted = (n_bytes / SHARE).min(self.most);
        if wanted < LEAST { 0 } else { wanted }
    }

    fn held(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, vfs: &dyn Vfs) -> io::Result<()> {
        match vfs.remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn set_len(&self, vfs: &dyn Vfs, len: u64) -> io::Result<FileRef> {
        let file = vfs.open(&self.path, Access::ReadWrite)?;
        file.set_len(len)?;
        Ok(file)
    }

    /// Returns how long the file is then; without an error less than was wanted only where there is too little room.
    fn grow(&self, vfs: &dyn Vfs, layout: &Layout, held: u64, wanted: u64) -> io::Result<u64> {
        // A disk is not filled to see whether there is room: others write meanwhile. Nor is the last bit of it taken.
        let missing = wanted - held + wanted / 4;
        if vfs.available(layout.root())? < missing {
            return Ok(held);
        }
        let (file, is_new) = match vfs.create_new(&self.path) {
            Ok(file) => (file, true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                (vfs.open(&self.path, Access::ReadWrite)?, false)
            }
            Err(e) => return Err(e),
        };
        let grown = match file.allocate(wanted) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => fill(vfs, &file, held, wanted),
            allocated => allocated,
        };
        match grown {
            Ok(()) => Ok(wanted),
            Err(e) if is_new => vfs.remove_file(&self.path).and(Err(e)),
            Err(e) => file.set_len(held).and(Err(e)),
        }
    }
}

/// What is to be done about the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Remove,
    Shrink,
    Grow,
}

/// Small changes are not worth it.
fn next_step(wanted: u64, held: u64, most: u64, is_given_up: bool) -> Step {
    if wanted == 0 {
        return if held > 0 || is_given_up { Step::Remove } else { Step::Nothing };
    }
    if wanted > held && (wanted == most || wanted / 2 >= held) {
        Step::Grow
    } else if wanted <= held / 2 {
        Step::Shrink
    } else {
        Step::Nothing
    }
}

/// Writes bytes that no file system can make smaller.
fn fill(vfs: &dyn Vfs, file: &FileRef, from: u64, to: u64) -> io::Result<()> {
    let mut key = [0; 32];
    vfs.random(&mut key);
    let mut noise = blake3::Hasher::new_keyed(&key).finalize_xof();
    let mut at = from;
    while at < to {
        let len = usize::try_from(PIECE.min(to - at)).unwrap_or(0);
        let mut piece = vec![0; len];
        noise.fill(&mut piece);
        file.write_all_at(&piece, at)?;
        at += len as u64;
    }
    file.sync_data()
}

/// What is refused while the reserve is given up.
pub(crate) fn refusal(path: &Path) -> io::Error {
    let what =
        format!("what is left of the disk is kept for removals until {} is filled again", path.display());
    io::Error::new(io::ErrorKind::StorageFull, what)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::vfs::{Fault, FaultKind, FaultVfs, Op, Ops, RealVfs, Repeat};

    const MIB: u64 = 1 << 20;

    struct Setup {
        _dir: tempfile::TempDir,
        layout: Layout,
        vfs: FaultVfs,
    }

    fn setup(disk: u64) -> Setup {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().into());
        Setup { _dir: dir, layout, vfs: FaultVfs::on_a_disk_of(disk, Arc::new(RealVfs::default())) }
    }

    fn find(setup: &Setup) -> Reserve {
        Reserve::find(&setup.vfs, &setup.layout, 32 * MIB).unwrap()
    }

    fn len(setup: &Setup) -> Option<u64> {
        std::fs::metadata(setup.layout.reserve()).ok().map(|metadata| metadata.len())
    }

    #[test]
    fn small_store_has_none_and_a_large_one_has_all_of_it() {
        let setup = setup(1 << 40);
        let reserve = find(&setup);
        for (n_bytes, expected) in [
            (0, None),
            (31 * MIB, None),
            (32 * MIB, Some(4 * MIB)),
            (60 * MIB, Some(4 * MIB)), // not worth it yet
            (64 * MIB, Some(8 * MIB)),
            (1 << 40, Some(32 * MIB)),
            (200 * MIB, Some(32 * MIB)),
            (80 * MIB, Some(10 * MIB)),
            (31 * MIB, None),
        ] {
            reserve.tend(&setup.vfs, &setup.layout, n_bytes);
            assert_eq!(len(&setup), expected, "{n_bytes}");
            assert_eq!(reserve.bytes(), expected.unwrap_or(0));
        }
    }

    #[test]
    fn disk_without_room_for_it_is_left_alone() {
        let setup = setup(30 * MIB);
        let reserve = find(&setup);
        reserve.tend(&setup.vfs, &setup.layout, 1 << 40);
        assert_eq!((len(&setup), reserve.is_given_up()), (None, false));
        assert!(!reserve.give_up(&setup.vfs, 0));
    }

    #[test]
    fn what_was_given_up_stays_so_until_there_is_room_also_for_a_later_process() {
        let setup = setup(50 * MIB);
        let reserve = find(&setup);
        reserve.tend(&setup.vfs, &setup.layout, 1 << 40);
        assert!(reserve.give_up(&setup.vfs, 0) && reserve.is_given_up());
        // Who has failed before that has more room, who fails after it has not.
        assert!(reserve.give_up(&setup.vfs, 0) && !reserve.give_up(&setup.vfs, 1));
        let file = setup.vfs.create_new(&setup.layout.root().join("other")).unwrap();
        file.allocate(20 * MIB).unwrap();
        let reserve = find(&setup);
        reserve.tend(&setup.vfs, &setup.layout, 1 << 40);
        assert_eq!((len(&setup), reserve.is_given_up()), (Some(0), true));
        file.set_len(0).unwrap();
        reserve.tend(&setup.vfs, &setup.layout, 1 << 40);
        assert_eq!((len(&setup), reserve.is_given_up()), (Some(32 * MIB), false));
    }

    #[test]
    fn file_system_that_cannot_allocate_gets_it_written() {
        for repeat in [Repeat::Once, Repeat::Sticky] {
            let setup = setup(1 << 40);
            let unsupported = FaultKind::Error(rustix::io::Errno::OPNOTSUPP.raw_os_error());
            let only = Ops::Just(Op::Allocate);
            setup.vfs.arm(Fault { at: 1, repeat, kind: unsupported, only });
            let reserve = find(&setup);
            reserve.tend(&setup.vfs, &setup.layout, 32 * MIB);
            assert_eq!((len(&setup), setup.vfs.fired().is_some()), (Some(4 * MIB), true));
        }
    }

    #[test]
    fn failure_leaves_it_as_it_was() {
        let setup = setup(1 << 40);
        let reserve = find(&setup);
        let failure = FaultKind::Error(rustix::io::Errno::IO.raw_os_error());
        let fault = Fault { at: 1, repeat: Repeat::Sticky, kind: failure, only: Ops::Just(Op::Allocate) };
        setup.vfs.arm(fault);
        reserve.tend(&setup.vfs, &setup.layout, 32 * MIB);
        assert_eq!((len(&setup), reserve.bytes()), (None, 0));
        setup.vfs.disarm();
        reserve.tend(&setup.vfs, &setup.layout, 32 * MIB);
        setup.vfs.arm(fault);
        reserve.tend(&setup.vfs, &setup.layout, 1 << 40);
        assert_eq!((len(&setup), reserve.bytes()), (Some(4 * MIB), 4 * MIB));
    }
}
