//! Writing blobs piece by piece.

pub mod claims;
pub mod complete;
pub mod handles;
pub mod hostile;
pub mod huge;
mod model;
pub mod reopen;
pub mod streams;
pub mod writing;

use bao_tree::{ChunkNum, ChunkRanges, TreeNode, io::fsm::Outboard, io::sync};
use blob_traits::{BlobStatus, Error, Hash, Map, MapEntry, MapExt, ReadBlob, Store};

use crate::{Group, Outcome, Sample, chunks, error_of};

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    handles::group()
        .and(writing::group())
        .and(complete::group())
        .and(reopen::group())
        .and(hostile::group())
        .and(claims::group())
        .and(huge::group())
        .and(streams::group())
}

/// The chunks that are present of a blob, none if the store does not know it.
pub(super) async fn present<S: BlobStatus>(store: &S, hash: Hash) -> blob_traits::Result<ChunkRanges> {
    Ok(store.present_ranges(&hash).await?.unwrap_or_default())
}

/// All chunks of a blob.
fn whole(sample: &Sample) -> ChunkRanges {
    chunks(0..sample.n_chunks())
}

/// What a part of a blob is answered with: the last chunk where it reaches beyond the end.
fn answered(part: &ChunkRanges, sample: &Sample) -> ChunkRanges {
    let (within, last) = (part & whole(sample), chunks(sample.n_chunks() - 1..sample.n_chunks()));
    if within == *part { within } else { within | last }
}

/// Reads each chunk by itself: it is the blob's where it should be there, and said to be missing where not. Behind the
/// end by the current claim there is nothing to miss.
async fn check_reads<S: Map>(store: &S, sample: &Sample, expected: &ChunkRanges) -> Outcome {
    let entry = store.existing(sample.hash).await?;
    let mut reader = entry.data_reader().await?;
    for chunk in 0..sample.n_chunks().min(entry.size().value().div_ceil(1024)) {
        let read = reader.read_range(chunk * 1024, 1024).await;
        if expected.contains(&ChunkNum(chunk)) {
            assert_eq!(read?, sample.slice(chunk * 1024, 1024), "chunk {chunk}");
        } else {
            let error = error_of(read);
            assert!(matches!(error, Error::Incomplete { hash, .. } if hash == sample.hash), "{error:?}");
        }
    }
    Ok(())
}

/// Checks that what is present is exactly this, by the record and by reading.
async fn check_present<S: Map + BlobStatus>(store: &S, sample: &Sample, expected: &ChunkRanges) -> Outcome {
    assert_eq!(present(store, sample.hash).await?, *expected);
    check_reads(store, sample, expected).await
}

/// Checks that a whole blob is there, complete, with its tree.
async fn check_complete<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    assert_eq!(store.entry_status(&sample.hash).await?, blob_traits::EntryStatus::Complete);
    assert_eq!(present(store, sample.hash).await?, whole(sample));
    let entry = store.existing(sample.hash).await?;
    assert!(entry.is_complete());
    assert_eq!(entry.size(), blob_traits::BaoBlobSize::Verified(sample.size()));
    assert_eq!(store.read_to_bytes(sample.hash).await?, sample.data);
    assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
    check_outboard(&entry, sample).await
}

async fn check_outboard(entry: &impl MapEntry, sample: &Sample) -> Outcome {
    let mut outboard = entry.outboard().await?;
    assert_eq!(outboard.tree().size(), sample.size());
    for node in outboard.tree().pre_order_nodes_iter() {
        assert_eq!(outboard.load(node).await?, sync::Outboard::load(&sample.outboard, node)?);
    }
    Ok(())
}

/// A node of a hash tree, by bao-tree's number; any number will do.
fn node(number: u64) -> TreeNode {
    serde_json::from_str(&number.to_string()).expect("it is the number in its serialized form")
}
