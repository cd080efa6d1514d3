//! Small blobs in the order of their places: in memory while they are few, in sorted files otherwise.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, vec};

use blob_traits::{Hash, Result};

use crate::{
    engine::Engine,
    format::record::Fields,
    list::{Item, Spill},
    row::Place,
};

/// So many rows are sorted in memory.
const IN_MEMORY: usize = 1 << 20;

/// Where a small blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SmallRow {
    /// Segment and offset.
    at: u64,
    pub(super) size: u32,
    pub(super) hash: Hash,
}

impl SmallRow {
    pub(super) fn new(hash: Hash, size: u32, place: Place) -> Self {
        Self { at: u64::from(place.segment) << 32 | u64::from(place.offset), size, hash }
    }

    pub(super) fn segment(&self) -> u32 {
        u32::try_from(self.at >> 32).unwrap_or(u32::MAX)
    }

    pub(super) fn offset(&self) -> u64 {
        self.at & u64::from(u32::MAX)
    }
}

impl Item for SmallRow {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(self.hash.as_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self { at: fields.u64()?, size: fields.u32()?, hash: Hash::from_bytes(fields.array()?) })
    }
}

/// Takes rows in any order.
pub(super) struct Sorter {
    engine: Arc<Engine>,
    rows: Vec<SmallRow>,
    in_memory: usize,
    runs: Vec<Run>,
}

/// Rows in order that are in a file.
type Run = Box<dyn Iterator<Item = Result<SmallRow>> + Send>;

impl Sorter {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, rows: Vec::new(), in_memory: IN_MEMORY, runs: Vec::new() }
    }

    pub(super) fn push(&mut self, row: SmallRow) -> Result<()> {
        self.rows.push(row);
        if self.rows.len() < self.in_memory { Ok(()) } else { self.write_run() }
    }

    fn write_run(&mut self) -> Result<()> {
        self.rows.sort_unstable_by_key(|row| row.at);
        let mut run = Spill::new(self.engine.clone());
        self.rows.drain(..).try_for_each(|row| run.push(&row))?;
        self.runs.push(Box::new(run.finish_listing()?.into_blocking()));
        Ok(())
    }

    pub(super) fn finish(mut self) -> Sorted {
        self.rows.sort_unstable_by_key(|row| row.at);
        Sorted { rows: self.rows, runs: self.runs }
    }
}

/// Rows in order, some of them in files.
pub(super) struct Sorted {
    rows: Vec<SmallRow>,
    runs: Vec<Run>,
}

/// Hands the rows out in order. May block where there are runs.
pub(super) struct InOrder {
    rows: vec::IntoIter<SmallRow>,
    runs: Vec<Run>,
    /// The next row of each run.
    heads: BinaryHeap<Reverse<(SmallRow, usize)>>,
}

impl InOrder {
    /// Merges what was sorted in parts.
    pub(super) fn of(parts: Vec<Sorted>) -> Result<Self> {
        let (mut rows, mut runs) = (Vec::new(), Vec::new());
        for mut part in parts {
            rows.append(&mut part.rows);
            runs.append(&mut part.runs);
        }
        // Finds the parts, and merges them.
        rows.sort_by_key(|row| row.at);
        let mut merged = Self { rows: rows.into_iter(), runs, heads: BinaryHeap::new() };
        (0..merged.runs.len()).try_for_each(|run| merged.advance(run))?;
        Ok(merged)
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        if let Some(row) = self.runs.get_mut(run).and_then(Iterator::next) {
            self.heads.push(Reverse((row?, run)));
        }
        Ok(())
    }

    fn next_row(&mut self) -> Result<Option<SmallRow>> {
        let in_memory = self.rows.as_slice().first();
        let Some(Reverse((row, run))) = self.heads.peek().copied() else { return Ok(self.rows.next()) };
        if in_memory.is_some_and(|first| *first < row) {
            return Ok(self.rows.next());
        }
        self.heads.pop();
        self.advance(run)?;
        Ok(Some(row))
    }
}

impl Iterator for InOrder {
    type Item = Result<SmallRow>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options::Options, store::FsStore};

    #[tokio::test]
    async fn order_is_the_same_in_memory_and_over_files() {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::open(Options::new(dir.path())).await.unwrap();
        for (n, in_memory) in [(0, 10), (9, 10), (10, 10), (1000, 10), (1005, 100), (1000, 10_000)] {
            let sorter = || Sorter { in_memory, ..Sorter::new(store.engine.clone()) };
            let mut sorters = [sorter(), sorter(), sorter()];
            let mut expected = Vec::new();
            for i in 0..n {
                let hash = Hash::new(u32::to_le_bytes(i));
                let place = Place { segment: i * 7919 % 13, offset: i * 104_729 % 100_003 };
                let row = SmallRow::new(hash, i, place);
                assert_eq!((row.segment(), row.offset()), (place.segment, u64::from(place.offset)));
                sorters[i as usize % 3].push(row).unwrap();
                expected.push(row);
            }
            expected.sort_unstable();
            let in_order: Vec<_> =
                InOrder::of(sorters.map(Sorter::finish).into()).unwrap().map(Result::unwrap).collect();
            assert_eq!(in_order, expected, "{n} with {in_memory}");
        }
        assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 0);
    }
}
