//! Bytes that a disk does not hand out any more.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use super::FaultVfs;

/// What reading them gives.
const EIO: i32 = 5;

/// Bytes of files, by the name that a file was opened with.
#[derive(Debug, Default)]
pub(super) struct BadSectors(Vec<(PathBuf, Range<u64>)>);

impl BadSectors {
    /// How many of `len` bytes can be read before the first that cannot.
    pub(super) fn readable(&self, path: &Path, offset: u64, len: usize) -> io::Result<usize> {
        let end = offset.saturating_add(len as u64);
        let hit = self.0.iter().filter(|(bad, range)| bad == path && range.start < end && offset < range.end);
        match hit.map(|(_, range)| range.start).min() {
            None => Ok(len),
            Some(first) if first <= offset => Err(io::Error::from_raw_os_error(EIO)),
            Some(first) => Ok(usize::try_from(first - offset).unwrap_or(len)),
        }
    }
}

impl FaultVfs {
    /// Lets reads of these bytes of a file fail until [`heal_sectors`](Self::heal_sectors), as on a disk with bad sectors.
    ///
    /// A read that begins before them is a short one. Names are compared as they are given to `open`.
    pub fn spoil_sectors(&self, path: impl Into<PathBuf>, range: Range<u64>) {
        self.state().bad_sectors.0.push((path.into(), range));
    }

    /// They go with the file.
    pub(super) fn rename_sectors(&self, from: &Path, to: &Path) {
        let bad = &mut self.state().bad_sectors.0;
        bad.retain(|(path, _)| path != to);
        bad.iter_mut().filter(|(path, _)| path == from).for_each(|(path, _)| to.clone_into(path));
    }

    /// Lets all bytes be read again.
    pub fn heal_sectors(&self) {
        self.state().bad_sectors.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::vfs::{Access, FaultVfs, RealVfs, Vfs};

    #[test]
    fn bad_sectors_are_read_up_to_and_from_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
        for path in [&one, &other] {
            vfs.create_new(path).unwrap().write_all_at(&[7; 100], 0).unwrap();
        }
        vfs.spoil_sectors(&one, 40..60);
        let read = |path, offset, len| {
            vfs.open(path, Access::Read)
                .unwrap()
                .read_at(&mut vec![0; len], offset)
                .map_err(|e| e.raw_os_error())
        };
        assert_eq!((read(&one, 0, 40), read(&one, 0, 100), read(&one, 60, 40)), (Ok(40), Ok(40), Ok(40)));
        assert_eq!((read(&one, 40, 1), read(&one, 59, 10)), (Err(Some(5)), Err(Some(5))));
        assert_eq!(read(&other, 0, 100), Ok(100));
        vfs.heal_sectors();
        assert_eq!(read(&one, 0, 100), Ok(100));
    }
}
