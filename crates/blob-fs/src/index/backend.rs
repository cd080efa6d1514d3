//! redb's files, through the seam (E36).

use std::{
    io,
    sync::{Arc, Weak},
};

use redb::StorageBackend;

use crate::vfs::{FileRef, VfsFile};

/// A file for redb. It is open as long as whoever made this keeps it: redb is not always let go of in good order.
#[derive(Debug)]
pub(super) struct FileBackend(Weak<dyn VfsFile>);

impl FileBackend {
    pub(super) fn new(file: &FileRef) -> Self {
        Self(Arc::downgrade(file))
    }

    fn file(&self) -> io::Result<FileRef> {
        self.0.upgrade().ok_or_else(|| io::Error::other("the index has been closed"))
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file()?.stat()?.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file()?.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(data, offset)
    }
}
