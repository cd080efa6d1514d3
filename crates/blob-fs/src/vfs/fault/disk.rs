//! A disk of limited size, as far as the bytes of files go: which blocks of which file are taken.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use crate::vfs::Stat;

/// A file has room in whole blocks.
const BLOCK: u64 = 4096;

/// What makes a file another one than all others.
pub(super) type FileId = (u64, u64);

pub(super) fn id(stat: &Stat) -> FileId {
    (stat.dev, stat.ino)
}

/// The blocks of a disk.
#[derive(Debug)]
pub(super) struct Disk {
    n_free: u64,
    taken: HashMap<FileId, BTreeSet<u64>>,
}

impl Disk {
    pub(super) fn of(n_bytes: u64) -> Self {
        Self { n_free: n_bytes / BLOCK, taken: HashMap::new() }
    }

    /// How many bytes can be written.
    pub(super) fn available(&self) -> u64 {
        self.n_free * BLOCK
    }

    /// Takes room for a range of a file, as much of it as there is, from its beginning on. Returns where that ends.
    pub(super) fn take(&mut self, file: FileId, range: Range<u64>) -> u64 {
        let taken = self.taken.entry(file).or_default();
        for block in range.start / BLOCK..range.end.div_ceil(BLOCK) {
            if taken.contains(&block) {
                continue;
            }
            if self.n_free == 0 {
                return (block * BLOCK).max(range.start);
            }
            self.n_free -= 1;
            taken.insert(block);
        }
        range.end
    }

    /// Takes room for all of the first bytes of a file, or none.
    pub(super) fn take_all(&mut self, file: FileId, len: u64) -> bool {
        let there =
            self.taken.get(&file).map_or(0, |taken| taken.range(..len.div_ceil(BLOCK)).count() as u64);
        let fits = len.div_ceil(BLOCK) - there <= self.n_free;
        if fits {
            self.take(file, 0..len);
        }
        fits
    }

    /// Gives back what lies behind the end of a file.
    pub(super) fn cut(&mut self, file: FileId, len: u64) {
        if let Some(taken) = self.taken.get_mut(&file) {
            self.n_free += taken.split_off(&len.div_ceil(BLOCK)).len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_taken_once_and_come_back() {
        let mut disk = Disk::of(4 * BLOCK);
        assert_eq!(disk.take((0, 1), 100..BLOCK + 1), BLOCK + 1);
        assert_eq!(disk.take((0, 1), 0..2 * BLOCK), 2 * BLOCK);
        assert_eq!(disk.available(), 2 * BLOCK);
        assert_eq!(disk.take((0, 2), 10 * BLOCK + 5..14 * BLOCK), 12 * BLOCK);
        assert_eq!(disk.take((0, 3), 7..8), 7);
        assert!(!disk.take_all((0, 1), 3 * BLOCK));
        disk.cut((0, 2), 11 * BLOCK);
        assert!(disk.take_all((0, 1), 3 * BLOCK));
        disk.cut((0, 1), 0);
        assert_eq!(disk.available(), 3 * BLOCK);
    }
}
