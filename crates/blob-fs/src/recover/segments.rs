//! Which segments there are (E8, E10, E62 step 2).

use std::path::{Path, PathBuf};

use blob_traits::{Error, Result};

use super::Recovery;
use crate::{
    format::header::{BLOCK, BadHeader, SegmentHeader, SegmentRole, VERSION},
    layout::{Layout, parse_segment},
    vfs::{Access, FileRef, Vfs},
};

/// The segments of a store.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The log, in its order.
    pub(super) log: Vec<LogSegment>,
    /// The highest id of any segment (E8).
    pub(super) highest: u32,
    /// The newest one, where its creation was interrupted.
    unfinished: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct LogSegment {
    pub(super) header: SegmentHeader,
    pub(super) size: u64,
}

impl LogSegment {
    /// Opens it; not all are kept open at once.
    pub(super) fn open(&self, vfs: &dyn Vfs, layout: &Layout) -> Result<FileRef> {
        let path = layout.segment(self.header.segment);
        vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))
    }

    /// Where the segment before this one ends.
    pub(super) fn prev_end(&self) -> u64 {
        match self.header.role {
            SegmentRole::Log { prev_end, .. } => prev_end,
            SegmentRole::Packed { .. } => 0,
        }
    }

    fn prev_id(&self) -> u32 {
        match self.header.role {
            SegmentRole::Log { prev_id, .. } => prev_id,
            SegmentRole::Packed { .. } => 0,
        }
    }
}

/// Opens all segments and checks that they make up one log. Changes nothing.
pub(super) fn list(vfs: &dyn Vfs, layout: &Layout) -> Result<Segments> {
    let names = vfs.read_dir(&layout.log_dir()).map_err(|e| Error::io("list", layout.log_dir(), e))?;
    let mut ids: Vec<u32> = names.iter().filter_map(|name| parse_segment(name)).collect();
    ids.sort_unstable();
    let highest = ids.last().copied().unwrap_or(0);
    let mut segments = Segments { log: Vec::new(), highest, unfinished: None };
    for id in ids {
        let path = layout.segment(id);
        let newest = id == segments.highest;
        let file = vfs.open(&path, Access::ReadWrite).map_err(|e| Error::io("open", &path, e))?;
        let size = file.stat().map_err(|e| Error::io("look at", &path, e))?.size;
        match SegmentHeader::load(&*file).map_err(|e| Error::io("read", &path, e))? {
            Ok(header) => segments.push(layout, id, LogSegment { header, size })?,
            Err(BadHeader::Unsupported { found }) => {
                return Err(unsupported(&path, format!("version {found}")));
            }
            // Its creation was interrupted: there never was a record in it (E10).
            Err(BadHeader::Damaged(_)) if newest && size <= BLOCK as u64 => segments.unfinished = Some(path),
            Err(BadHeader::Damaged(what)) => return Err(damaged(&path, what)),
        }
    }
    Ok(segments)
}

impl Segments {
    /// Puts the segment aside whose creation was interrupted.
    pub(super) fn put_aside(&self, vfs: &dyn Vfs, layout: &Layout, recovery: &mut Recovery) -> Result<()> {
        self.unfinished.as_ref().map_or(Ok(()), |path| put_aside(vfs, layout, path, recovery))
    }

    fn push(&mut self, layout: &Layout, id: u32, segment: LogSegment) -> Result<()> {
        let path = layout.segment(id);
        if matches!(segment.header.role, SegmentRole::Packed { .. }) {
            return Err(unsupported(&path, "a packed segment".to_owned()));
        }
        if segment.header.segment != id {
            return Err(damaged(&path, "its header names another segment"));
        }
        let before = self.log.last();
        if before.is_some_and(|before| before.header.store_id != segment.header.store_id) {
            return Err(damaged(&path, "it belongs to another store"));
        }
        if segment.prev_id() != before.map_or(0, |before| before.header.segment) {
            return Err(damaged(&path, "the segment before it is missing"));
        }
        if before.is_some_and(|before| before.size < segment.prev_end()) {
            return Err(damaged(&layout.segment(segment.prev_id()), "it is shorter than the log says"));
        }
        self.log.push(segment);
        Ok(())
    }
}

/// Gives a file another name, in `quarantine/`.
pub(super) fn put_aside(vfs: &dyn Vfs, layout: &Layout, path: &Path, recovery: &mut Recovery) -> Result<()> {
    let dir = layout.quarantine_dir();
    match vfs.create_dir(&dir) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("create", dir, e)),
        _ => {}
    }
    let mut no = [0; 8];
    vfs.random(&mut no);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let to = dir.join(format!("{name}-{:016x}", u64::from_le_bytes(no)));
    vfs.rename(path, &to).map_err(|e| Error::io("put aside", path, e))?;
    for dir in [dir.as_path(), path.parent().unwrap_or(&dir)] {
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    }
    recovery.quarantined.push(to);
    Ok(())
}

fn unsupported(path: &Path, found: String) -> Error {
    Error::UnsupportedFormat { path: path.to_owned(), found, supported: format!("version {VERSION}") }
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::DamagedStore {
        path: path.to_owned(),
        what: format!("{what}; nothing was changed, restore this file from a backup"),
    }
}
