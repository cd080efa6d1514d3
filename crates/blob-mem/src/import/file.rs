//! Reading a file of the user's into memory.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Result};
use bytes::Bytes;

/// How much is read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// A regular file that is open.
pub(super) struct UserFile {
    file: File,
    path: PathBuf,
    len: u64,
}

/// Opens a regular file, through links. Never waits for the other end of a fifo.
pub(super) fn open(path: PathBuf) -> Result<UserFile> {
    if !path.is_absolute() {
        return Err(Error::RelativePath { path });
    }
    let file = match open_without_waiting(&path) {
        Ok(file) => file,
        Err(error) => return Err(refused(error, path)),
    };
    // asked of the file that is open: the name may stand for another one by now
    let metadata = file.metadata().map_err(|error| Error::io("look at", &path, error))?;
    if metadata.is_dir() {
        return Err(Error::IsADirectory { path });
    }
    if !metadata.is_file() {
        return Err(Error::NotAFile { path });
    }
    Ok(UserFile { file, path, len: metadata.len() })
}

#[cfg(unix)]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
    Ok(file.into())
}

#[cfg(not(unix))]
fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

fn refused(error: io::Error, path: PathBuf) -> Error {
    #[cfg(unix)]
    if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::NXIO) {
        // a socket, or a device without a driver
        return Error::NotAFile { path };
    }
    if path.is_dir() {
        // where opening a directory is an error in itself
        return Error::IsADirectory { path };
    }
    Error::io("open", path, error)
}

impl UserFile {
    /// Its length when it was opened.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads to the end, wherever that is by then. After each step `go_on` hears what part was read.
    pub(super) fn read(self, mut go_on: impl FnMut(Range<u64>) -> Result<()>) -> Result<Bytes> {
        let Self { file, path, len } = self;
        let failed = |error| Error::io("read", &path, error);
        let mut bytes = Vec::new();
        let expected = usize::try_from(len).map_err(|error| failed(io::Error::other(error)))?;
        bytes.try_reserve_exact(expected).map_err(|error| failed(error.into()))?;
        loop {
            let start = bytes.len() as u64;
            if (&file).take(STEP_BYTES).read_to_end(&mut bytes).map_err(failed)? == 0 {
                return Ok(bytes.into());
            }
            go_on(start..bytes.len() as u64)?;
        }
    }
}
