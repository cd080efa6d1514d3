//! The seam to the operating system: every file-system call of the store, redb's included, goes through it.
//!
//! The store runs on [`RealVfs`]. Tests wrap it to inject errors, short writes and full disks ([`FaultVfs`]), and
//! may replace it altogether. All calls block; who calls them decides on which thread. Nothing here retries and
//! nothing here caches.

mod fault;
mod real;

use std::{
    ffi::OsString,
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

pub use fault::{Fault, FaultKind, FaultVfs, Op, Operation, Ops, Repeat};
pub use real::RealVfs;

/// A file system, its clock and its randomness.
pub trait Vfs: Debug + Send + Sync + 'static {
    /// Creates a file that must not exist, for reading and writing, mode 0600 whatever the umask; never follows a
    /// link in the last component.
    fn create_new(&self, path: &Path) -> io::Result<FileRef>;
    /// Creates a file of the user's, which must not exist, with the mode that the umask leaves.
    fn create_user(&self, path: &Path) -> io::Result<FileRef>;
    /// Opens a file of the store; fails on a symbolic link and on anything that is no regular file.
    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef>;
    /// Opens a file of the user's for reading. Follows links, never blocks on a fifo or device: what is no regular
    /// file fails with [`io::ErrorKind::InvalidInput`], a directory with [`io::ErrorKind::IsADirectory`].
    fn open_user(&self, path: &Path) -> io::Result<FileRef>;
    /// Creates a directory, mode 0700 whatever the umask; fails if the name exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Describes what a name stands for, without following a link in the last component.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    /// Lists the names in a directory, in no order.
    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>>;
    /// Gives a file another name; fails with [`io::ErrorKind::AlreadyExists`] if that name is taken.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name and drops whatever had it.
    fn replace(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; fails if that name is taken.
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Creates `to`, which must not exist, sharing the blocks of `from`. Where the file system cannot,
    /// [`io::ErrorKind::Unsupported`] and nothing is left behind.
    fn reflink(&self, from: &Path, to: &Path, whose: Whose) -> io::Result<()>;
    /// Removes the name of a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Tells how many bytes can still be written to the file system that a directory lies on.
    fn available(&self, path: &Path) -> io::Result<u64>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Resolves links, `.` and `..` in the path of something that exists.
    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf>;
    /// Tells the time.
    fn now(&self) -> SystemTime;
    /// Fills `buf` with bytes that nobody can predict.
    fn random(&self, buf: &mut [u8]);
}

/// An open file, shared.
pub type FileRef = Arc<dyn VfsFile>;

/// An open file. All offsets are absolute; there is no cursor.
pub trait VfsFile: Debug + Send + Sync {
    /// Reads at an offset; a short count means the end of the file, or that the system felt like it.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads what is at hand without waiting for a device. `Ok(None)`: nothing without waiting; ask
    /// [`read_at`](Self::read_at) on a thread that may block. A short count says nothing about the end of the file.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Writes at an offset; a short count is a partial write.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;
    /// Sets the length.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Takes room on the disk for the first `len` bytes and makes the file that long, if it is not longer. Where the file
    /// system cannot, [`io::ErrorKind::Unsupported`].
    fn allocate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes bytes and length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Describes the open file.
    fn stat(&self) -> io::Result<Stat>;
    /// Drops the clean cached pages of the file, so that later reads see what the device has.
    fn drop_cached(&self) -> io::Result<()>;
    /// Takes the exclusive lock on the file that ends with this handle; `false`: another handle has it.
    fn try_lock(&self) -> io::Result<bool>;
    /// Gives the lock up now: closing the file does so only once no child process that is being started has it too.
    fn unlock(&self) -> io::Result<()>;

    /// Reads exactly `buf.len()` bytes, or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Writes all of `buf`. After an error any part of it may have been written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get(done..).filter(|rest| !rest.is_empty()) {
            match self.write_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// What a file of the store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading alone.
    Read,
    /// Reading and writing.
    ReadWrite,
}

/// Whom a new file is for, which decides its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The store: 0600 whatever the umask.
    Store,
    /// The user: what the umask leaves.
    User,
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A fifo, socket or device.
    Other,
}

/// The identity and state of a file at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// The device it lies on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its length in bytes.
    pub size: u64,
    /// When its bytes last changed, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// When its bytes or attributes last changed, in nanoseconds since 1970.
    pub ctime_ns: i64,
    /// The owner's user id.
    pub uid: u32,
    /// The permission bits.
    pub mode: u32,
    /// How many names it has.
    pub n_links: u64,
}
