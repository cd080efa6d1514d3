//! The index (E29-E36): what the log says, by key, in one redb file. Derived; never the only place of anything.

mod backend;
mod closing;
mod many;
mod remove;
mod rewrite;
mod segments;
mod unlink;
mod verify;

use std::{
    fmt,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use blob_traits::{Error, Hash, Result, Tag, TagRange};
use redb::{
    Database, Durability, OwnedAccessGuard, ReadOnlyTable, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, TableError, WriteTransaction,
};

use self::{
    backend::FileBackend,
    closing::Closing,
    remove::remove_rows,
    segments::{SEGMENTS, Tally, note_counted},
    unlink::UNLINK,
};
pub(crate) use self::{
    segments::{AllStats, FILES, SegmentNote},
    unlink::Unlink,
};
use crate::{
    layout::{FileNo, Layout},
    overlay::Overlay,
    row::{BlobRow, Checkpoint, TagRow},
    vfs::{Access, FileRef, Vfs},
};

/// The version of the tables and rows.
const VERSION: u32 = 1;

const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");
const TAGS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("tags");
/// In `meta` as long as a new index has not been brought up to the end of the log: it is made anew then.
const UNFINISHED: &str = "unfinished";
const DAMAGED: &str = "damaged";
/// In `meta` while there are rows of records behind the checkpoint.
const AHEAD: &str = "ahead";

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// So many rows are read before any is looked at.
const ROWS_AT_ONCE: usize = 64;

/// The index, open for its one writer.
pub(crate) struct Index {
    db: Closing<Database>,
    path: PathBuf,
    /// What redb has open.
    file: FileRef,
}

/// A look-up in the index as of one commit.
pub(crate) struct IndexReader {
    blobs: Closing<ReadOnlyTable<&'static [u8; 32], &'static [u8]>>,
    tags: Closing<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    segments: Closing<ReadOnlyTable<u32, &'static [u8]>>,
    path: PathBuf,
    /// As long as somebody looks up in it.
    _file: FileRef,
    /// Known once all have been listed.
    has_partial_blobs: OnceLock<bool>,
}

/// One step of the index: rows and checkpoint change together.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    pub(crate) overlay: &'a Overlay,
    /// `None` leaves the one that is there: more rows are to come before the next (E61).
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) unlink: Unlink<'a>,
    /// What compaction did.
    pub(crate) segments: &'a [SegmentNote],
}

impl Index {
    /// Opens the index of a store, or creates an empty one where there is none (E36). Without an id, any store's will
    /// do, and none is created.
    ///
    /// # Errors
    /// [`Error::DamagedStore`] for a file that is no index, or of another store; [`Error::UnsupportedFormat`].
    pub(crate) fn open(
        vfs: &Arc<dyn Vfs>,
        layout: &Layout,
        store_id: Option<&[u8; 16]>,
        cache: usize,
    ) -> Result<Self> {
        let path = layout.index();
        match (vfs.stat(&path), store_id) {
            (Err(e), Some(id)) if e.kind() == ErrorKind::NotFound => {
                Self::create(vfs, layout, id, cache)?;
            }
            (Err(e), _) => return Err(Error::io("look at", path, e)),
            (Ok(_), _) => {}
        }
        let file = vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        // redb makes a new database out of an empty file; for us that is a lost index.
        if file.stat().map_err(|e| Error::io("look at", &path, e))?.size == 0 {
            return Err(damaged(&path, "it is empty"));
        }
        let db = contained("open", &path, || {
            Ok(redb::Builder::new().set_cache_size(cache).create_with_backend(FileBackend::new(&file))?)
        })?;
        let index = Self { db: Closing::new(db), path, file };
        index.check_identity(store_id)?;
        index.ensure_segments()?;
        Ok(index)
    }

    fn create(vfs: &Arc<dyn Vfs>, layout: &Layout, store_id: &[u8; 16], cache: usize) -> Result<()> {
        let mut no = [0; 8];
        vfs.random(&mut no);
        let temp = layout.temp(FileNo(u64::from_le_bytes(no)), "redb");
        let file = vfs.create_new(&temp).map_err(|e| Error::io("create", &temp, e))?;
        let made = || {
            let db =
                redb::Builder::new().set_cache_size(cache).create_with_backend(FileBackend::new(&file))?;
            let mut txn = db.begin_write()?;
            txn.set_quick_repair(true);
            txn.open_table(BLOBS)?;
            txn.open_table(TAGS)?;
            txn.open_table(UNLINK)?;
            txn.open_table(SEGMENTS)?;
            let mut meta = txn.open_table(META)?;
            meta.insert("version", VERSION.to_le_bytes().as_slice())?;
            meta.insert("store", store_id.as_slice())?;
            meta.insert("checkpoint", Checkpoint::default().encode().as_slice())?;
            // Taken away by the commit that finishes it.
            meta.insert(UNFINISHED, [].as_slice())?;
            drop(meta);
            note_counted(&txn, &Checkpoint::default().encode())?;
            txn.commit()?;
            Ok::<_, redb::Error>(())
        };
        contained("create", &temp, made)?;
        let path = layout.index();
        file.sync_data()
            .and_then(|()| vfs.rename(&temp, &path))
            .and_then(|()| vfs.sync_dir(layout.root()))
            .map_err(|e| Error::io("create", path, e))
    }

    /// The store that this is the index of.
    pub(crate) fn store_id(&self) -> Result<[u8; 16]> {
        let stored = self.meta("store")?;
        stored
            .and_then(|id| id.try_into().ok())
            .ok_or_else(|| damaged(&self.path, "it does not say of which store it is"))
    }

    fn check_identity(&self, store_id: Option<&[u8; 16]>) -> Result<()> {
        let version = self.meta("version")?;
        match version.as_deref().and_then(|v| v.try_into().ok()).map(u32::from_le_bytes) {
            Some(VERSION) => {}
            Some(found) => {
                return Err(Error::UnsupportedFormat {
                    path: self.path.clone(),
                    found: found.to_string(),
                    supported: VERSION.to_string(),
                });
            }
            None => return Err(damaged(&self.path, "it has no version")),
        }
        store_id.map_or(Ok(()), |id| self.check_store(id))
    }

    /// Checks that this is the index of that store.
    pub(crate) fn check_store(&self, store_id: &[u8; 16]) -> Result<()> {
        if self.store_id()? == *store_id {
            Ok(())
        } else {
            Err(damaged(&self.path, "it belongs to another store"))
        }
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let read = || {
            let table = match self.db.begin_read()?.open_table(META) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(e) => return Err(e.into()),
            };
            Ok::<_, redb::Error>(table.get_owned(key)?.map(|value| value.value().to_vec()))
        };
        contained("read", &self.path, read)
    }

    /// Where the log ends as far as the index has it.
    pub(crate) fn checkpoint(&self) -> Result<Checkpoint> {
        let stored = self.meta("checkpoint")?;
        stored
            .as_deref()
            .and_then(Checkpoint::decode)
            .ok_or_else(|| damaged(&self.path, "it has no checkpoint"))
    }

    /// Whether it was made and not finished.
    pub(crate) fn is_unfinished(&self) -> Result<bool> {
        Ok(self.meta(UNFINISHED)?.is_some())
    }

    /// Whether damage of the log was met and not repaired.
    pub(crate) fn is_damaged(&self) -> Result<bool> {
        Ok(self.meta(DAMAGED)?.is_some())
    }

    /// Whether there are rows of records behind the checkpoint.
    pub(crate) fn is_ahead(&self) -> Result<bool> {
        Ok(self.meta(AHEAD)?.is_some())
    }

    /// Takes note of damage in the log, durably.
    pub(crate) fn note_damage(&self) -> Result<()> {
        if self.is_damaged()? {
            return Ok(());
        }
        let change = || {
            let mut txn = self.db.begin_write()?;
            txn.set_quick_repair(true);
            txn.open_table(META)?.insert(DAMAGED, [].as_slice())?;
            Ok::<_, redb::Error>(txn.commit()?)
        };
        contained("commit to", &self.path, change)
    }

    /// Takes note that a new index has come to the end of the log.
    pub(crate) fn finish(&self) -> Result<()> {
        if !self.is_unfinished()? {
            return Ok(());
        }
        let change = || {
            let mut txn = self.db.begin_write()?;
            txn.set_quick_repair(true);
            txn.open_table(META)?.remove(UNFINISHED)?;
            Ok::<_, redb::Error>(txn.commit()?)
        };
        contained("commit to", &self.path, change)
    }

    /// Begins to look up in the state of the last commit.
    pub(crate) fn reader(&self) -> Result<IndexReader> {
        let open = || {
            let txn = self.db.begin_read()?;
            let tables = (txn.open_table(BLOBS)?, txn.open_table(TAGS)?, txn.open_table(SEGMENTS)?);
            Ok::<_, redb::Error>((Closing::new(tables.0), Closing::new(tables.1), Closing::new(tables.2)))
        };
        let (blobs, tags, segments) = contained("read", &self.path, open)?;
        let (path, file) = (self.path.clone(), self.file.clone());
        Ok(IndexReader { blobs, tags, segments, path, _file: file, has_partial_blobs: OnceLock::new() })
    }

    /// Applies a step; durable when it returns (E32). All that it covers is durable in the log (E30).
    pub(crate) fn commit(&self, commit: &Commit<'_>) -> Result<()> {
        contained("commit to", &self.path, || self.try_commit(commit))
    }

    fn try_commit(&self, commit: &Commit<'_>) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_durability(Durability::Immediate)?;
        txn.set_quick_repair(true);
        let checkpoint = note_checkpoint(&txn, commit.checkpoint)?;
        {
            let mut tally = Tally::default();
            let mut blobs = txn.open_table(BLOBS)?;
            // In key order neighbours share pages.
            let mut changes: Vec<_> = commit.overlay.blobs.iter().collect();
            changes.sort_unstable_by_key(|(hash, _)| **hash);
            let removed = changes.iter().filter(|(_, change)| change.row().is_none()).map(|(hash, _)| **hash);
            remove_rows(&mut blobs, &removed.collect::<Vec<_>>(), |old| tally.blob(old, -1))?;
            for (hash, row) in changes.iter().filter_map(|(hash, change)| Some((*hash, change.row()?))) {
                let old = blobs.insert(hash.as_bytes(), row.encode().as_slice())?;
                tally.blob(old.and_then(|old| BlobRow::decode(old.value())), -1);
                tally.blob(Some(row), 1);
            }
            let mut tags = txn.open_table(TAGS)?;
            for (tag, change) in &commit.overlay.tags {
                let (name, new) = (tag.as_ref(), change.row());
                let old = match &new {
                    Some(row) => tags.insert(name, row.encode().as_slice())?,
                    None => tags.remove(name)?,
                };
                tally.tag(name, old.and_then(|old| TagRow::decode(old.value())), -1);
                tally.tag(name, new, 1);
            }
            tally.apply(&mut txn.open_table(SEGMENTS)?, commit.segments)?;
            commit.unlink.apply(&mut txn.open_table(UNLINK)?)?;
            if commit.segments.contains(&SegmentNote::Repaired) {
                txn.open_table(META)?.remove(DAMAGED)?;
            }
        }
        note_counted(&txn, &checkpoint)?;
        Ok(txn.commit()?)
    }
}

impl IndexReader {
    /// The row of a blob.
    pub(crate) fn blob(&self, hash: &Hash) -> Result<Option<BlobRow>> {
        let read = || Ok(self.blobs.get_owned(hash.as_bytes())?.map(|row| BlobRow::decode(row.value())));
        contained("read", &self.path, read)?.map(|row| self.decode(row)).transpose()
    }

    /// The row of a tag.
    pub(crate) fn tag(&self, tag: &Tag) -> Result<Option<TagRow>> {
        let read = || Ok(self.tags.get_owned(tag.as_ref())?.map(|row| TagRow::decode(row.value())));
        contained("read", &self.path, read)?.map(|row| self.decode(row)).transpose()
    }

    /// Whether there are partial blobs, if that is known.
    pub(crate) fn has_partial_blobs(&self) -> Option<bool> {
        self.has_partial_blobs.get().copied()
    }

    /// Takes note of what going through all blobs has shown.
    pub(crate) fn note_partial_blobs(&self, has_some: bool) {
        self.has_partial_blobs.get_or_init(|| has_some);
    }

    /// How many blobs have rows.
    pub(crate) fn n_blobs(&self) -> Result<u64> {
        contained("read", &self.path, || Ok(self.blobs.len()?))
    }

    /// All blobs in order.
    pub(crate) fn blobs(&self) -> Result<impl Iterator<Item = Result<(Hash, BlobRow)>> + use<'_>> {
        self.blobs_from(&Hash::from_bytes([0; 32]))
    }

    /// The blobs from a hash on, in order.
    pub(crate) fn blobs_from(
        &self,
        first: &Hash,
    ) -> Result<impl Iterator<Item = Result<(Hash, BlobRow)>> + use<'_>> {
        let first = first.as_bytes();
        // Without a reference to the transaction for each row, which several threads would have to share.
        let table: &ReadOnlyTable<_, _> = &self.blobs;
        let mut range =
            contained("read", &self.path, || Ok(ReadableTable::range::<&[u8; 32]>(table, first..)?))?;
        let (mut rows, mut next) = (Vec::with_capacity(ROWS_AT_ONCE), 0);
        let (mut is_over, mut error) = (false, None);
        Ok(std::iter::from_fn(move || {
            if next == rows.len() && !is_over {
                rows.clear();
                next = 0;
                let filled = contained("read", &self.path, || {
                    for entry in range.by_ref().take(ROWS_AT_ONCE) {
                        let (key, row) = entry?;
                        rows.push((Hash::from_bytes(*key.value()), BlobRow::decode(row.value())));
                    }
                    Ok(())
                });
                error = filled.err();
                is_over = error.is_some() || rows.is_empty();
            }
            let Some((hash, row)) = rows.get(next).copied() else { return error.take().map(Err) };
            next += 1;
            Some(self.decode(row).map(|row| (hash, row)))
        }))
    }

    /// The tags of a range in order.
    pub(crate) fn tags(
        &self,
        range: &TagRange,
    ) -> Result<impl Iterator<Item = Result<(Tag, TagRow)>> + use<'_>> {
        let bounds = range.bounds().map(|(start, end)| (start.map(AsRef::as_ref), end.map(AsRef::as_ref)));
        let mut range = contained("read", &self.path, || {
            Ok(bounds.map(|bounds| self.tags.range_owned::<&[u8]>(bounds)).transpose()?)
        })?;
        let entries = self.entries(
            move || range.as_mut()?.next(),
            |key, row| {
                let (key, row): (OwnedAccessGuard<&[u8]>, OwnedAccessGuard<&[u8]>) = (key, row);
                (Tag::from(key.value()), TagRow::decode(row.value()))
            },
        );
        Ok(entries.map(|entry| {
            let (tag, row) = entry?;
            Ok((tag, self.decode(row)?))
        }))
    }

    /// What a range yields, once it has been read; nothing after an error.
    fn entries<K, V, T>(
        &self,
        mut next: impl FnMut() -> Option<Result<(K, V), redb::StorageError>>,
        read: impl Fn(K, V) -> T,
    ) -> impl Iterator<Item = Result<T>> {
        let mut has_failed = false;
        std::iter::from_fn(move || {
            if has_failed {
                return None;
            }
            // Where an entry lies in its page is not known to be right before it is read.
            let mut next = || Ok(next().transpose()?.map(|(key, value)| read(key, value)));
            let entry = contained("read", &self.path, &mut next).transpose();
            has_failed = matches!(entry, Some(Err(_)));
            entry
        })
    }

    fn decode<R>(&self, row: Option<R>) -> Result<R> {
        row.ok_or_else(|| damaged(&self.path, "a row cannot be read"))
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").field("path", &self.path).finish_non_exhaustive()
    }
}

impl fmt::Debug for IndexReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexReader").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Says in a transaction how far the rows go, and returns the checkpoint.
fn note_checkpoint(txn: &WriteTransaction, checkpoint: Option<Checkpoint>) -> Result<Vec<u8>, redb::Error> {
    let mut meta = txn.open_table(META)?;
    if let Some(checkpoint) = checkpoint {
        meta.insert("checkpoint", checkpoint.encode().as_slice())?;
        meta.remove(AHEAD)?;
    } else {
        meta.insert(AHEAD, [].as_slice())?;
    }
    Ok(meta.get("checkpoint")?.map(|value| value.value().to_vec()).unwrap_or_default())
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::DamagedStore {
        path: path.to_owned(),
        what: format!(
            "{what}; the index is derived from the log, and is built anew when it is found to be damaged on opening or by a \
             check that repairs"
        ),
    }
}

/// Has redb do something. It panics over some damaged pages: what was written to the disk is not its caller's fault.
fn contained<T>(
    doing: &'static str,
    path: &Path,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|e| index_error(doing, path, e)),
        Err(_) => Err(damaged(path, "a page of it makes no sense")),
    }
}

/// Tells a disk that fails from a file that is no index.
fn index_error(doing: &'static str, path: &Path, error: redb::Error) -> Error {
    match error {
        // A page that points to beyond the end of the file is damage, too.
        redb::Error::Io(e) if !matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Error::io(doing, path, e)
        }
        redb::Error::UpgradeRequired(found) => Error::UnsupportedFormat {
            path: path.to_owned(),
            found: format!("redb file format {found}"),
            supported: "the one of redb 4".to_owned(),
        },
        redb::Error::PreviousIo | redb::Error::DatabaseClosed => Error::Io {
            doing,
            path: Some(path.to_owned()),
            source: std::io::Error::other("an earlier I/O error"),
        },
        other => damaged(path, &other.to_string()),
    }
}
