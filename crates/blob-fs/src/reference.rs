//! Blobs whose bytes are a file of the user's (E49).

use std::{
    io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use bao_tree::{ByteRanges, io::round_up_to_chunks};
use blob_traits::{Error, MapEntry, Result, blocking::unblock, tree::read_groups};
use bytes::{Bytes, BytesMut};
use iroh_io::AsyncSliceReader;

use crate::{
    entry::Entry,
    files::read_range,
    format::record::FileIdentity,
    outboard::FsOutboard,
    reader::clamp,
    vfs::{FileRef, Stat, Vfs},
};

/// A file that was modified less than this before it was looked at may be modified again without a new mtime.
const RACY_NS: i64 = 2_000_000_000;

/// What a file was when it was hashed.
pub(crate) fn identity(path: &Path, stat: &Stat, now: SystemTime) -> FileIdentity {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    FileIdentity {
        path: path.to_owned(),
        dev: stat.dev,
        ino: stat.ino,
        size: stat.size,
        mtime_ns: stat.mtime_ns,
        ctime_ns: stat.ctime_ns,
        racy: now.saturating_sub(stat.mtime_ns) < RACY_NS,
    }
}

/// Whether two looks at a file saw the same.
pub(crate) fn same(identity: &FileIdentity, stat: &Stat) -> bool {
    (identity.dev, identity.ino, identity.size) == (stat.dev, stat.ino, stat.size)
        && (identity.mtime_ns, identity.ctime_ns) == (stat.mtime_ns, stat.ctime_ns)
}

/// Reads a file of the user's as a blob: plainly while it is what it was, otherwise with proof.
#[derive(Debug)]
pub(crate) struct ReferencedReader {
    size: u64,
    path: PathBuf,
    file: FileRef,
    trust: Trust,
    /// Pins the outboard.
    entry: Entry,
}

#[derive(Debug)]
enum Trust {
    /// The file is what it was when it was hashed, by this look at it.
    Unchanged(FileIdentity),
    /// It may be something else: each chunk group is proved before it is returned.
    Verify,
}

impl ReferencedReader {
    /// Opens the first of the files that is still there.
    ///
    /// # Errors
    /// [`Error::Changed`] when none has the blob's size, [`Error::FileNotFound`] when none is there.
    pub(crate) fn open(entry: Entry, size: u64, identities: &[FileIdentity]) -> Result<Self> {
        let (vfs, hash) = (entry.engine.vfs.clone(), entry.hash);
        let mut failed = Error::Damaged { hash, what: "its record names no file".to_owned() };
        for identity in identities {
            match Self::look(&*vfs, identity) {
                Ok((file, stat)) if stat.size == size => {
                    let path = identity.path.clone();
                    let trusted = same(identity, &stat) && !identity.racy;
                    let trust = if trusted { Trust::Unchanged(identity.clone()) } else { Trust::Verify };
                    return Ok(Self { size, path, file, trust, entry });
                }
                Ok(_) => failed = Error::Changed { hash, path: identity.path.clone() },
                // A directory, a fifo or a device has taken its place.
                Err(e) if matches!(e.kind(), io::ErrorKind::IsADirectory | io::ErrorKind::InvalidInput) => {
                    failed = Error::Changed { hash, path: identity.path.clone() };
                }
                Err(e) => failed = Error::io("open", &identity.path, e),
            }
        }
        Err(failed)
    }

    fn look(vfs: &dyn Vfs, identity: &FileIdentity) -> io::Result<(FileRef, Stat)> {
        let file = vfs.open_user(&identity.path)?;
        let stat = file.stat()?;
        Ok((file, stat))
    }

    /// How long the file is at the moment.
    pub(crate) fn size_of_file(&self) -> io::Result<u64> {
        Ok(self.file.stat()?.size)
    }

    pub(crate) async fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let len = clamp(self.size, offset, len);
        if len == 0 {
            return Ok(Bytes::new());
        }
        if let Trust::Unchanged(identity) = &self.trust {
            let bytes = read_range(self.file.clone(), offset, len).await;
            // What was read counts only if the file did not change before or while it was read.
            if same(identity, &self.file.stat()?) {
                return bytes;
            }
            self.trust = Trust::Verify;
        }
        read_user_file(&self.entry, self.file.clone(), &self.path, offset, len).await
    }
}

/// Reads bytes of a blob with proof from a file that is the user's; `len` ends with the blob.
pub(crate) async fn read_user_file(
    entry: &Entry,
    file: FileRef,
    path: &Path,
    offset: u64,
    len: usize,
) -> io::Result<Bytes> {
    let outboard = entry.any_outboard().await?;
    let raw = Raw { file, size: entry.size().value() };
    let changed = || Error::Changed { hash: entry.hash, path: path.to_owned() };
    let read = unblock(move || futures_lite::future::block_on(read_proved(outboard, raw, offset, len)));
    match read.await {
        Err(Error::Mismatch { .. }) => Err(changed().into()),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::UnexpectedEof => {
            Err(changed().into())
        }
        other => Ok(other?),
    }
}

async fn read_proved(mut outboard: FsOutboard, mut raw: Raw, offset: u64, len: usize) -> Result<Bytes> {
    let end = offset + len as u64;
    let chunks = round_up_to_chunks(&ByteRanges::from(offset..end));
    let mut out = BytesMut::with_capacity(len);
    read_groups(&mut outboard, &mut raw, chunks, |start, group| {
        let index =
            |at: u64| usize::try_from(at.saturating_sub(start)).unwrap_or(usize::MAX).min(group.len());
        out.extend_from_slice(group.get(index(offset)..index(end)).unwrap_or_default());
        Ok(())
    })
    .await?;
    Ok(out.freeze())
}

/// A file of so many bytes, read where it is allowed to block.
pub(crate) struct Raw {
    pub(crate) file: FileRef,
    pub(crate) size: u64,
}

impl AsyncSliceReader for Raw {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; clamp(self.size, offset, len)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    async fn size(&mut self) -> io::Result<u64> {
        Ok(self.size)
    }
}
