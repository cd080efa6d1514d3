//! Going through all blobs (E85): small ones in the order in which they lie in the log, many with each read, then the others.
//!
//! What is handed out is a snapshot of the rows. It is taken at once, and takes 48 bytes of memory for each small blob, up
//! to a million; then it goes to files. No look-up follows for a blob that can be read in one go.

mod buffers;
mod order;
mod others;
mod window;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use blob_traits::{Batch, Error, Hash, Map, Result, Scan, ScanBlobs, ScanOf, Scanned, blocking::unblock};
use futures_lite::{Stream, StreamExt, future::block_on, stream};

use self::{
    buffers::Buffers,
    order::{InOrder, SmallRow, Sorted, Sorter},
    others::OtherRow,
    window::{Planner, Windows},
};
use crate::{
    engine::Engine,
    entry::{Content, Entry},
    handle::Guard,
    list::{self, Listing, Spill},
    partial::Partial,
    row::{BlobRow, BlobState},
    store::FsStore,
};

/// So many batches are planned at a time.
const PLANNED: usize = 16;

impl ScanBlobs for FsStore {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Entry>> {
        let engine = self.engine.clone();
        let snapshot = unblock(move || match which {
            ScanOf::All => Snapshot::of_all(&engine),
            ScanOf::Hashes(hashes) => Snapshot::of_some(&engine, hashes),
        });
        let Snapshot { n_blobs, small, pins, others } = snapshot.await?;
        let buffers = Arc::new(Buffers::default());
        let small = small_blobs(self.clone(), small, pins, buffers.clone());
        let batches = small.chain(others::batches(self.clone(), others, buffers));
        Ok(Scan { n_blobs, batches: batches.boxed() })
    }
}

/// The blobs that there were at one moment.
struct Snapshot {
    n_blobs: u64,
    small: InOrder,
    /// The segments that they lie in. One may have gone before it was pinned: reading it fails then.
    pins: Arc<[Arc<Guard>]>,
    others: Vec<Listing<OtherRow>>,
}

impl Snapshot {
    fn of_all(engine: &Arc<Engine>) -> Result<Self> {
        Self::of(engine, list::with_parts(engine, |rows, in_memory| Taking::of(engine, rows, in_memory))?)
    }

    fn of(engine: &Arc<Engine>, parts: Vec<Taken>) -> Result<Self> {
        let (mut n_blobs, mut segments, mut small, mut others) = (0, BTreeSet::new(), Vec::new(), Vec::new());
        for part in parts {
            n_blobs += part.n_blobs;
            segments.extend(part.segments);
            small.push(part.small);
            others.push(part.others);
        }
        let pins = {
            let mut state = engine.state();
            segments.iter().map(|id| state.handles.segment(*id)).collect()
        };
        Ok(Self { n_blobs, small: InOrder::of(small)?, pins, others })
    }

    /// Asks for each blob: these may be few among many.
    fn of_some(engine: &Arc<Engine>, hashes: BTreeSet<Hash>) -> Result<Self> {
        let mut taking = Taking::new(engine);
        for hash in hashes {
            match engine.blob(&hash)? {
                Some(row) => taking.take(hash, &row)?,
                None if engine.state().partials.get(&hash).is_some() => taking.take_partial(hash)?,
                None => {}
            }
        }
        Self::of(engine, vec![taking.finish()?])
    }
}

/// A part of a snapshot.
struct Taken {
    n_blobs: u64,
    small: Sorted,
    segments: BTreeSet<u32>,
    others: Listing<OtherRow>,
}

/// A part of a snapshot while it is taken.
struct Taking {
    n_blobs: u64,
    small: Sorter,
    segments: BTreeSet<u32>,
    others: Spill<OtherRow>,
}

impl Taking {
    fn new(engine: &Arc<Engine>) -> Self {
        let (small, others) = (Sorter::new(engine.clone()), Spill::new(engine.clone()));
        Self { n_blobs: 0, small, segments: BTreeSet::new(), others }
    }

    fn of(
        engine: &Arc<Engine>,
        rows: &mut dyn Iterator<Item = Result<(Hash, BlobRow)>>,
        in_memory: Vec<Hash>,
    ) -> Result<Taken> {
        let mut taking = Self::new(engine);
        let mut in_memory = in_memory.into_iter().peekable();
        for row in rows {
            let (hash, row) = row?;
            while let Some(hash) = in_memory.next_if(|next| *next < hash) {
                taking.take_partial(hash)?;
            }
            in_memory.next_if_eq(&hash);
            taking.take(hash, &row)?;
        }
        in_memory.try_for_each(|hash| taking.take_partial(hash))?;
        taking.finish()
    }

    fn take(&mut self, hash: Hash, row: &BlobRow) -> Result<()> {
        self.n_blobs += 1;
        let BlobState::Small { size } = row.state else {
            return self.others.push(&OtherRow::new(hash, row.state));
        };
        self.segments.insert(row.place.segment);
        self.small.push(SmallRow::new(hash, size, row.place))
    }

    fn take_partial(&mut self, hash: Hash) -> Result<()> {
        self.n_blobs += 1;
        self.others.push(&OtherRow::partial(hash))
    }

    fn finish(self) -> Result<Taken> {
        let Self { n_blobs, small, segments, others } = self;
        Ok(Taken { n_blobs, small: small.finish(), segments, others: others.finish_listing()? })
    }
}

fn small_blobs(
    store: FsStore,
    small: InOrder,
    pins: Arc<[Arc<Guard>]>,
    buffers: Arc<Buffers>,
) -> impl Stream<Item = Result<Batch<Entry>>> + Send {
    let batches = stream::unfold(Some(Planner::new(small)), |rest| async move {
        let mut rest = rest?;
        let next = unblock(move || Ok((rest.plan(PLANNED), rest))).await;
        match next {
            Ok((Ok(batches), _)) if batches.is_empty() => None,
            Ok((Ok(batches), rest)) => Some((batches.into_iter().map(Ok).collect(), Some(rest))),
            Ok((Err(e), _)) | Err(e) => Some((vec![Err(e)], None)),
        }
    });
    batches
        .flat_map(stream::iter)
        .map(move |windows| Ok(Windows::batch(windows?, store.clone(), pins.clone(), buffers.clone())))
}

/// The blob as it is by now. `None`: it has gone. May block.
fn entry(store: &FsStore, hash: Hash) -> Result<Option<Scanned<Entry>>> {
    let entry = match block_on(store.get(&hash)) {
        Err(Error::Damaged { .. }) => store.unreadable(hash)?,
        Err(e @ Error::Closed) => return Err(e),
        // What keeps one blob from being opened says nothing of the others.
        Err(e) => Some(store.unreadable(hash)?.ok_or(e)?),
        Ok(found) => found,
    };
    Ok(entry.map(|entry| {
        let path = entry.path();
        Scanned::Entry { entry, path }
    }))
}

impl FsStore {
    /// A handle to a partial blob whose files cannot be opened.
    fn unreadable(&self, hash: Hash) -> Result<Option<Entry>> {
        let Some(BlobRow { state: BlobState::Partial { no, .. }, .. }) = self.engine.blob(&hash)? else {
            return Ok(None);
        };
        let partial = Arc::new(Partial::as_recorded(&self.engine, hash, no));
        Ok(Some(self.partial_entry(partial)))
    }
}

impl Entry {
    /// The file that the blob's bytes are in, and no others. May block.
    fn path(&self) -> Option<PathBuf> {
        let Engine { vfs, layout, .. } = &*self.engine;
        match &self.content {
            Content::Empty | Content::Small { .. } => None,
            // Not while it is on its way there (E41).
            Content::Large { no, .. } => {
                Some(layout.data(&self.hash, *no)).filter(|path| vfs.stat(path).is_ok())
            }
            Content::Referenced { place, .. } => {
                Some(Self::identities(&self.engine, self.hash, *place).ok()?.into_iter().next()?.path)
            }
            Content::Partial(partial) => Some(layout.partial_data(&self.hash, partial.file_no()?)),
        }
    }
}
