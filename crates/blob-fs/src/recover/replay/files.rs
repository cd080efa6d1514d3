//! The files that records name (E65): which are not there, and which nobody needs.

use std::{io, path::PathBuf};

use blob_traits::{Error, Hash, Result};

use super::Replay;
use crate::{
    committer::remove_orphan,
    format::record::{CameFrom, outboard_len},
    index::{Commit, Unlink},
    layout::FileNo,
    overlay::Overlay,
    recover::Recovery,
    row::BlobState,
};

/// Large blobs without their files, unless a later record says otherwise.
#[derive(Debug)]
pub(super) enum Lost {
    /// These.
    Some(Vec<(Hash, BlobState)>),
    /// Too many to name: in the end the files of all rows are looked for.
    Many,
}

impl Default for Lost {
    fn default() -> Self {
        Self::Some(Vec::new())
    }
}

#[cfg(test)]
impl Lost {
    pub(super) fn len(&self) -> usize {
        if let Self::Some(lost) = self { lost.len() } else { 0 }
    }
}

impl Replay {
    /// Looks for the files of a large blob whose record was applied.
    pub(super) fn note_if_lost(&mut self, hash: Hash, state: BlobState, came_from: CameFrom) -> Result<()> {
        let BlobState::Large { size, no } = state else { return Ok(()) };
        if matches!(self.lost, Lost::Many) || self.files_are_there(hash, no, size, came_from)? {
            return Ok(());
        }
        if let Lost::Some(lost) = &mut self.lost {
            lost.push((hash, state));
            if lost.len() >= self.batch {
                self.lost = Lost::Many;
            }
        }
        Ok(())
    }

    /// Names the blobs that are without their files now that all was read and moved.
    pub(super) fn report_lost(&mut self, recovery: &mut Recovery) -> Result<()> {
        match std::mem::take(&mut self.lost) {
            Lost::Some(lost) => {
                for (hash, state) in lost {
                    if self.reader.blob(&hash)?.is_some_and(|row| row.state == state) {
                        recovery.damaged_blobs.push(hash);
                    }
                }
            }
            Lost::Many => {
                for item in self.reader.blobs()? {
                    let (hash, row) = item?;
                    if let BlobState::Large { size, no } = row.state
                        && row.seq > self.began_at
                        && !self.files_are_there(hash, no, size, CameFrom::Data)?
                    {
                        recovery.damaged_blobs.push(hash);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the files of a large blob are there and of the right length.
    fn files_are_there(&self, hash: Hash, no: FileNo, size: u64, came_from: CameFrom) -> Result<bool, Error> {
        let layout = &self.layout;
        let (data, outboard) = match came_from {
            CameFrom::Temp => (layout.temp_data(&hash, no), layout.temp_outboard(&hash, no)),
            CameFrom::Partial => (layout.partial_data(&hash, no), layout.partial_outboard(&hash, no)),
            CameFrom::Data => (layout.data(&hash, no), layout.data_outboard(&hash, no)),
        };
        let outboard_len = outboard_len(size);
        Ok(self.has_len(&[layout.data(&hash, no), data], size)?
            && (outboard_len == 0
                || self.has_len(&[layout.data_outboard(&hash, no), outboard], outboard_len)?))
    }

    /// Whether the first of these names that is taken is that of a file of this length.
    fn has_len(&self, paths: &[PathBuf; 2], len: u64) -> Result<bool, Error> {
        for path in paths {
            match self.vfs.stat(path) {
                Ok(stat) => return Ok(stat.size == len),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", path, e)),
            }
        }
        Ok(false)
    }

    /// Removes the files that the index says nobody needs, some at a time.
    pub(super) fn remove_orphans(&mut self, recovery: &mut Recovery) -> Result<()> {
        loop {
            let orphans = self.index.unlink(self.batch)?;
            if orphans.is_empty() {
                return Ok(());
            }
            for orphan in &orphans {
                remove_orphan(&*self.vfs, &self.layout, orphan)?;
                recovery.removed_files += 1;
            }
            let (overlay, checkpoint) = (&Overlay::default(), Some(self.checkpoint));
            let unlink = Unlink::Done(&orphans);
            self.index.commit(&Commit { overlay, checkpoint, unlink, segments: &[] })?;
            self.reader = self.index.reader()?;
        }
    }
}
