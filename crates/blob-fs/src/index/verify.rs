//! Proving the pages of the index: redb takes a page for right when it reads it, and an index that has lost rows looks like
//! one that never had them.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, ErrorKind},
    mem::ManuallyDrop,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use blob_traits::{Error, Result};
use redb::{Database, DatabaseError, ReadableDatabase, StorageBackend, StorageError};

use super::{Index, META, contained};
use crate::{
    layout::Layout,
    row::Checkpoint,
    vfs::{Access, FileRef, Vfs, VfsFile},
};

/// The unit in which changes are kept. A whole number of pages of redb's.
const BLOCK: u64 = 4096;

impl Index {
    /// Reads all pages of the index that is on the disk, and checks each against what the one above it says. Nothing is
    /// written. Nobody else may write meanwhile. `false`: it is damaged, or not there.
    ///
    /// # Errors
    /// Those of the system, [`Error::UnsupportedFormat`], and [`Error::Io`] once it is not to go on.
    pub(crate) fn is_sound(
        vfs: &dyn Vfs,
        layout: &Layout,
        cache: usize,
        goes_on: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<bool> {
        let path = layout.index();
        let file = match vfs.open(&path, Access::ReadWrite) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
            file => file.map_err(|e| Error::io("open", &path, e))?,
        };
        if file.stat().map_err(|e| Error::io("look at", &path, e))?.size == 0 {
            return Ok(false);
        }
        let verify = || {
            let mut db = unwritten(&file, cache, goes_on)?;
            let verified = db.check_integrity();
            if matches!(verified, Ok(true) | Err(DatabaseError::Storage(StorageError::Io(_)))) {
                drop(ManuallyDrop::into_inner(db));
            }
            Ok(verified?)
        };
        match contained("read", &path, verify) {
            Err(Error::DamagedStore { .. }) => Ok(false),
            verified => verified,
        }
    }

    /// The seq up to which the index on the disk says that it has the log, where it can tell. Nothing is written to it.
    pub(crate) fn last_seq(vfs: &dyn Vfs, layout: &Layout, cache: usize) -> Option<u64> {
        let file = vfs.open(&layout.index(), Access::Read).ok()?;
        let read = || {
            let db = unwritten(&file, cache, || true)?;
            let meta = db.begin_read()?.open_table(META)?;
            Ok(meta.get("checkpoint")?.and_then(|value| Checkpoint::decode(value.value())))
        };
        Some(contained("read", &layout.index(), read).ok()??.seq)
    }

    /// Takes note that it is damaged: it is not closed in good order.
    pub(crate) fn leave(&self) {
        self.db.leave();
    }
}

/// Opens an index that may be damaged. It is to be closed only if nothing is wrong with it: redb may panic twice over a bad
/// page, which ends the process.
fn unwritten(
    file: &FileRef,
    cache: usize,
    goes_on: impl Fn() -> bool + Send + Sync + 'static,
) -> Result<ManuallyDrop<Database>, redb::Error> {
    let changes = Mutex::new(Changes { len: file.stat()?.size, ..Changes::default() });
    let backend = Unwritten { file: Arc::downgrade(file), changes, goes_on: GoesOn(Box::new(goes_on)) };
    let mut builder = redb::Builder::new();
    Ok(ManuallyDrop::new(builder.set_cache_size(cache).create_with_backend(backend)?))
}

/// Whether the work is still wanted.
struct GoesOn(Box<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for GoesOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoesOn").finish_non_exhaustive()
    }
}

/// A file that is not written to: what would be is kept in memory, which is little while nothing is committed.
#[derive(Debug)]
struct Unwritten {
    /// Closed by whoever opened it, also where redb is not.
    file: Weak<dyn VfsFile>,
    changes: Mutex<Changes>,
    goes_on: GoesOn,
}

#[derive(Debug, Default)]
struct Changes {
    len: u64,
    /// By their offsets.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Unwritten {
    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn block(&self, start: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; usize::try_from(BLOCK).unwrap_or_default()];
        self.stored(start, &mut block)?;
        Ok(block)
    }

    /// What is in the file; nothing is behind its end.
    fn stored(&self, offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        let file = self.file.upgrade().ok_or_else(|| io::Error::other("the index has been closed"))?;
        let mut at = offset;
        while !out.is_empty() {
            match file.read_at(out, at) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(0) => {
                    out.fill(0);
                    return Ok(());
                }
                Ok(n) => {
                    at += n as u64;
                    out = out.get_mut(n..).unwrap_or_default();
                }
            }
        }
        Ok(())
    }
}

impl StorageBackend for Unwritten {
    fn len(&self) -> io::Result<u64> {
        Ok(self.changes().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if !(self.goes_on.0)() {
            return Err(io::Error::other("the work was given up"));
        }
        let end = offset.saturating_add(out.len() as u64);
        let changes = self.changes();
        if end > changes.len {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.stored(offset, out)?;
        for (start, block) in changes.blocks.range((offset / BLOCK) * BLOCK..end) {
            overlay(out, offset, *start, block);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changes().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        let mut changes = self.changes();
        let mut start = (offset / BLOCK) * BLOCK;
        while start < end {
            let mut block = match changes.blocks.remove(&start) {
                Some(block) => block,
                None => self.block(start)?,
            };
            overlay(&mut block, start, offset, data);
            changes.blocks.insert(start, block);
            start += BLOCK;
        }
        Ok(())
    }
}

/// Copies what lies at one place over what lies at another, where they meet.
fn overlay(to: &mut [u8], to_offset: u64, from_offset: u64, from: &[u8]) {
    let skip = |from: u64, to: u64| usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
    let to = to.get_mut(skip(to_offset, from_offset)..).unwrap_or_default();
    let from = from.get(skip(from_offset, to_offset)..).unwrap_or_default();
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
