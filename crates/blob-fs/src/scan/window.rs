//! Small blobs that lie close together, and are read in one go.

use std::{iter::Peekable, sync::Arc};

use blob_traits::{Result, Scanned};
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
            end = row.end();
            rows.push(row);
        }
        Ok(Some(Window { rows, start, end }))
    }
}

impl Window {
    /// The bytes of its blobs.
    pub(super) fn n_bytes(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.size)).sum()
    }

    /// Reads it in one go. Where that fails, the readers of the blobs are going to say why. Blocks.
    pub(super) fn read(
        self,
        store: &FsStore,
        buffers: &Arc<Buffers>,
    ) -> impl Iterator<Item = Result<Scanned<Entry>>> + use<> {
        let bytes = self.bytes(&store.engine, buffers);
        let (start, store) = (self.start, store.clone());
        self.rows.into_iter().filter_map(move |row| match &bytes {
            Some(bytes) => Some(Ok(row.cut_out_of(bytes, start))),
            None => entry(&store, row.hash).transpose(),
        })
    }

    fn bytes(&self, engine: &Engine, buffers: &Arc<Buffers>) -> Option<Bytes> {
        let file = segment(engine, self.rows.first()?.segment()).ok()?;
        let len = usize::try_from(self.end - self.start).ok()?;
        buffers.fill(len, |bytes| file.read_exact_at(bytes, self.start)).ok()
    }
}
