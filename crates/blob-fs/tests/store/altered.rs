//! The real file system, but for what a test needs otherwise.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::SystemTime,
};

use blob_fs::vfs::{Access, FileRef, RealVfs, Stat, Vfs, Whose};

/// The real file system with differences.
#[derive(Debug, Default)]
pub(crate) struct Altered {
    pub(crate) real: RealVfs,
    /// It shares blocks, as btrfs and xfs do, as far as a store can tell.
    pub(crate) shares_blocks: bool,
    /// No segment of the log is begun while it is shut.
    pub(crate) gate: Arc<Gate>,
}

/// Holds up those who come to it while it is shut.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    n_waiting: usize,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.n_waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.shut).unwrap();
        state.n_waiting -= 1;
    }

    pub(crate) fn shut(&self) {
        self.state.lock().unwrap().shut = true;
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap().shut = false;
        self.changed.notify_all();
    }

    /// Waits until somebody is held up.
    pub(crate) fn wait_for_somebody(&self) {
        let state = self.state.lock().unwrap();
        drop(self.changed.wait_while(state, |state| state.n_waiting == 0).unwrap());
    }
}

impl Vfs for Altered {
    fn reflink(&self, from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
        if !self.shares_blocks {
            return self.real.reflink(from, to, whose);
        }
        let source = self.real.open_user(from)?;
        let target = match whose {
            Whose::User => self.real.create_user(to)?,
            Whose::Store => self.real.create_new(to)?,
        };
        let mut bytes = vec![0; usize::try_from(source.stat()?.size).map_err(io::Error::other)?];
        source.read_exact_at(&mut bytes, 0)?;
        target.write_all_at(&bytes, 0)
    }

    fn create_new(&self, path: &Path) -> io::Result<FileRef> {
        if path.extension().is_some_and(|extension| extension == "seg") {
            self.gate.pass();
        }
        self.real.create_new(path)
    }

    fn create_user(&self, path: &Path) -> io::Result<FileRef> {
        self.real.create_user(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef> {
        self.real.open(path, access)
    }

    fn open_user(&self, path: &Path) -> io::Result<FileRef> {
        self.real.open_user(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.real.stat(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.real.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.replace(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.real.remove_file(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        self.real.available(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.real.sync_dir(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.real.canonicalize(path)
    }

    fn now(&self) -> SystemTime {
        self.real.now()
    }

    fn random(&self, buf: &mut [u8]) {
        self.real.random(buf);
    }
}
