//! Reading what a hash sequence lists, with proof.

use bao_tree::ChunkRanges;
use blob_traits::{BlobStatus, Error, Hash, Map, MapEntry, Result, tree::read_groups};
use futures_lite::future::yield_now;

/// How much of a sequence is read before a dropped future is noticed: 16 chunk groups, 8,192 children.
const CHUNKS_AT_ONCE: u64 = 256;
const CHUNKS_IN_GROUP: u64 = 16;
const HASH_LEN: u64 = 32;

/// What became of reading a sequence.
#[derive(Debug)]
pub(crate) struct Read {
    /// So many children could be read.
    pub(crate) n_children: u64,
    pub(crate) outcome: ReadOutcome,
}

#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// It was read as a whole.
    All,
    /// It is not complete yet.
    Part,
    /// It is not there.
    Missing,
    /// It is complete, and its length is not that of a sequence.
    Malformed { size: u64 },
    /// Not all that is there can be read, or it is complete and damaged, or it was until it was demoted.
    Unreadable(Error),
}

/// Hands every child of a hash sequence that can be read and verified to `sink`, also beyond damage.
///
/// # Errors
/// Those of looking the blob up. What goes wrong with the blob itself is in the answer.
pub(crate) async fn read_children<S: Map + BlobStatus>(
    store: &S,
    hash: Hash,
    mut sink: impl FnMut(Hash),
) -> Result<Read> {
    let Some(entry) = store.get(&hash).await? else {
        return Ok(Read { n_children: 0, outcome: ReadOutcome::Missing });
    };
    let mut n_children = 0;
    let mut take = |bytes: &[u8]| {
        let (children, _) = bytes.as_chunks();
        n_children += children.len() as u64;
        for child in children {
            sink(Hash::from_bytes(*child));
        }
    };
    let size = entry.size().value();
    let is_complete = entry.is_complete();
    let present = if is_complete {
        ChunkRanges::all()
    } else {
        store.present_ranges(&hash).await?.unwrap_or_else(ChunkRanges::empty)
    };
    let (mut damaged, mut failed) = (None, None);
    for range in pieces(&present, size, CHUNKS_AT_ONCE) {
        if read_piece(&entry, range.clone(), &mut take).await.is_err() {
            // Those around the group that does not verify count. Some come a second time, which does no harm.
            for group in pieces(&range, size, CHUNKS_IN_GROUP) {
                if let Err(error) = read_piece(&entry, group, &mut take).await {
                    let first = if is_damage(&error) { &mut damaged } else { &mut failed };
                    first.get_or_insert(error);
                }
            }
        }
        yield_now().await;
    }
    let outcome = match (failed, damaged) {
        // What could not be read this time may list anything.
        (Some(error), _) => ReadOutcome::Unreadable(error),
        // Those who hold its children for this sequence's sake had all of it.
        _ if !is_complete && store.was_demoted(&hash).await? => ReadOutcome::Unreadable(demoted(hash)),
        _ if !is_complete => ReadOutcome::Part,
        (None, Some(error)) => ReadOutcome::Unreadable(error),
        (None, None) if size % HASH_LEN != 0 => ReadOutcome::Malformed { size },
        (None, None) => ReadOutcome::All,
    };
    Ok(Read { n_children, outcome })
}

fn demoted(hash: Hash) -> Error {
    let what = "it was found damaged and made partial, and what its lost part lists is not known; complete it from \
                another source, or drop its tags";
    Error::Damaged { hash, what: what.to_owned() }
}

/// Whether reading again would not help: of a partial sequence, such bytes count as not there.
fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Mismatch { .. } | Error::Incomplete { .. } | Error::Damaged { .. } | Error::NotFound { .. }
    )
}

async fn read_piece(entry: &impl MapEntry, range: ChunkRanges, take: &mut impl FnMut(&[u8])) -> Result<()> {
    let (mut outboard, mut reader) = (entry.outboard().await?, entry.data_reader().await?);
    read_groups(&mut outboard, &mut reader, range, |_, bytes| {
        take(&bytes);
        Ok(())
    })
    .await
}

/// Cuts ranges of a blob into pieces of whole chunk groups, at most `len` chunks each.
fn pieces(ranges: &ChunkRanges, size: u64, len: u64) -> Vec<ChunkRanges> {
    let end = size.div_ceil(1024);
    let mut pieces = Vec::new();
    for bounds in ranges.boundaries().chunks(2) {
        let (mut at, end) = match bounds {
            [from, to] => (from.0, to.0.min(end)),
            [from] => (from.0, end),
            _ => continue,
        };
        while at < end {
            // Up to a multiple of `len`, so that a group is never read in two pieces.
            let next = (at / len + 1).saturating_mul(len).min(end);
            pieces.push(ChunkRanges::from(bao_tree::ChunkNum(at)..bao_tree::ChunkNum(next)));
            at = next;
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use bao_tree::ChunkNum;

    use super::*;

    #[test]
    fn pieces_are_whole_groups_within_the_blob() {
        let range = |from, to| ChunkRanges::from(ChunkNum(from)..ChunkNum(to));
        assert_eq!(pieces(&ChunkRanges::all(), 40_000, 16), [range(0, 16), range(16, 32), range(32, 40)]);
        assert_eq!(
            pieces(&(range(16, 48) | range(64, 80)), 70_000, 32),
            [range(16, 32), range(32, 48), range(64, 69)]
        );
        assert!(pieces(&ChunkRanges::all(), 0, 16).is_empty());
    }
}
