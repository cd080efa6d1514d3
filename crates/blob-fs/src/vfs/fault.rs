//! A file system that fails on command, for tests.

mod disk;
mod sectors;

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use self::{
    disk::{Disk, FileId, id},
    sectors::BadSectors,
};
use super::{Access, FileRef, Stat, Vfs, VfsFile, Whose};

/// So many of the latest operations are kept for [`FaultVfs::operations`].
const KEPT: usize = 1024;

/// A test tool: passes every call on to another [`Vfs`], counts it, and makes the one it is told to fail.
///
/// Clones share the count and the fault, so a test keeps one and gives another to the store.
#[derive(Clone, Debug)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    state: Arc<Mutex<State>>,
}

/// What shall fail, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which of the matching operations after [`FaultVfs::arm`], counted from 1.
    pub at: u64,
    /// Whether the matching ones after it fail too.
    pub repeat: Repeat,
    /// How it fails.
    pub kind: FaultKind,
    /// Which operations match and are counted.
    pub only: Ops,
}

/// Whether a fault passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// One operation fails.
    Once,
    /// All fail from then on. As on Linux, a failed sync of a file is reported once: if nothing is written in
    /// between, the next sync through the same handle succeeds, whatever happened to the bytes.
    Sticky,
}

/// How an operation fails. The numbers are the system's error numbers (`ENOSPC`, `EIO`, `EDQUOT`, ...).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// Nothing is done.
    Error(i32),
    /// All is done, and an error reported nonetheless.
    DoneError(i32),
    /// Matches writes alone: half of the bytes are written, and that number is returned.
    ShortWrite,
    /// Matches writes alone: half of the bytes are written, and an error is reported.
    TornWrite(i32),
    /// Nothing is done, and the call panics.
    Panic,
}

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ops {
    /// All of them.
    Any,
    /// Those that change something: creating, writing, setting lengths, names and directories.
    Writes,
    /// Syncs of files and directories.
    Syncs,
    /// Those that read bytes.
    Reads,
    /// This one.
    Just(Op),
}

/// An operation of a [`Vfs`] or [`VfsFile`], named as the method is.
#[expect(missing_docs, reason = "each has the name of a documented method")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Op {
    CreateNew,
    CreateUser,
    Open,
    OpenUser,
    CreateDir,
    Stat,
    ReadDir,
    Rename,
    Replace,
    HardLink,
    Reflink,
    RemoveFile,
    Available,
    SyncDir,
    Canonicalize,
    ReadAt,
    ReadAtNowait,
    WriteAt,
    SetLen,
    Allocate,
    SyncData,
    FileStat,
    DropCached,
    TryLock,
    Unlock,
}

/// An operation that took place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Which one.
    pub op: Op,
    /// What it was done to; where two names are given, the first. An open file goes by the name it was opened with.
    pub path: PathBuf,
}

impl Ops {
    /// Whether an operation is in the set.
    pub fn contains(self, op: Op) -> bool {
        match self {
            Self::Any => true,
            Self::Just(this) => this == op,
            Self::Syncs => matches!(op, Op::SyncData | Op::SyncDir),
            Self::Reads => matches!(op, Op::ReadAt | Op::ReadAtNowait),
            Self::Writes => matches!(
                op,
                Op::CreateNew
                    | Op::CreateUser
                    | Op::CreateDir
                    | Op::Rename
                    | Op::Replace
                    | Op::HardLink
                    | Op::Reflink
                    | Op::RemoveFile
                    | Op::WriteAt
                    | Op::SetLen
                    | Op::Allocate
            ),
        }
    }
}

impl Fault {
    fn matches(&self, op: Op) -> bool {
        let writes_alone = matches!(self.kind, FaultKind::ShortWrite | FaultKind::TornWrite(_));
        self.only.contains(op) && (!writes_alone || op == Op::WriteAt)
    }
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    /// Matching operations since the fault was armed.
    n_matched: u64,
    fired: Option<Operation>,
    n_operations: u64,
    latest: VecDeque<Operation>,
    /// Where there is one, no more fits on it.
    disk: Option<Disk>,
    bad_sectors: BadSectors,
}

impl State {
    /// Counts an operation and decides about it.
    fn count(&mut self, op: Op, path: &Path) -> Option<FaultKind> {
        self.n_operations += 1;
        if self.latest.len() == KEPT {
            self.latest.pop_front();
        }
        self.latest.push_back(Operation { op, path: path.into() });
        let fault = self.fault.filter(|fault| fault.matches(op))?;
        self.n_matched += 1;
        let hit = match fault.repeat {
            Repeat::Once => self.n_matched == fault.at,
            Repeat::Sticky => self.n_matched >= fault.at,
        };
        if !hit {
            return None;
        }
        self.fired.get_or_insert_with(|| Operation { op, path: path.into() });
        Some(fault.kind)
    }
}

impl FaultVfs {
    /// Wraps a file system; nothing fails yet.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Wraps a file system and lets files have so many bytes, in blocks of 4 KiB and without holes; all else fails as
    /// it does on a full disk. What is there already does not count.
    pub fn on_a_disk_of(n_bytes: u64, inner: Arc<dyn Vfs>) -> Self {
        let vfs = Self::new(inner);
        vfs.state().disk = Some(Disk::of(n_bytes));
        vfs
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what shall fail, instead of what was set before.
    pub fn arm(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(fault);
        state.n_matched = 0;
        state.fired = None;
    }

    /// Lets nothing fail any more. [`fired`](Self::fired) keeps its answer.
    pub fn disarm(&self) {
        self.state().fault = None;
    }

    /// Returns the number of operations so far.
    pub fn count(&self) -> u64 {
        self.state().n_operations
    }

    /// Returns the number of operations since [`arm`](Self::arm) that match the fault.
    pub fn matched(&self) -> u64 {
        self.state().n_matched
    }

    /// Returns the first operation that the fault made fail.
    pub fn fired(&self) -> Option<Operation> {
        self.state().fired.clone()
    }

    /// Returns the latest operations, at most 1,024, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.state().latest.iter().cloned().collect()
    }

    /// Counts an operation and does it, or not.
    fn run<T>(&self, op: Op, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let fault = self.state().count(op, path);
        match fault {
            Some(FaultKind::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(FaultKind::DoneError(errno)) => act().and(Err(io::Error::from_raw_os_error(errno))),
            Some(FaultKind::Panic) => panic!("told to"),
            _ => act(),
        }
    }

    fn file(&self, path: &Path, inner: FileRef) -> FileRef {
        let vfs = self.clone();
        let id = inner.stat().as_ref().map(id).unwrap_or_default();
        Arc::new(FaultFile { vfs, inner, path: path.into(), id, sync_failed: AtomicBool::new(false) })
    }

    /// The file that has a name, if that is its only one, on a disk of limited size.
    fn last_link(&self, path: &Path) -> Option<FileId> {
        self.state().disk.as_ref()?;
        self.inner.stat(path).ok().filter(|stat| stat.n_links == 1).as_ref().map(id)
    }

    /// Gives the room of a file back.
    fn free(&self, file: Option<FileId>) {
        if let (Some(disk), Some(file)) = (&mut self.state().disk, file) {
            disk.cut(file, 0);
        }
    }
}

impl Vfs for FaultVfs {
    fn create_new(&self, path: &Path) -> io::Result<FileRef> {
        let inner = self.run(Op::CreateNew, path, || self.inner.create_new(path))?;
        Ok(self.file(path, inner))
    }

    fn create_user(&self, path: &Path) -> io::Result<FileRef> {
        let inner = self.run(Op::CreateUser, path, || self.inner.create_user(path))?;
        Ok(self.file(path, inner))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef> {
        let inner = self.run(Op::Open, path, || self.inner.open(path, access))?;
        Ok(self.file(path, inner))
    }

    fn open_user(&self, path: &Path) -> io::Result<FileRef> {
        let inner = self.run(Op::OpenUser, path, || self.inner.open_user(path))?;
        Ok(self.file(path, inner))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::CreateDir, path, || self.inner.create_dir(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.run(Op::Stat, path, || self.inner.stat(path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.run(Op::ReadDir, path, || self.inner.read_dir(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::Rename, from, || self.inner.rename(from, to).map(|()| self.rename_sectors(from, to)))
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = self.last_link(to);
        self.run(Op::Replace, from, || {
            self.inner.replace(from, to).map(|()| {
                self.rename_sectors(from, to);
                self.free(replaced);
            })
        })
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.run(Op::HardLink, from, || self.inner.hard_link(from, to))
    }

    fn reflink(&self, from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
        self.run(Op::Reflink, from, || self.inner.reflink(from, to, whose))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let removed = self.last_link(path);
        self.run(Op::RemoveFile, path, || self.inner.remove_file(path).map(|()| self.free(removed)))
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.run(Op::Available, path, || match &self.state().disk {
            Some(disk) => Ok(disk.available()),
            None => self.inner.available(path),
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.run(Op::SyncDir, path, || self.inner.sync_dir(path))
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.run(Op::Canonicalize, path, || self.inner.canonicalize(path))
    }

    fn now(&self) -> SystemTime {
        self.inner.now()
    }

    fn random(&self, buf: &mut [u8]) {
        self.inner.random(buf);
    }
}

#[derive(Debug)]
struct FaultFile {
    vfs: FaultVfs,
    inner: FileRef,
    path: PathBuf,
    id: FileId,
    /// The last sync failed, and nothing was written since.
    sync_failed: AtomicBool,
}

impl FaultFile {
    /// Writes as much as there is room for.
    fn write_what_fits(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        let fits = self.vfs.state().disk.as_mut().map_or(end, |disk| disk.take(self.id, offset..end));
        let part = usize::try_from(fits - offset).ok().and_then(|n| buf.get(..n)).unwrap_or_default();
        if part.is_empty() && !buf.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.write_at(part, offset)
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        // Its name may have gone before.
        let has_gone =
            self.vfs.state().disk.is_some() && self.inner.stat().is_ok_and(|stat| stat.n_links == 0);
        self.vfs.free(has_gone.then_some(self.id));
    }
}

impl FaultFile {
    /// As much of a buffer as can be read into.
    fn readable<'b>(&self, buf: &'b mut [u8], offset: u64) -> io::Result<&'b mut [u8]> {
        let len = self.vfs.state().bad_sectors.readable(&self.path, offset, buf.len())?;
        Ok(buf.get_mut(..len).unwrap_or_default())
    }
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.vfs.run(Op::ReadAt, &self.path, || self.inner.read_at(self.readable(buf, offset)?, offset))
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.vfs.run(Op::ReadAtNowait, &self.path, || {
            self.inner.read_at_nowait(self.readable(buf, offset)?, offset)
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.sync_failed.store(false, Ordering::Relaxed);
        let half = buf.get(..buf.len() / 2).unwrap_or_default();
        let fault = self.vfs.state().count(Op::WriteAt, &self.path);
        match fault {
            None => self.write_what_fits(buf, offset),
            Some(FaultKind::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(FaultKind::DoneError(errno)) => {
                self.inner.write_all_at(buf, offset)?;
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(FaultKind::Panic) => panic!("told to"),
            Some(FaultKind::ShortWrite) => self.inner.write_all_at(half, offset).map(|()| half.len()),
            Some(FaultKind::TornWrite(errno)) => {
                self.inner.write_all_at(half, offset)?;
                Err(io::Error::from_raw_os_error(errno))
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.sync_failed.store(false, Ordering::Relaxed);
        self.vfs.run(Op::SetLen, &self.path, || {
            if let Some(disk) = &mut self.vfs.state().disk {
                disk.cut(self.id, len);
            }
            self.inner.set_len(len)
        })
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.vfs.run(Op::Allocate, &self.path, || {
            if self.vfs.state().disk.as_mut().is_none_or(|disk| disk.take_all(self.id, len)) {
                self.inner.allocate(len)
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.sync_failed.swap(false, Ordering::Relaxed) {
            return Ok(()); // told already, and told once
        }
        let synced = self.vfs.run(Op::SyncData, &self.path, || self.inner.sync_data());
        self.sync_failed.store(synced.is_err(), Ordering::Relaxed);
        synced
    }

    fn stat(&self) -> io::Result<Stat> {
        self.vfs.run(Op::FileStat, &self.path, || self.inner.stat())
    }

    fn drop_cached(&self) -> io::Result<()> {
        self.vfs.run(Op::DropCached, &self.path, || self.inner.drop_cached())
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.vfs.run(Op::TryLock, &self.path, || self.inner.try_lock())
    }

    fn unlock(&self) -> io::Result<()> {
        self.vfs.run(Op::Unlock, &self.path, || self.inner.unlock())
    }
}

#[cfg(test)]
mod tests;
