//! Batches that do not fit: refused as a whole, with nothing changed.

use bao_tree::{
    ChunkRanges,
    io::{BaoContentItem, Leaf, Parent},
};
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobStatus, EntryStatus, Error, InvalidBatch, MapEntry, MapEntryMut, MapExt,
    MapMut, ReadBlob, Store,
};
use bytes::Bytes;
use proptest::prelude::*;

use super::{check_complete, check_outboard, check_present, node, present, whole};
use crate::{Failure, Outcome, Sample, Trial, case::group, chunks, error_of};

group! {
    "partial_batch_writer", for S: Store;
    leaf_beyond_size_rejected_no_write,
    leaf_offset_plus_len_overflow_rejected,
    leaf_offset_not_chunk_aligned_rejected,
    leaf_that_ends_inside_a_chunk_rejected,
    parent_node_outside_tree_rejected,
    items_out_of_order_rejected,
    refused_batch_does_not_verify_the_size,
    any_batch_is_taken_or_changes_nothing,
}

fn leaf(offset: u64, len: usize) -> BaoContentItem {
    Leaf { offset, data: Bytes::from(vec![0xaa; len]) }.into()
}

fn parent(number: u64) -> BaoContentItem {
    Parent { node: node(number), pair: ([0xaa; 32].into(), [0xbb; 32].into()) }.into()
}

/// Puts a bad item behind good ones, and checks that the good ones do not come in either: not at once, and not with what
/// is written later.
async fn refused<S: MapMut + BlobStatus>(
    store: &S,
    number: u64,
    bad: BaoContentItem,
) -> Result<InvalidBatch, Failure> {
    let sample = Sample::numbered(100_000, number);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(sample.size(), sample.items(&chunks(0..1))).await?;
    if number % 2 == 1 {
        writer.sync().await?;
    }
    let mut batch = sample.items(&chunks(1..20));
    batch.push(bad);
    let error = error_of(writer.write_batch(sample.size(), batch).await);
    check_present(store, &sample, &chunks(0..1)).await?;
    assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
    writer.write_batch(sample.size(), sample.items(&chunks(1..20))).await?;
    check_present(store, &sample, &chunks(0..20)).await?;
    writer.write_batch(sample.size(), sample.all_items()).await?;
    check_present(store, &sample, &whole(&sample)).await?;
    check_outboard(&entry, &sample).await?;
    match error {
        Error::InvalidBatch { hash, reason } if hash == sample.hash => Ok(reason),
        other => Err(other.into()),
    }
}

async fn leaf_beyond_size_rejected_no_write<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    // The last chunk of this blob starts at 99,328 and has 672 bytes.
    let cases = [(99_328, 673), (99_328, 1024), (100_352, 1024), (1 << 40, 1024), (1 << 62, 64)];
    for (number, (offset, len)) in (0..).zip(cases) {
        let reason = refused(&store, number, leaf(offset, len)).await?;
        assert_eq!(reason, InvalidBatch::LeafBeyondSize { offset, len: len as u64 });
    }
    Ok(())
}

async fn leaf_offset_plus_len_overflow_rejected<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let cases = [(u64::MAX, 1), (u64::MAX - 1023, 1024), (u64::MAX - 1023, 1023), (u64::MAX - 1023, 4096)];
    for (number, (offset, len)) in (0..).zip(cases) {
        let reason = refused(&store, number, leaf(offset, len)).await?;
        assert_eq!(reason, InvalidBatch::LeafBeyondSize { offset, len: len as u64 });
    }
    Ok(())
}

async fn leaf_offset_not_chunk_aligned_rejected<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    for (number, offset) in (0..).zip([30_000, 30_721, 31_743]) {
        let reason = refused(&store, number, leaf(offset, 1024)).await?;
        assert_eq!(reason, InvalidBatch::LeafMisaligned { offset, len: 1024 });
    }
    Ok(())
}

async fn leaf_that_ends_inside_a_chunk_rejected<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    for (number, len) in (0..).zip([1, 1000, 1023, 1025]) {
        let reason = refused(&store, number, leaf(30_720, len)).await?;
        assert_eq!(reason, InvalidBatch::LeafMisaligned { offset: 30_720, len: len as u64 });
    }
    Ok(())
}

async fn parent_node_outside_tree_rejected<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    // A tree over 98 chunks has the nodes 0 to 96.
    let cases = [97, 111, 127, 1 << 40, u64::MAX >> 1, u64::MAX - 1, u64::MAX];
    for (number, node) in (0..).zip(cases) {
        let reason = refused(&store, number, parent(node)).await?;
        assert_eq!(reason, InvalidBatch::ParentOutsideTree { node });
    }
    Ok(())
}

async fn items_out_of_order_rejected<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    // A leaf before the others, one that overlaps the last, and the root after what is below it.
    let cases = [leaf(0, 1024), leaf(19 * 1024, 1024), parent(63)];
    for (number, bad) in (0..).zip(cases) {
        assert_eq!(refused(&store, number, bad).await?, InvalidBatch::OutOfOrder);
    }
    Ok(())
}

/// Also when the good part of it has the last chunk.
async fn refused_batch_does_not_verify_the_size<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    let mut batch = sample.all_items();
    batch.push(leaf(1 << 20, 1024));
    assert!(matches!(error_of(writer.write_batch(sample.size(), batch).await), Error::InvalidBatch { .. }));
    assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
    assert!(matches!(store.insert_complete(entry.clone()).await, Err(Error::SizeUnverified { .. })));
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
    check_present(&store, &sample, &ChunkRanges::empty()).await?;
    writer.write_batch(sample.size(), sample.all_items()).await?;
    store.insert_complete(entry).await?;
    check_complete(&store, &sample).await
}

fn item() -> impl Strategy<Value = BaoContentItem> {
    prop_oneof![
        any::<u64>().prop_map(parent),
        (0..130_u64).prop_map(parent),
        (any::<u64>(), 0..3000_usize).prop_map(|(offset, len)| leaf(offset, len)),
        (0..120_u64, 0..4_usize).prop_map(|(start, len)| leaf(start * 1024, len * 1024)),
    ]
}

/// Never a panic, never a number that overflows: what is read back are the bytes that were written.
async fn any_batch_is_taken_or_changes_nothing<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let claim = prop_oneof![2000..120_000_u64, 2000..(1_u64 << 62), any::<u64>(), Just(u64::MAX)];
    let batches = prop::collection::vec(prop::collection::vec(item(), 0..5), 0..5);
    let mut number = 0_u64;
    trial
        .for_all(24, (claim, batches), async |(claim, batches)| {
            number += 1;
            let hash = blob_traits::Hash::new(number.to_le_bytes());
            let entry = match store.get_or_create(hash, claim).await {
                Err(Error::TooLarge { .. }) => return Ok(()),
                entry => entry?,
            };
            let (mut writer, mut reader) = (entry.batch_writer().await?, entry.data_reader().await?);
            for batch in batches {
                let before = present(&store, hash).await?;
                if writer.write_batch(claim, batch).await.is_err() {
                    assert_eq!(present(&store, hash).await?, before);
                }
                if let Ok(bytes) = reader.read_range(0, 1 << 20).await {
                    assert!(bytes.iter().all(|byte| *byte == 0xaa));
                }
                assert!(store.insert_complete(entry.clone()).await.is_err());
            }
            assert_eq!(store.existing(hash).await?.size().value(), claim);
            Ok(())
        })
        .await
}
