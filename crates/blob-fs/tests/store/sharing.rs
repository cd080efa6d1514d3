//! A file system that shares blocks, as btrfs and xfs do, as far as a store can tell.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use blob_fs::vfs::{Access, FileRef, RealVfs, Stat, Vfs, Whose};

/// The real file system, but for `reflink`.
#[derive(Debug, Default)]
pub(crate) struct Sharing(RealVfs);

impl Vfs for Sharing {
    fn reflink(&self, from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
        let source = self.0.open_user(from)?;
        let target = match whose {
            Whose::User => self.0.create_user(to)?,
            Whose::Store => self.0.create_new(to)?,
        };
        let mut bytes = vec![0; usize::try_from(source.stat()?.size).map_err(io::Error::other)?];
        source.read_exact_at(&mut bytes, 0)?;
        target.write_all_at(&bytes, 0)
    }

    fn create_new(&self, path: &Path) -> io::Result<FileRef> {
        self.0.create_new(path)
    }

    fn create_user(&self, path: &Path) -> io::Result<FileRef> {
        self.0.create_user(path)
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef> {
        self.0.open(path, access)
    }

    fn open_user(&self, path: &Path) -> io::Result<FileRef> {
        self.0.open_user(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.0.stat(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.read_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.replace(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.hard_link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.canonicalize(path)
    }

    fn now(&self) -> SystemTime {
        self.0.now()
    }

    fn random(&self, buf: &mut [u8]) {
        self.0.random(buf);
    }
}
