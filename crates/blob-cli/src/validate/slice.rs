//! What `bao encode` wrote as a source: the wanted part of the stream is cut out while it is read.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use blob_traits::{
    BLOCK_SIZE, Error, ErrorInfo, Hash,
    bao_tree::{
        BaoTree, ChunkNum, ChunkRanges,
        io::{
            BaoContentItem,
            fsm::{ResponseDecoder, ResponseDecoderNext},
        },
    },
    blocking::unblock,
};
use blob_validate::{BaoStream, Source};
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use tokio_util::io::StreamReader;

use crate::{
    bao::{Blocking, chunks},
    exit::Failure,
    get::within,
    output::shown_path,
    range::ByteRange,
};

type Input = Blocking<BufReader<File>>;

/// Opens a file with the stream of these ranges of a blob.
///
/// # Errors
/// [`Failure::CutOff`] where there is not even a size in it, and those of the system.
pub(super) async fn open(hash: Hash, ranges: &[ByteRange], path: &Path) -> Result<Source, Failure> {
    let file = path.to_owned();
    let (size, _) = unblock(move || begin(&file)).await.map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => Failure::CutOff,
        error => error.into(),
    })?;
    let encoded = chunks(&within(ranges, hash, size)?);
    // Where it is meant to have everything, it is to be noticed that it is of another size.
    let has = if ranges == [ByteRange::ALL] { ChunkRanges::all() } else { whole_groups(&encoded, size) };
    let path = path.to_owned();
    let source = Source::stream(shown_path(&path), move |hash, its_size, wanted| {
        let (path, encoded) = (path.clone(), encoded.clone());
        async move {
            if its_size != size {
                return Err(Error::SizeConflict { hash, claimed: size, current: its_size });
            }
            let (_, input) = unblock(move || begin(&path)).await?;
            Ok(Some(cut_out(hash, size, encoded, wanted, input)))
        }
    });
    Ok(source.only(hash, has))
}

/// Opens the file and reads the size before the stream. Blocks.
fn begin(path: &PathBuf) -> Result<(u64, Input), Error> {
    let failed = |e| Error::io("read", path, e);
    let mut input = BufReader::with_capacity(256 << 10, File::open(path).map_err(failed)?);
    let mut size = [0; 8];
    input.read_exact(&mut size).map_err(failed)?;
    Ok((u64::from_le_bytes(size), Blocking(input)))
}

/// Returns the stream of the wanted chunks, whole groups all of them, out of that of more. Reading it blocks, which whoever
/// takes streams in expects.
fn cut_out(hash: Hash, size: u64, encoded: ChunkRanges, wanted: ChunkRanges, input: Input) -> BaoStream {
    let decoder = ResponseDecoder::new(hash.into(), encoded, BaoTree::new(size, BLOCK_SIZE), input);
    let pieces = stream::unfold(Some((decoder, wanted)), move |state| async move {
        let (mut decoder, wanted) = state?;
        loop {
            match decoder.next().await {
                ResponseDecoderNext::More((next, Ok(item))) => {
                    decoder = next;
                    if let Some(bytes) = encoded_if(&wanted, item) {
                        return Some((Ok(bytes), Some((decoder, wanted))));
                    }
                }
                ResponseDecoderNext::More((_, Err(e))) => return Some((Err(blame(hash, e)), None)),
                ResponseDecoderNext::Done(_) => return None,
            }
        }
    });
    Box::new(StreamReader::new(pieces.boxed()))
}

/// An item as it is in the stream of the wanted chunks, if it is.
fn encoded_if(wanted: &ChunkRanges, item: BaoContentItem) -> Option<Bytes> {
    match item {
        BaoContentItem::Leaf(leaf) => {
            wanted.contains(&ChunkNum::full_chunks(leaf.offset)).then_some(leaf.data)
        }
        // Those below are of a group of which a part was encoded: that is none of the wanted ones.
        BaoContentItem::Parent(parent) if parent.node.level() >= u32::from(BLOCK_SIZE.chunk_log()) => {
            let is_above = !(wanted & &ChunkRanges::from(parent.node.chunk_range())).is_empty();
            let (left, right) = parent.pair;
            is_above.then(|| Bytes::from([*left.as_bytes(), *right.as_bytes()].concat()))
        }
        BaoContentItem::Parent(_) => None,
    }
}

fn blame(hash: Hash, error: blob_traits::bao_tree::io::DecodeError) -> io::Error {
    match Error::decode(hash, error) {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            io::Error::other("the stream is cut off")
        }
        error => io::Error::other(ErrorInfo::from(&error).message),
    }
}

/// The chunk groups of which all chunks are there.
fn whole_groups(ranges: &ChunkRanges, size: u64) -> ChunkRanges {
    let n_chunks = BaoTree::new(size, BLOCK_SIZE).chunks();
    let group = BLOCK_SIZE.chunk_log();
    let up = |chunk: ChunkNum| ChunkNum(chunk.0.div_ceil(1 << group) << group);
    let mut whole = ChunkRanges::empty();
    for bounds in (ranges & &ChunkRanges::from(..n_chunks)).boundaries().chunks_exact(2) {
        let [start, end] = bounds else { continue };
        let end = if *end == n_chunks { *end } else { ChunkNum(end.0 >> group << group) };
        if up(*start) < end {
            whole |= ChunkRanges::from(up(*start)..end);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_are_there_whole_count() {
        let chunks = |from, to| ChunkRanges::from(ChunkNum(from)..ChunkNum(to));
        let size = 100 * 1024 - 5;
        assert_eq!(whole_groups(&ChunkRanges::all(), size), chunks(0, 100));
        assert_eq!(whole_groups(&chunks(0, 15), size), ChunkRanges::empty());
        assert_eq!(whole_groups(&chunks(1, 33), size), chunks(16, 32));
        assert_eq!(whole_groups(&chunks(96, 100), size), chunks(96, 100));
        assert_eq!(whole_groups(&chunks(97, 100), size), ChunkRanges::empty());
        assert_eq!(whole_groups(&(chunks(0, 16) | chunks(30, 64)), size), chunks(0, 16) | chunks(32, 64));
    }
}
