//! Writing the index anew, without the room of rows that have gone: redb keeps most of it.

use std::{path::PathBuf, sync::Arc};

use blob_traits::{Error, Result};
use redb::{ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{BLOBS, Closing, FileBackend, Index, META, SEGMENTS, TAGS, UNLINK, contained};
use crate::{
    layout::{FileNo, Layout},
    vfs::Vfs,
};

/// A row takes no more than this, its share of a page that is half full included.
const ROW: u64 = 200;
/// Below this it does not matter.
const SMALL: u64 = 1 << 20;

impl Index {
    /// Whether over half of the file is room that nobody needs.
    pub(crate) fn is_wasteful(&self, vfs: &dyn Vfs) -> Result<bool> {
        let size = vfs.stat(&self.path).map_err(|e| Error::io("look at", &self.path, e))?.size;
        let count = || {
            let txn = self.db.begin_read()?;
            Ok::<_, redb::Error>(txn.open_table(BLOBS)?.len()? + txn.open_table(TAGS)?.len()?)
        };
        let rows = contained("read", &self.path, count)?;
        Ok(size > rows.saturating_mul(2 * ROW).saturating_add(SMALL))
    }

    /// Copies all to a new file, durably; it has to be given the name of this one. Others read on meanwhile, and nobody
    /// may write.
    pub(crate) fn rewritten(
        &self,
        vfs: &Arc<dyn Vfs>,
        layout: &Layout,
        no: FileNo,
        cache: usize,
    ) -> Result<(Self, PathBuf)> {
        let temp = layout.temp(no, "redb");
        let file = vfs.create_new(&temp).map_err(|e| Error::io("create", &temp, e))?;
        let copy = || {
            let db =
                redb::Builder::new().set_cache_size(cache).create_with_backend(FileBackend::new(&file))?;
            let (from, mut to) = (self.db.begin_read()?, db.begin_write()?);
            to.set_quick_repair(true);
            macro_rules! copy {
                ($($table:ident)*) => {$({
                    let mut target = to.open_table($table)?;
                    for entry in from.open_table($table)?.iter()? {
                        let (key, value) = entry?;
                        target.insert(key.value(), value.value())?;
                    }
                })*};
            }
            copy!(BLOBS TAGS SEGMENTS UNLINK META);
            to.commit()?;
            Ok::<_, redb::Error>(Closing::new(db))
        };
        let synced = contained("create", &temp, copy).and_then(|db| {
            file.sync_data().map_err(|e| Error::io("sync", &temp, e))?;
            Ok(Self { db, path: self.path.clone(), file: file.clone() })
        });
        match synced {
            Ok(index) => Ok((index, temp)),
            Err(e) => {
                let _ = vfs.remove_file(&temp);
                Err(e)
            }
        }
    }
}
