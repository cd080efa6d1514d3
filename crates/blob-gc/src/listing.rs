//! All blobs of a store, and how much there is of each.

use blob_traits::{
    BlobStatus, BoxStream, EntryStatus, Hash, ListBlobs, Map, MapEntry, Result, bao_tree::ChunkRanges,
};
use futures_lite::StreamExt;

/// Complete and partial blobs in one ascending order, each once.
pub(crate) struct AllBlobs {
    complete: BoxStream<Hash>,
    partial: BoxStream<Hash>,
    next_complete: Option<Hash>,
    next_partial: Option<Hash>,
}

impl AllBlobs {
    pub(crate) async fn of(store: &impl ListBlobs) -> Result<Self> {
        let (mut complete, mut partial) = (store.blobs().await?, store.partial_blobs().await?);
        let next_complete = complete.next().await.transpose()?;
        let next_partial = partial.next().await.transpose()?;
        Ok(Self { complete, partial, next_complete, next_partial })
    }

    pub(crate) async fn next(&mut self) -> Result<Option<Hash>> {
        let Some(next) = [self.next_complete, self.next_partial].into_iter().flatten().min() else {
            return Ok(None);
        };
        // A blob that became complete between the two listings is in both.
        if self.next_complete == Some(next) {
            self.next_complete = self.complete.next().await.transpose()?;
        }
        if self.next_partial == Some(next) {
            self.next_partial = self.partial.next().await.transpose()?;
        }
        Ok(Some(next))
    }
}

/// Tells how many bytes of a blob are there, whatever size a partial one claims to have; `None` for one that is not there.
pub(crate) async fn weigh<S: Map + BlobStatus>(store: &S, hash: &Hash) -> Result<Option<(EntryStatus, u64)>> {
    let Some(entry) = store.get(hash).await? else { return Ok(None) };
    let size = entry.size().value();
    if entry.is_complete() {
        return Ok(Some((EntryStatus::Complete, size)));
    }
    let Some(present) = store.present_ranges(hash).await? else { return Ok(None) };
    Ok(Some((EntryStatus::Partial, n_bytes(&present, size))))
}

/// How many bytes of a blob of this size some of its chunks have.
fn n_bytes(chunks: &ChunkRanges, size: u64) -> u64 {
    let ends: Vec<u64> = chunks.boundaries().iter().map(|chunk| chunk.to_bytes().min(size)).collect();
    let len = |range: &[u64]| range.get(1).unwrap_or(&size) - range.first().unwrap_or(&size);
    ends.chunks(2).map(len).sum()
}

#[cfg(test)]
mod tests {
    use blob_traits::bao_tree::ChunkNum;

    use super::*;

    #[test]
    fn bytes_are_counted_up_to_the_end_of_the_blob() {
        let range = |from, to| ChunkRanges::from(ChunkNum(from)..ChunkNum(to));
        assert_eq!(n_bytes(&ChunkRanges::empty(), 5000), 0);
        assert_eq!(n_bytes(&ChunkRanges::all(), 5000), 5000);
        assert_eq!(n_bytes(&(range(0, 2) | range(4, 16)), 5000), 2048 + 5000 - 4096);
        assert_eq!(n_bytes(&ChunkRanges::from(ChunkNum(1)..), 5000), 5000 - 1024);
        assert_eq!(n_bytes(&ChunkRanges::from(ChunkNum(9)..), 5000), 0);
    }
}
