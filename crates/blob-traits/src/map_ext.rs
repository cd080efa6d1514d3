//! Conveniences over looking up: reading, encoding, verifying.

use std::{future::Future, io, ops::Range};

use bao_tree::{
    ByteRanges, ChunkRanges,
    io::{fsm, round_up_to_chunks},
};
use bytes::{Bytes, BytesMut};
use futures_lite::StreamExt;
use iroh_io::{AsyncSliceReader, AsyncStreamWriter};

use crate::{
    BLOCK_SIZE, BlobReader, Error, Hash, Map, MapEntry, ReadBlob, Result, blocking::on_blocking_pool,
    verified::read_groups,
};

/// Conveniences for [`Map`].
pub trait MapExt: Map {
    /// Returns a handle to a blob that must be there.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    fn existing(&self, hash: Hash) -> impl Future<Output = Result<Self::Entry>> + Send {
        async move { self.get(&hash).await?.ok_or(Error::NotFound { hash }) }
    }

    /// Reads a whole blob into memory.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Incomplete`].
    fn read_to_bytes(&self, hash: Hash) -> impl Future<Output = Result<Bytes>> + Send {
        self.read_range(hash, 0..u64::MAX)
    }

    /// Reads the bytes of a range, less where the blob ends earlier.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Incomplete`] when bytes of the range are missing.
    fn read_range(&self, hash: Hash, range: Range<u64>) -> impl Future<Output = Result<Bytes>> + Send {
        async move {
            let entry = self.existing(hash).await?;
            let end = range.end.min(entry.size().value());
            let len = usize::try_from(end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            Ok(entry.data_reader().await?.read_range(range.start, len).await?)
        }
    }

    /// Reads the bytes of a range and proves them: each chunk group that the range touches is hashed and checked
    /// against the root. Less where the blob ends earlier.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Incomplete`] when a group is missing, [`Error::Mismatch`] when one is damaged.
    fn read_verified(&self, hash: Hash, range: Range<u64>) -> impl Future<Output = Result<Bytes>> + Send {
        async move {
            let entry = self.existing(hash).await?;
            on_blocking_pool(move || async move {
                let range = range.start..range.end.min(entry.size().value());
                let mut out = BytesMut::new();
                if range.is_empty() {
                    return Ok(out.freeze());
                }
                let (mut outboard, mut reader) = (entry.outboard().await?, entry.data_reader().await?);
                let chunks = round_up_to_chunks(&ByteRanges::from(range.clone()));
                let proved = read_groups(&mut outboard, &mut reader, chunks, |offset, group| {
                    let from = to_index(range.start.saturating_sub(offset)).min(group.len());
                    let to = to_index(range.end.saturating_sub(offset)).min(group.len());
                    out.extend_from_slice(group.get(from..to).unwrap_or_default());
                    Ok(())
                })
                .await;
                match proved {
                    Ok(()) => Ok(out.freeze()),
                    Err(e) => Err(rather_incomplete(&entry, &ByteRanges::from(range), e).await),
                }
            })
            .await
        }
    }

    /// Opens a blob as something that can be read and sought in like a file.
    ///
    /// # Errors
    /// [`Error::NotFound`]; reads of missing bytes fail with [`Error::Incomplete`].
    fn reader(
        &self,
        hash: Hash,
    ) -> impl Future<Output = Result<BlobReader<<Self::Entry as MapEntry>::DataReader>>> + Send {
        async move {
            let entry = self.existing(hash).await?;
            Ok(BlobReader::new(entry.data_reader().await?, entry.size().value()))
        }
    }

    /// Writes the verified stream of a range set (parents and leaves in pre-order, without a size prefix), as
    /// [`import_bao`](crate::MapMutExt::import_bao) and every other bao-tree peer reads it. Every item is checked
    /// before it is written. Returns the writer.
    ///
    /// Dropping the future ends the work at the writer's next wait.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Incomplete`] and [`Error::Mismatch`] at the first group that is missing or
    /// damaged; what was written before is valid.
    fn export_bao<W: AsyncStreamWriter + Send + 'static>(
        &self,
        hash: Hash,
        ranges: ChunkRanges,
        mut writer: W,
    ) -> impl Future<Output = Result<W>> + Send {
        async move {
            let entry = self.existing(hash).await?;
            on_blocking_pool(move || async move {
                let (outboard, reader) = (entry.outboard().await?, entry.data_reader().await?);
                match fsm::encode_ranges_validated(reader, outboard, &ranges, &mut writer).await {
                    Ok(()) => Ok(writer),
                    Err(e) => {
                        Err(rather_incomplete(&entry, &to_bytes(&ranges), Error::encode(hash, e)).await)
                    }
                }
            })
            .await
        }
    }

    /// Recomputes which chunk groups of a blob verify, by hashing all that is there; `None` for an absent blob.
    ///
    /// For a large blob this takes as long as reading it does.
    fn verified_ranges(&self, hash: Hash) -> impl Future<Output = Result<Option<ChunkRanges>>> + Send {
        async move {
            let Some(entry) = self.get(&hash).await? else { return Ok(None) };
            on_blocking_pool(move || async move {
                let (outboard, reader) = (entry.outboard().await?, Lenient(entry.data_reader().await?));
                let all = ChunkRanges::all();
                let mut valid = ChunkRanges::empty();
                let mut found = std::pin::pin!(fsm::valid_ranges(outboard, reader, &all));
                while let Some(range) = found.next().await {
                    valid |= ChunkRanges::from(range?);
                }
                Ok(Some(valid))
            })
            .await
        }
    }
}

impl<T: Map> MapExt for T {}

/// Reads what cannot be the blob's bytes as if nothing were there.
struct Lenient<R>(R);

impl<R: ReadBlob> AsyncSliceReader for Lenient<R> {
    async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.read_at(offset, len).await.map_err(|e| match Error::from(e) {
            Error::Changed { .. } | Error::Damaged { .. } => io::ErrorKind::UnexpectedEof.into(),
            other => other.into(),
        })
    }

    async fn size(&mut self) -> io::Result<u64> {
        self.0.size().await
    }
}

/// A hash tree of which a part is missing does not verify either: what does not verify in a partial blob is looked at
/// again, and said to be missing where it is.
async fn rather_incomplete<E: MapEntry>(entry: &E, ranges: &ByteRanges, error: Error) -> Error {
    if entry.is_complete() || !matches!(error, Error::Mismatch { .. }) {
        return error;
    }
    let Ok(mut reader) = entry.data_reader().await else { return error };
    let size = entry.size().value();
    for bounds in ranges.boundaries().chunks(2) {
        let (mut at, end) = match bounds {
            [start, end] => (*start, size.min(*end)),
            [start] => (*start, size),
            _ => continue,
        };
        // What is read with proof, or encoded, needs whole chunk groups.
        at -= at % GROUP;
        let end = end.checked_next_multiple_of(GROUP).unwrap_or(end).min(size);
        while at < end {
            let len = usize::try_from(end - at).unwrap_or(LOOK).min(LOOK);
            if let Err(missing) = reader.read_range(at, len).await {
                return missing.into();
            }
            at += len as u64;
        }
    }
    error
}

/// How much of a partial blob is looked at in one go.
const LOOK: usize = 1 << 20;
/// The bytes of a chunk group.
const GROUP: u64 = 1024 << BLOCK_SIZE.chunk_log();

fn to_bytes(ranges: &ChunkRanges) -> ByteRanges {
    let bytes = ranges.boundaries().iter().map(|chunk| chunk.0.saturating_mul(1024));
    ByteRanges::new(bytes.collect()).unwrap_or_else(ByteRanges::all)
}

fn to_index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
