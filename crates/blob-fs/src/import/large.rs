//! Large blobs: written to `temp/` and hashed in one go, then synced (E40).

use std::{io, path::PathBuf, sync::PoisonError};

use blob_traits::{Error, Hash, Result};

use super::Job;
use crate::{
    engine::Engine,
    format::record::CameFrom,
    hasher::{Outboard, TreeHasher},
    layout::FileNo,
    op::Op,
    vfs::{Access, FileRef, Vfs, Whose},
};

/// How much is written and hashed at a time.
pub(super) const PIECE: usize = 1 << 20;

/// The files of a blob while it is written. Dropped before it has been recorded, it removes them.
#[derive(Debug)]
pub(super) struct LargeWriter {
    job: Job,
    files: TempFiles,
    data: FileRef,
    hasher: TreeHasher<'static>,
    offset: u64,
}

/// The names in `temp/` that are to be removed unless a record takes them over.
#[derive(Debug)]
pub(super) struct TempFiles {
    pub(super) vfs: std::sync::Arc<dyn Vfs>,
    pub(super) paths: Vec<PathBuf>,
}

impl Drop for TempFiles {
    fn drop(&mut self) {
        for path in &self.paths {
            // What cannot be removed now is removed when the store is opened again.
            let _ = self.vfs.remove_file(path);
        }
    }
}

impl LargeWriter {
    pub(super) fn new(job: Job) -> Result<Self> {
        let engine = job.engine.clone();
        engine.check_room()?;
        let no = engine.new_file_no();
        let path = engine.layout.temp(no, "data");
        let data = engine.vfs.create_new(&path).map_err(|e| Error::io("create", &path, e))?;
        let outboard = engine.layout.temp(no, "obao4");
        let files = TempFiles { vfs: engine.vfs.clone(), paths: vec![path, outboard.clone()] };
        let hasher = TreeHasher::new(move || engine.vfs.create_new(&outboard));
        Ok(Self { job, files, data, hasher, offset: 0 })
    }

    /// Takes bytes that are in the file already, because it shares its blocks with its source.
    pub(super) fn adopt(job: Job, source: &std::path::Path) -> Result<Option<Self>> {
        let engine = job.engine.clone();
        let no = engine.new_file_no();
        let path = engine.layout.temp(no, "data");
        match engine.vfs.reflink(source, &path, Whose::Store) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Unsupported => return Ok(None),
            Err(e) => return Err(Error::io("copy", source, e)),
        }
        let outboard = engine.layout.temp(no, "obao4");
        let files = TempFiles { vfs: engine.vfs.clone(), paths: vec![path.clone(), outboard.clone()] };
        let data = engine.vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        let hasher = TreeHasher::new({
            let engine = engine.clone();
            move || engine.vfs.create_new(&outboard)
        });
        let mut writer = Self { job, files, data, hasher, offset: 0 };
        writer.hash_file(&path)?;
        Ok(Some(writer))
    }

    fn hash_file(&mut self, path: &std::path::Path) -> Result<()> {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = self.data.read_at(&mut buffer, self.offset).map_err(|e| Error::io("read", path, e))?;
            let piece = buffer.get(..n).unwrap_or_default();
            if piece.is_empty() {
                return Ok(());
            }
            self.job.check_size(self.offset + n as u64)?;
            self.hasher.push(piece).map_err(|e| Error::io("hash", path, e))?;
            self.offset += n as u64;
            // Offsets of hashing are reported after the size, which is known at the end.
            self.job.watch.check()?;
        }
    }

    /// Writes and hashes the next bytes: the bytes that are hashed are the bytes that are written (E42).
    pub(super) fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.job.engine.check_room()?;
        let path = self.files.paths.first().cloned().unwrap_or_default();
        let (data, offset, hasher) = (&self.data, self.offset, &mut self.hasher);
        let both = rayon::join(|| data.write_all_at(piece, offset), || hasher.push(piece));
        both.0.and(both.1).map_err(|e| Error::io("write", path, e))?;
        self.offset += piece.len() as u64;
        Ok(())
    }

    /// How many bytes it has so far.
    pub(super) fn size(&self) -> u64 {
        self.offset
    }

    /// Makes the files durable under names that carry the hash.
    pub(super) fn finish(self) -> Result<Written> {
        let Self { job, mut files, data, hasher, .. } = self;
        let engine = job.engine;
        let hashed = hasher.finish().map_err(|e| Error::io("hash", engine.layout.temp_dir(), e))?;
        let (hash, no) = (hashed.hash, engine.new_file_no());
        let outboard = store_outboard(&engine, &mut files, hashed.outboard)?;
        let [from, from_outboard] = files.paths.as_slice() else { unreachable!("a writer has two files") };
        let (from, from_outboard) = (from.clone(), from_outboard.clone());
        let mut renames = vec![(from, engine.layout.temp_data(&hash, no))];
        renames.extend(outboard.is_some().then(|| (from_outboard, engine.layout.temp_outboard(&hash, no))));
        data.sync_data().map_err(|e| Error::io("sync", engine.layout.temp_dir(), e))?;
        if let Some(outboard) = outboard {
            outboard.sync_data().map_err(|e| Error::io("sync", engine.layout.temp_dir(), e))?;
        }
        for (from, to) in renames {
            engine.vfs.rename(&from, &to).map_err(|e| Error::io("rename", from, e))?;
            files.paths.push(to);
        }
        sync_temp(&engine)?;
        Ok(Written { hash, no, size: hashed.size, files })
    }
}

/// Writes an outboard that is in memory to its file. `None`: there is none.
pub(super) fn store_outboard(
    engine: &Engine,
    files: &mut TempFiles,
    outboard: Outboard,
) -> Result<Option<FileRef>> {
    let bytes = match outboard {
        Outboard::File(file) => return Ok(Some(file)),
        Outboard::Memory(bytes) if bytes.is_empty() => return Ok(None),
        Outboard::Memory(bytes) => bytes,
    };
    let Some(path) = files.paths.last() else { return Ok(None) };
    let file = engine.vfs.create_new(path).map_err(|e| Error::io("create", path, e))?;
    file.write_all_at(&bytes, 0).map_err(|e| Error::io("write", path, e))?;
    Ok(Some(file))
}

/// Makes the names in `temp/` durable, not while files are being moved out of it (E41).
pub(super) fn sync_temp(engine: &Engine) -> Result<()> {
    let _not_moving = engine.moving.read().unwrap_or_else(PoisonError::into_inner);
    let dir = engine.layout.temp_dir();
    engine.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))
}

/// A blob whose files are durable in `temp/`, and no record names them yet.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) hash: Hash,
    no: FileNo,
    pub(super) size: u64,
    files: TempFiles,
}

impl Written {
    /// Gives the files to a record.
    pub(super) fn into_op(mut self) -> Op {
        self.files.paths.clear();
        Op::Large { hash: self.hash, size: self.size, no: self.no, came_from: CameFrom::Temp }
    }
}
