//! Copying what is sound.

use std::{io::ErrorKind, ops::Range};

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::{Error, Result, tree::read_groups};
use futures_lite::future::block_on;

use super::pairs::{Pairs, Proof};
use crate::{reference::Raw, vfs::FileRef};

/// How much is read with one proof, in chunks.
const AT_ONCE: u64 = 256;
const GROUP: u64 = 16;
/// How much is copied at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Copies those of some chunks that verify, and says which these are. Others may write to the file at the same time: what
/// is verified is what is copied.
pub(super) fn copy_sound(
    from: &FileRef,
    to: &FileRef,
    pairs: &mut Pairs<'_>,
    size: u64,
    wanted: &ChunkRanges,
) -> Result<ChunkRanges> {
    let copy = |offset, group: &[u8]| {
        to.write_all_at(group, offset).map_err(|e| Error::io("write a partial blob", "", e))
    };
    Proving { from, pairs, size, sink: copy }.prove(wanted)
}

/// Says which chunks verify.
pub(super) fn find_sound(from: &FileRef, pairs: &mut Pairs<'_>, size: u64) -> Result<ChunkRanges> {
    Proving { from, pairs, size, sink: |_, _: &[u8]| Ok(()) }.prove(&ChunkRanges::all())
}

struct Proving<'a, 'b, F> {
    from: &'a FileRef,
    pairs: &'a mut Pairs<'b>,
    size: u64,
    sink: F,
}

impl<F: FnMut(u64, &[u8]) -> Result<()>> Proving<'_, '_, F> {
    fn prove(&mut self, wanted: &ChunkRanges) -> Result<ChunkRanges> {
        let mut proved = ChunkRanges::empty();
        for piece in pieces(wanted, self.size, AT_ONCE) {
            if self.proves(&piece)? {
                proved |= piece;
                continue;
            }
            for group in pieces(&piece, self.size, GROUP) {
                if self.proves(&group)? {
                    proved |= group;
                }
            }
        }
        Ok(proved)
    }

    /// `false`: not all of these groups is there and verifies.
    fn proves(&mut self, ranges: &ChunkRanges) -> Result<bool> {
        let mut raw = Raw { file: self.from.clone(), size: self.size };
        let mut proof = Proof::new(self.pairs, self.size);
        let sink = &mut self.sink;
        let read = read_groups(&mut proof, &mut raw, ranges.clone(), |offset, group| sink(offset, &group));
        match block_on(read) {
            Ok(()) => Ok(true),
            Err(Error::Mismatch { .. } | Error::Damaged { .. }) => Ok(false),
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }
}

/// Cuts ranges of a blob at multiples of `len` chunks.
fn pieces(ranges: &ChunkRanges, size: u64, len: u64) -> impl Iterator<Item = ChunkRanges> {
    let n_chunks = size.div_ceil(1024);
    let runs = ranges.boundaries().chunks(2).map(move |run| {
        let start = run.first().map_or(n_chunks, |chunk| chunk.0);
        start..run.get(1).map_or(n_chunks, |chunk| chunk.0.min(n_chunks))
    });
    runs.flat_map(move |Range { mut start, end }| {
        std::iter::from_fn(move || {
            let next = (start / len + 1).saturating_mul(len).min(end);
            let piece = (start < end).then(|| ChunkRanges::from(ChunkNum(start)..ChunkNum(next)));
            start = next.max(start);
            piece
        })
    })
}

/// Copies what can be read of some chunks, as it is.
pub(super) fn copy_raw(from: &FileRef, to: &FileRef, size: u64, chunks: &ChunkRanges) -> Result<()> {
    let mut buffer = vec![0; 16 << 10];
    for piece in pieces(chunks, size, GROUP) {
        let [start, end] = piece.boundaries() else { continue };
        let (start, end) = (start.to_bytes(), end.to_bytes().min(size));
        let len = usize::try_from(end - start).unwrap_or(0);
        let n = buffer.get_mut(..len).and_then(|bytes| from.read_at(bytes, start).ok()).unwrap_or(0);
        let read = buffer.get(..n).unwrap_or_default();
        to.write_all_at(read, start).map_err(|e| Error::io("write a partial blob", "", e))?;
    }
    Ok(())
}

/// Copies a whole file of ours, and makes that durable.
pub(crate) fn copy_all(from: &FileRef, to: &FileRef) -> Result<()> {
    let (mut buffer, mut offset) = (vec![0; PIECE], 0);
    loop {
        let n = from.read_at(&mut buffer, offset).map_err(|e| Error::io("read a partial blob", "", e))?;
        let piece = buffer.get(..n).unwrap_or_default();
        if piece.is_empty() {
            return to.sync_data().map_err(|e| Error::io("sync a partial blob", "", e));
        }
        to.write_all_at(piece, offset).map_err(|e| Error::io("write a partial blob", "", e))?;
        offset += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_multiples_and_with_the_blob() {
        let range = |from, to| ChunkRanges::from(ChunkNum(from)..ChunkNum(to));
        let cut = |ranges: &ChunkRanges, size| pieces(ranges, size, 16).collect::<Vec<_>>();
        assert_eq!(cut(&ChunkRanges::all(), 40_000), [range(0, 16), range(16, 32), range(32, 40)]);
        assert_eq!(
            cut(&(range(3, 17) | range(60, 80)), 70_000),
            [range(3, 16), range(16, 17), range(60, 64), range(64, 69)]
        );
        assert!(cut(&ChunkRanges::empty(), 40_000).is_empty());
    }
}
