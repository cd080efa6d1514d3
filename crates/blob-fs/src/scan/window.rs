//! Small blobs that lie close together, and are read in one go.

use std::{iter::Peekable, sync::Arc, vec};

use blob_traits::{Batch, Result, Scanned};
use bytes::Bytes;

use super::{
    buffers::Buffers,
    entry,
    order::{InOrder, SmallRow},
};
use crate::{
    engine::Engine,
    entry::{Entry, segment},
    format::{RECORD_HEADER, record::outboard_len},
    handle::Guard,
    store::FsStore,
};

/// How much is read at a time, unless one blob alone is more.
const WINDOW: u64 = 512 << 10;
/// About so much is looked at by one thread before it asks for more.
const BATCH: u64 = 4 << 20;
/// What lies between two blobs of a window is read, too. More than this is not.
const GAP: u64 = 64 << 10;

/// Blobs in one segment, in order.
#[derive(Debug)]
pub(super) struct Window {
    rows: Vec<SmallRow>,
    start: u64,
    end: u64,
}

impl SmallRow {
    fn start(&self) -> u64 {
        self.offset() + RECORD_HEADER
    }

    fn end(&self) -> u64 {
        self.start() + u64::from(self.size) + outboard_len(u64::from(self.size))
    }

    /// The blob, out of the bytes of a window.
    fn cut_out_of(&self, bytes: &Bytes, start: u64) -> Scanned<Entry> {
        let slice = |from: u64, len: u64| {
            let index = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            bytes.slice(index(from)..index(from + len))
        };
        let size = u64::from(self.size);
        let outboard = match outboard_len(size) {
            0 => Bytes::new(),
            len => slice(self.start() + size, len),
        };
        Scanned::Whole { hash: self.hash, data: slice(self.start(), size), outboard, path: None }
    }
}

/// Cuts rows into windows.
pub(super) struct Planner(Peekable<InOrder>);

impl Planner {
    pub(super) fn new(rows: InOrder) -> Self {
        Self(rows.peekable())
    }

    /// The next batches of windows; none at the end.
    pub(super) fn plan(&mut self, at_most: usize) -> Result<Vec<Vec<Window>>> {
        (0..at_most).map_while(|_| self.next_batch().transpose()).collect()
    }

    fn next_batch(&mut self) -> Result<Option<Vec<Window>>> {
        let (mut batch, mut n_bytes) = (Vec::new(), 0);
        while n_bytes < BATCH
            && let Some(window) = self.next_window()?
        {
            n_bytes += window.end - window.start;
            batch.push(window);
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn next_window(&mut self) -> Result<Option<Window>> {
        let Some(first) = self.0.next().transpose()? else { return Ok(None) };
        let (start, mut end, segment) = (first.start(), first.end(), first.segment());
        let mut rows = vec![first];
        let fits = |row: &SmallRow, end: u64| {
            row.segment() == segment && row.start() <= end + GAP && row.end() - start <= WINDOW
        };
        while let Some(row) = self.0.next_if(|next| next.as_ref().is_ok_and(|row| fits(row, end))) {
            let row = row?;
            // What an index says that has gone bad may overlap.
            end = end.max(row.end());
            rows.push(row);
        }
        Ok(Some(Window { rows, start, end }))
    }
}

impl Window {
    fn read(&self, engine: &Engine, buffers: &Arc<Buffers>) -> Option<Bytes> {
        let file = segment(engine, self.rows.first()?.segment()).ok()?;
        // Room is made for what is there, not for what a row says.
        if file.stat().ok()?.size < self.end {
            return None;
        }
        let len = usize::try_from(self.end - self.start).ok()?;
        buffers.fill(len, |bytes| file.read_exact_at(bytes, self.start)).ok()
    }
}

/// Windows that are looked at one after the other. Each is read in one go when its first blob is asked for; where that
/// fails, the readers of the blobs are going to say why.
pub(super) struct Windows {
    store: FsStore,
    /// Until all of them have been read.
    _pins: Arc<[Arc<Guard>]>,
    buffers: Arc<Buffers>,
    rest: vec::IntoIter<Window>,
    rows: vec::IntoIter<SmallRow>,
    bytes: Option<Bytes>,
    start: u64,
}

impl Windows {
    pub(super) fn batch(
        windows: Vec<Window>,
        store: FsStore,
        pins: Arc<[Arc<Guard>]>,
        buffers: Arc<Buffers>,
    ) -> Batch<Entry> {
        let (rest, rows) = (windows.into_iter(), Vec::new().into_iter());
        Batch::new(Self { store, _pins: pins, buffers, rest, rows, bytes: None, start: 0 })
    }
}

impl Iterator for Windows {
    type Item = Result<Scanned<Entry>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(row) = self.rows.next() else {
                let window = self.rest.next()?;
                if let Err(e) = self.store.engine.state().check_readable() {
                    return Some(Err(e));
                }
                // The next one is read into the same memory.
                self.bytes = None;
                self.bytes = window.read(&self.store.engine, &self.buffers);
                (self.start, self.rows) = (window.start, window.rows.into_iter());
                continue;
            };
            match &self.bytes {
                Some(bytes) => return Some(Ok(row.cut_out_of(bytes, self.start))),
                None => match entry(&self.store, row.hash).transpose() {
                    None => {}
                    found => return found,
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use blob_traits::{BlobFormat, Hash, prelude::*};

    use super::*;
    use crate::{options::Options, row::BlobState, scan::order::Sorter};

    /// An index whose pages are not what was written may say any size: one that reaches over the blobs behind, or beyond
    /// the end of the log.
    #[tokio::test]
    async fn row_with_a_wrong_size_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::open(Options::new(dir.path())).await.unwrap();
        let blob = |number: u8| vec![number; 10_000];
        for number in 0..8 {
            store.import_bytes(blob(number).into(), BlobFormat::Raw).await.unwrap();
        }
        for wrong in [0, 25_000, u32::MAX] {
            let mut sorter = Sorter::new(store.engine.clone());
            for number in 0..8 {
                let hash = Hash::new(blob(number));
                let row = store.engine.blob(&hash).unwrap().unwrap();
                let BlobState::Small { size } = row.state else { panic!("{row:?}") };
                sorter.push(SmallRow::new(hash, if number == 0 { wrong } else { size }, row.place)).unwrap();
            }
            let mut planner = Planner::new(InOrder::of(vec![sorter.finish()]).unwrap());
            let mut found = Vec::new();
            for windows in planner.plan(100).unwrap() {
                let pins = Vec::new().into();
                found
                    .extend(Windows::batch(windows, store.clone(), pins, Arc::default()).map(Result::unwrap));
            }
            assert_eq!(found.len(), 8);
            for number in 1..8 {
                let hash = Hash::new(blob(number));
                let found = found.iter().find(|found| found.hash() == hash);
                match found {
                    Some(Scanned::Whole { data, .. }) => assert_eq!(*data, blob(number), "{wrong}"),
                    // Its window could not be read as a whole.
                    Some(Scanned::Entry { entry, .. }) => assert!(wrong == u32::MAX && entry.is_complete()),
                    None => panic!("{wrong}: {number} is missing"),
                }
            }
        }
    }
}
