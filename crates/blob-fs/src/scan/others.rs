//! Blobs that do not lie in the log, some at a time.

use std::{io, path::Path, sync::Arc};

use blob_traits::{Batch, Hash, Result, Scanned};
use bytes::Bytes;
use futures_lite::{Stream, StreamExt, stream};

use super::{buffers::Buffers, entry};
use crate::{
    engine::Engine,
    entry::Entry,
    format::record::{Fields, outboard_len},
    layout::FileNo,
    list::{Item, Listing},
    row::BlobState,
    store::FsStore,
    vfs::Access,
};

/// So many blobs are in a batch, unless they have more bytes than that.
const MAX_BLOBS: usize = 64;
const MAX_BYTES: u64 = 4 << 20;
/// A blob whose bytes somebody has to look for counts as many.
const UNKNOWN: u64 = MAX_BYTES / 8;
/// Files up to this length are read in one go.
const AT_ONCE: u64 = 512 << 10;

/// A blob that is not in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct OtherRow {
    hash: Hash,
    /// 0 for a partial one.
    size: u64,
    /// Its files, if they are its own and it is complete.
    no: FileNo,
}

impl OtherRow {
    pub(super) fn new(hash: Hash, state: BlobState) -> Self {
        let no = match state {
            BlobState::Large { no, .. } => no,
            BlobState::Small { .. } | BlobState::Referenced { .. } | BlobState::Partial { .. } => {
                FileNo::NONE
            }
        };
        Self { hash, size: state.complete_size().unwrap_or(0), no }
    }

    pub(super) fn partial(hash: Hash) -> Self {
        Self { hash, size: 0, no: FileNo::NONE }
    }

    /// Reads it in one go, if that is to be done and works.
    fn whole(&self, engine: &Engine, buffers: &Arc<Buffers>) -> Option<Scanned<Entry>> {
        let Self { hash, size, no } = *self;
        if no == FileNo::NONE || size > AT_ONCE {
            return None;
        }
        let path = engine.layout.data(&hash, no);
        let data = read(engine, &path, size, buffers).ok()?;
        let outboard = match outboard_len(size) {
            0 => Bytes::new(),
            len => read(engine, &engine.layout.data_outboard(&hash, no), len, buffers).ok()?,
        };
        Some(Scanned::Whole { hash, data, outboard, path: Some(path) })
    }
}

impl Item for OtherRow {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.hash.as_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.no.0.to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let hash = Hash::from_bytes(fields.array()?);
        Some(Self { hash, size: fields.u64()?, no: FileNo(fields.u64()?) })
    }
}

/// Reads a file that has exactly so many bytes. It is closed at once, and keeps no other from staying open.
fn read(engine: &Engine, path: &Path, len: u64, buffers: &Arc<Buffers>) -> io::Result<Bytes> {
    let file = engine.vfs.open(path, Access::Read)?;
    if file.stat()?.size != len {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    buffers.fill(len, |bytes| file.read_exact_at(bytes, 0))
}

pub(super) fn batches(
    store: FsStore,
    rows: Vec<Listing<OtherRow>>,
    buffers: Arc<Buffers>,
) -> impl Stream<Item = Result<Batch<Entry>>> + Send {
    let rows = stream::iter(rows).flat_map(Listing::boxed).boxed();
    stream::unfold(Some(rows), move |rest| {
        let (store, buffers) = (store.clone(), buffers.clone());
        async move {
            let mut rows = rest?;
            let (mut some, mut n_bytes) = (Vec::new(), 0_u64);
            while some.len() < MAX_BLOBS && n_bytes < MAX_BYTES {
                match rows.next().await {
                    None => break,
                    Some(Err(e)) => return Some((Err(e), None)),
                    Some(Ok(row)) => {
                        let n_known = if row.no == FileNo::NONE { UNKNOWN } else { 0 };
                        n_bytes = n_bytes.saturating_add(row.size.max(n_known));
                        some.push(row);
                    }
                }
            }
            (!some.is_empty()).then(|| (Ok(batch(store, some, buffers)), Some(rows)))
        }
    })
}

fn batch(store: FsStore, rows: Vec<OtherRow>, buffers: Arc<Buffers>) -> Batch<Entry> {
    let blobs = rows.into_iter().filter_map(move |row| {
        if let Err(e) = store.engine.state().check_readable() {
            return Some(Err(e));
        }
        let whole = row.whole(&store.engine, &buffers);
        whole.map_or_else(|| entry(&store, row.hash).transpose(), |whole| Some(Ok(whole)))
    });
    Batch::new(blobs)
}
