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
    order::{InOrder, SmallRow, Sorter},
    others::OtherRow,
    window::{Planner, Window},
};
use crate::{
    engine::Engine,
    entry::{Content, Entry},
    handle::Guard,
    list::{self, Listing, Spill, Which},
    partial::Partial,
    row::{BlobRow, BlobState},
    store::FsStore,
};

/// So many windows are planned at a time.
const PLANNED: usize = 64;

impl ScanBlobs for FsStore {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Entry>> {
        let engine = self.engine.clone();
        let snapshot = unblock(move || match which {
            ScanOf::All => {
                list::with_rows(&engine, Which::All, |rows, in_memory| Snapshot::of(&engine, rows, in_memory))
            }
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
    others: Listing<OtherRow>,
}

impl Snapshot {
    fn of(
        engine: &Arc<Engine>,
        rows: &mut dyn Iterator<Item = Result<(Hash, BlobRow)>>,
        in_memory: Vec<Hash>,
    ) -> Result<Self> {
        let mut taking = Taking::new(engine);
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
        taking.finish()
    }
}

/// A snapshot while it is taken.
struct Taking<'a> {
    engine: &'a Arc<Engine>,
    n_blobs: u64,
    small: Sorter,
    segments: BTreeSet<u32>,
    others: Spill<OtherRow>,
}

impl<'a> Taking<'a> {
    fn new(engine: &'a Arc<Engine>) -> Self {
        let (small, others) = (Sorter::new(engine.clone()), Spill::new(engine.clone()));
        Self { engine, n_blobs: 0, small, segments: BTreeSet::new(), others }
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

    fn finish(self) -> Result<Snapshot> {
        let pins = {
            let mut state = self.engine.state();
            self.segments.iter().map(|id| state.handles.segment(*id)).collect()
        };
        Ok(Snapshot {
            n_blobs: self.n_blobs,
            small: self.small.finish()?,
            pins,
            others: self.others.finish_listing()?,
        })
    }
}

fn small_blobs(
    store: FsStore,
    small: InOrder,
    pins: Arc<[Arc<Guard>]>,
    buffers: Arc<Buffers>,
) -> impl Stream<Item = Result<Batch<Entry>>> + Send {
    let windows = stream::unfold(Some(Planner::new(small)), |rest| async move {
        let mut rest = rest?;
        let next = unblock(move || Ok((rest.plan(PLANNED), rest))).await;
        match next {
            Ok((Ok(windows), _)) if windows.is_empty() => None,
            Ok((Ok(windows), rest)) => Some((windows.into_iter().map(Ok).collect(), Some(rest))),
            Ok((Err(e), _)) | Err(e) => Some((vec![Err(e)], None)),
        }
    });
    let windows = windows.flat_map(stream::iter);
    windows.map(move |window: Result<Window>| Ok(window?.read(store.clone(), pins.clone(), buffers.clone())))
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
        let partial = Arc::new(Partial::as_recorded(&self.engine, hash, no)?);
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
