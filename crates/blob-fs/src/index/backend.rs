//! redb's files, through the seam (E36).

use std::io;

use redb::StorageBackend;

use crate::vfs::FileRef;

#[derive(Debug)]
pub(super) struct FileBackend(FileRef);

impl FileBackend {
    pub(super) fn new(file: FileRef) -> Self {
        Self(file)
    }
}

impl StorageBackend for FileBackend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.stat()?.size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}
