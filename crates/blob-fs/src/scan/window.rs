//! Small blobs that lie close together, and are read in one go.

use std::{
    iter::{self, Peekable},
    sync::Arc,
};

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

    /// The next windows; none at the end.
    pub(super) fn plan(&mut self, at_most: usize) -> Result<Vec<Window>> {
        (0..at_most).map_while(|_| self.next_window().transpose()).collect()
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
    /// Reads it in one go, once the first blob is asked for. Where that fails, the readers of the blobs are going to say why.
    pub(super) fn read(self, store: FsStore, pins: Arc<[Arc<Guard>]>, buffers: Arc<Buffers>) -> Batch<Entry> {
        let n_bytes = self.rows.iter().map(|row| u64::from(row.size)).sum();
        let blobs = iter::once_with(move || {
            let bytes = self.bytes(&store.engine, &buffers);
            drop(pins);
            let start = self.start;
            self.rows.into_iter().filter_map(move |row| match &bytes {
                Some(bytes) => Some(Ok(row.cut_out_of(bytes, start))),
                None => entry(&store, row.hash).transpose(),
            })
        });
        Batch::new(n_bytes, blobs.flatten())
    }

    fn bytes(&self, engine: &Engine, buffers: &Arc<Buffers>) -> Option<Bytes> {
        let file = segment(engine, self.rows.first()?.segment()).ok()?;
        let len = usize::try_from(self.end - self.start).ok()?;
        buffers.fill(len, |bytes| file.read_exact_at(bytes, self.start)).ok()
    }
}
