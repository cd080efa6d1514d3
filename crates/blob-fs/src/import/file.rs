//! Reading a file of the user's: copied, or referred to where it lies (E42, E49).

use std::{io, path::Path};

use blob_traits::{Error, Hash, ImportMode, ImportProgress, Result};
use bytes::Bytes;

use super::{
    Job,
    large::{LargeWriter, PIECE, TempFiles, store_outboard, sync_temp},
};
use crate::{
    engine::Engine,
    format::record::{FileIdentity, MAX_PATH},
    hasher::TreeHasher,
    layout::FileNo,
    op::Op,
    reference::{identity, same},
    vfs::{FileRef, Kind, VfsFile},
};

/// What became of a file.
#[derive(Debug)]
pub(super) enum Read {
    Small(Bytes),
    Copied(LargeWriter),
    /// Its blocks are those of the file.
    Shared(LargeWriter),
    Referenced(Referenced),
}

/// A file that was hashed where it lies.
#[derive(Debug)]
pub(super) struct Referenced {
    pub(super) hash: Hash,
    pub(super) size: u64,
    no: FileNo,
    identity: FileIdentity,
    files: TempFiles,
}

impl Referenced {
    /// Gives the outboard to a record.
    pub(super) fn into_op(mut self) -> Op {
        self.files.paths.clear();
        Op::Referenced { hash: self.hash, size: self.size, no: self.no, paths: vec![self.identity] }
    }
}

/// Reads a file once.
pub(super) fn read(job: &Job, path: &Path, mode: ImportMode) -> Result<Read> {
    let file = job.engine.vfs.open_user(path).map_err(|e| open_error(&job.engine, path, e))?;
    let stat = file.stat().map_err(|e| Error::io("look at", path, e))?;
    job.check_size(stat.size)?;
    let inline_max = job.engine.options.inline_max;
    if stat.size <= inline_max {
        // One byte more shows whether the file has grown since.
        let bytes = read_up_to(&*file, inline_max + 1).map_err(|e| Error::io("read", path, e))?;
        if bytes.len() as u64 <= inline_max {
            return Ok(Read::Small(bytes.into()));
        }
    }
    if mode == ImportMode::TryReference && path.as_os_str().len() <= MAX_PATH {
        return refer(job, path, &file).map(Read::Referenced);
    }
    if let Some(writer) = LargeWriter::adopt(job.clone(), path)? {
        return Ok(Read::Shared(writer));
    }
    let mut writer = LargeWriter::new(job.clone())?;
    each_piece(job, path, &*file, |piece, offset| {
        writer.write(piece)?;
        job.step(offset, stat.size, |id, offset| ImportProgress::CopyProgress { id, offset })
    })?;
    Ok(Read::Copied(writer))
}

/// Hashes a file where it lies.
fn refer(job: &Job, path: &Path, file: &FileRef) -> Result<Referenced> {
    let engine = &job.engine;
    let before = identity(path, &file.stat().map_err(|e| Error::io("look at", path, e))?, engine.vfs.now());
    let no = engine.new_file_no();
    let temp = engine.layout.temp(no, "obao4");
    let mut files = TempFiles { vfs: engine.vfs.clone(), paths: vec![temp.clone()] };
    let mut hasher = TreeHasher::new(|| engine.vfs.create_new(&temp));
    job.watch.send(&job.progress, ImportProgress::Size { id: job.id, size: before.size })?;
    each_piece(job, path, &**file, |piece, offset| {
        hasher.push(piece).map_err(|e| Error::io("hash", path, e))?;
        job.step(offset, before.size, |id, offset| ImportProgress::OutboardProgress { id, offset })
    })?;
    let tree = hasher.finish().map_err(|e| Error::io("hash", path, e))?;
    let after = file.stat().map_err(|e| Error::io("look at", path, e))?;
    if !same(&before, &after) || tree.size != before.size {
        return Err(Error::Changed { hash: tree.hash, path: path.to_owned() });
    }
    let identity = identity(path, &after, engine.vfs.now());
    let stored = store_outboard(engine, &mut files, tree.outboard)?;
    let no = match stored {
        None => FileNo::NONE,
        Some(outboard) => {
            outboard.sync_data().map_err(|e| Error::io("sync", &temp, e))?;
            let to = engine.layout.temp_outboard(&tree.hash, no);
            engine.vfs.rename(&temp, &to).map_err(|e| Error::io("rename", &temp, e))?;
            files.paths.push(to);
            sync_temp(engine)?;
            no
        }
    };
    Ok(Referenced { hash: tree.hash, size: tree.size, no, identity, files })
}

fn each_piece(
    job: &Job,
    path: &Path,
    file: &dyn VfsFile,
    mut take: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let n = match file.read_at(&mut buffer, offset) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other.map_err(|e| Error::io("read", path, e))?,
        };
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            return Ok(());
        }
        offset += n as u64;
        job.check_size(offset)?;
        take(piece, offset)?;
    }
}

fn read_up_to(file: &dyn VfsFile, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(most).map_err(io::Error::other)?];
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, len as u64) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

/// Says what stands in the place of a file.
fn open_error(engine: &Engine, path: &Path, error: io::Error) -> Error {
    let path = path.to_owned();
    match engine.vfs.stat(&path).map(|stat| stat.kind) {
        Ok(Kind::Dir) => Error::IsADirectory { path },
        Ok(Kind::Other) => Error::NotAFile { path },
        _ if error.kind() == io::ErrorKind::InvalidInput => Error::NotAFile { path },
        _ => Error::io("open", path, error),
    }
}
