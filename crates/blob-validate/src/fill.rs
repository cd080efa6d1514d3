//! Filling lost ranges from sources: everything is proved before it is written.

use std::{
    ops::Range,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{BaoContentItem, Leaf, Parent},
};
use blob_traits::{
    BaoBatchWriter, Error, Hash, MapEntry, MapEntryMut, MapMut, MapMutExt, Result,
    blocking::{Alive, Watch, unblock},
};
use bytes::Bytes;
use futures_lite::future::block_on;
use iroh_io::TokioStreamReader;
use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    Fetched, Source,
    inspect::{Inspection, Lost, Origin, Visit},
    pace::{Pace, Paced, Pause},
    pieces::{Opened, Pieces, ReadAhead},
    source::{BaoStream, FilePieces, Kind},
    subtree::Subtree,
};

/// How much is gathered before it is written, in bytes of the blob.
const BATCH_BYTES: usize = 256 << 10;

/// What came from a source, and what kept more from coming.
pub(crate) type Filled = (Fetched, Option<Error>);

/// Gets what a source has of the wanted chunks of a blob into its entry.
///
/// # Errors
/// Those of the source and of the store. What was written before stays.
pub(crate) async fn fill_from<S: MapMut>(
    store: &S,
    entry: &S::EntryMut,
    source: &Source,
    wanted: &ChunkRanges,
    pace: &Arc<Pace>,
    on_bytes: &(impl Fn(u64) -> Result<()> + Sync),
) -> Result<Filled> {
    let (hash, size) = (entry.hash(), entry.size().value());
    let wanted = &source.may_have(&hash, wanted);
    if wanted.is_empty() {
        return Ok(Filled::default());
    }
    match &source.kind {
        Kind::Store(find) => match find(hash).await? {
            // Of a blob of another size it cannot have anything that fits.
            Some((its_size, open)) if its_size == size => {
                fill_from_pieces(entry, wanted.clone(), open, pace, on_bytes).await
            }
            _ => Ok(Filled::default()),
        },
        Kind::File { hash: its, path } if *its == hash => {
            let (path, ours) = (path.clone(), entry.clone());
            let open = Box::new(move || {
                let pairs = Opened::new(&ours, ReadAhead::None)?;
                Ok(Box::new(FilePieces::open(&path, pairs)?) as Box<dyn Pieces>)
            });
            fill_from_pieces(entry, wanted.clone(), open, pace, on_bytes).await
        }
        Kind::File { .. } => Ok(Filled::default()),
        Kind::Stream(find) => match find(hash, size, wanted.clone()).await? {
            Some(stream) => fill_from_stream(store, hash, size, wanted, pace, stream).await,
            None => Ok(Filled::default()),
        },
    }
}

async fn fill_from_pieces<E: MapEntryMut>(
    entry: &E,
    wanted: ChunkRanges,
    open: impl FnOnce() -> Result<Box<dyn Pieces>> + Send + 'static,
    pace: &Arc<Pace>,
    on_bytes: &(impl Fn(u64) -> Result<()> + Sync),
) -> Result<Filled> {
    let (hash, size) = (entry.hash(), entry.size().value());
    let mut writer = entry.batch_writer().await?;
    let alive = Alive::default();
    let (watch, pace) = (alive.watch(), pace.clone());
    let filled = unblock(move || {
        let mut pieces = open()?;
        let mut pieces = Paced { pieces: &mut *pieces, pace: &pace, watch: &watch };
        let mut filler = Filler::new(&mut writer, size, &watch);
        let looked = Inspection::new(&mut pieces, &mut filler)
            .only(Some(&wanted))
            .watched(&watch)
            .run(&Subtree::whole(size), hash.as_bytes());
        let written = filler.flush();
        let (fetched, failed) = (filler.fetched, filler.failed.take());
        block_on(writer.sync())?;
        looked.and(written)?;
        Ok((fetched, failed))
    })
    .await?;
    on_bytes(filled.0.n_bytes)?;
    Ok(filled)
}

async fn fill_from_stream<S: MapMut>(
    store: &S,
    hash: Hash,
    size: u64,
    wanted: &ChunkRanges,
    pace: &Arc<Pace>,
    stream: BaoStream,
) -> Result<Filled> {
    let n_read = Arc::new(AtomicU64::new(0));
    let reader = TokioStreamReader::new(Counted::new(stream, n_read.clone(), pace.clone()));
    store.import_bao(hash, size, wanted.clone(), reader).await?;
    let n_bytes = crate::report::n_bytes(wanted, size);
    let n_hash_bytes = n_read.load(Ordering::Relaxed).saturating_sub(n_bytes);
    Ok((Fetched { n_bytes, n_hash_bytes }, None))
}

/// Writes what is proved.
struct Filler<'a, W> {
    writer: &'a mut W,
    watch: &'a Watch,
    size: u64,
    batch: Vec<BaoContentItem>,
    batch_bytes: usize,
    fetched: Fetched,
    /// The first thing that could not be read.
    failed: Option<Error>,
}

impl<'a, W: BaoBatchWriter> Filler<'a, W> {
    fn new(writer: &'a mut W, size: u64, watch: &'a Watch) -> Self {
        Self {
            writer,
            watch,
            size,
            batch: Vec::new(),
            batch_bytes: 0,
            fetched: Fetched::default(),
            failed: None,
        }
    }

    fn push(&mut self, item: BaoContentItem, len: usize) -> Result<()> {
        self.batch.push(item);
        self.batch_bytes += len;
        if self.batch_bytes >= BATCH_BYTES {
            self.watch.check()?;
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.batch_bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() { Ok(()) } else { Ok(block_on(self.writer.write_batch(self.size, batch))?) }
    }
}

impl<W: BaoBatchWriter> Visit for Filler<'_, W> {
    fn parent(&mut self, parent: Parent, _: Origin) -> Result<()> {
        self.fetched.n_hash_bytes += 64;
        self.push(parent.into(), 64)
    }

    fn group(&mut self, offset: u64, data: Bytes) -> Result<()> {
        let len = data.len();
        self.fetched.n_bytes += len as u64;
        self.push(Leaf { offset, data }.into(), len)
    }

    /// The source does not have it either.
    fn lost(&mut self, _: Range<ChunkNum>, why: Lost) -> Result<()> {
        match why {
            Lost::Unreadable(error) => drop(self.failed.get_or_insert(error)),
            Lost::Mismatch | Lost::Missing(_) | Lost::NoPair => {}
        }
        Ok(())
    }
}

/// Counts what is read, and reads no faster than it may.
struct Counted {
    inner: BaoStream,
    n_read: Arc<AtomicU64>,
    pace: Arc<Pace>,
    pause: Pause,
}

impl Counted {
    fn new(inner: BaoStream, n_read: Arc<AtomicU64>, pace: Arc<Pace>) -> Self {
        Self { inner, n_read, pace, pause: Pause::default() }
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.pause.poll(cx).is_pending() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let n_bytes = (buffer.filled().len() - before) as u64;
        self.n_read.fetch_add(n_bytes, Ordering::Relaxed);
        self.pause = self.pace.owe(n_bytes);
        read
    }
}

/// What keeps a source from helping, in a line.
pub(crate) fn failure(source: &Source, error: &Error) -> String {
    format!("{}: {}", source.name(), blob_traits::ErrorInfo::from(error))
}
