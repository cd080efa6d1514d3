//! Reading the bytes of blobs (E70).

use std::{io, sync::Arc};

use blob_traits::{Error, Hash, ReadBlob};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use crate::{
    entry::Entry,
    files::{FileKey, read_range},
    partial::Partial,
    reference::{ReferencedReader, read_user_file},
};

/// Reads a blob. Holds no file open between reads, but for a file of the user's.
#[derive(Debug)]
pub struct FsReader(pub(crate) Source);

/// What is read.
#[derive(Debug)]
pub(crate) enum Source {
    Memory(Bytes),
    Plain(Plain),
    Referenced(ReferencedReader),
    Partial { entry: Entry, partial: Arc<Partial> },
}

/// Room for more than this is made only once the file is known to have as much (E15).
const TRUSTED: usize = 16 << 20;

/// Bytes that lie in a row in one of our files.
#[derive(Debug)]
pub(crate) struct Plain {
    entry: Entry,
    key: FileKey,
    base: u64,
    size: u64,
}

impl Plain {
    /// `entry` pins the file.
    pub(crate) fn new(entry: Entry, key: FileKey, base: u64, size: u64) -> Self {
        Self { entry, key, base, size }
    }

    /// How long the file is that has the blob and nothing else; how long the blob is, where it lies among others.
    fn size_of_file(&self) -> io::Result<u64> {
        match self.key {
            FileKey::Data(_) => Ok(self.entry.open(self.key)?.stat()?.size),
            FileKey::Segment(_) | FileKey::Outboard(_) | FileKey::Pairs(_) => Ok(self.size),
        }
    }

    async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = clamp(self.size, offset, len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        let file = self.entry.open(self.key)?;
        if len > TRUSTED && file.stat()?.size < self.base.saturating_add(offset).saturating_add(len as u64) {
            return Err(ends_early(self.entry.hash, io::ErrorKind::UnexpectedEof.into()));
        }
        let read = read_range(file.clone(), self.base + offset, len).await;
        if let FileKey::Data(no) = self.key
            && let Some(path) = self.entry.engine.exported.target(no)
        {
            // The file is the user's by now, who may have changed it before it was read.
            return read_user_file(&self.entry, file, &path, offset, len).await;
        }
        read.map_err(|e| ends_early(self.entry.hash, e))
    }
}

/// How much of a read lies inside of a blob.
pub(crate) fn clamp(size: u64, offset: u64, len: usize) -> usize {
    usize::try_from(size.saturating_sub(offset)).map_or(len, |rest| rest.min(len))
}

/// A file of ours that ends too early is damage of this blob.
fn ends_early(hash: Hash, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::Damaged { hash, what: "its file is too short".to_owned() }.into();
    }
    error
}

impl FsReader {
    /// Goes over to what a partial blob has become by now. What is gone is read on from where it was.
    async fn follow(&mut self) {
        if let Source::Partial { entry, partial } = &self.0
            && partial.is_complete()
            && let Ok(source) = entry.open_source().await
        {
            self.0 = source;
        }
    }
}

impl ReadBlob for FsReader {
    async fn read_range(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.follow().await;
        match &mut self.0 {
            Source::Memory(bytes) => {
                let len = clamp(bytes.len() as u64, offset, len);
                let start = usize::try_from(offset).unwrap_or(0);
                Ok(if len == 0 { Bytes::new() } else { bytes.slice(start..start + len) })
            }
            Source::Plain(plain) => plain.read(offset, len).await,
            Source::Referenced(referenced) => referenced.read(offset, len).await,
            Source::Partial { entry, partial } => partial.read(&entry.engine, offset, len).await,
        }
    }
}

impl AsyncSliceReader for FsReader {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.read_range(offset, len).await
    }

    /// How long the file of a complete blob really is, so that whoever checks it learns of bytes that are missing or too
    /// many; of a small and of a partial blob what its entry says.
    async fn size(&mut self) -> io::Result<u64> {
        self.follow().await;
        Ok(match &self.0 {
            Source::Memory(bytes) => bytes.len() as u64,
            Source::Plain(plain) => plain.size_of_file()?,
            Source::Referenced(referenced) => referenced.size_of_file()?,
            Source::Partial { partial, .. } => partial.size().value(),
        })
    }
}
