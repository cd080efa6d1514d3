//! Size claims that are wrong, and what becomes of them.

use std::io;

use bao_tree::{
    ChunkRanges,
    io::{BaoContentItem, Leaf, fsm::Outboard},
};
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobStatus, EntryStatus, Error, Export, ExportMode, Map, MapEntry,
    MapEntryMut, MapExt, MapMut, MapMutExt, Progress, ReadBlob, Store,
};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;
use proptest::prelude::*;

use super::{check_complete, check_present, present, whole};
use crate::{Outcome, Sample, Trial, case::group, chunks, error_of, write_items};

group! {
    "partial_batch_writer", for S: Store;
    two_sizes_same_hash_first_lie_does_not_block_truth,
    later_lies_do_not_lose_what_is_there,
    size_lie_smaller_then_true_size_extends,
    size_lie_larger_then_truth_truncates_file_and_outboard,
    lie_accepted_left_range_then_last_chunk_exposes_and_resets,
    writer_under_an_old_claim_gets_a_conflict_and_changes_nothing,
    verified_size_takes_no_other_claim,
    bytes_behind_what_a_claim_keeps_are_forgotten,
    parents_of_a_tree_of_another_height_are_forgotten,
    any_mix_of_claims_ends_in_the_truth,
}

/// The size of a blob whose first chunk group decodes under all of the lies: only the last chunk gives a lie away.
const TRUTH: usize = 99_081;
const LIES: [u64; 4] = [99_080, 99_082, 81_920, 131_072];

async fn finish<S: MapMut + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let missing = whole(sample) - present(store, sample.hash).await?;
    if !missing.is_empty() {
        sample.write(store, &missing).await?;
    }
    store.insert_complete(entry).await?;
    check_complete(store, sample).await
}

async fn two_sizes_same_hash_first_lie_does_not_block_truth<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, lie) in (0..).zip(LIES) {
        let sample = Sample::numbered(TRUTH, number);
        write_items(&store, sample.hash, lie, sample.items_as(lie, &chunks(0..16))).await?;
        if number % 2 == 1 {
            let entry = store.get_or_create(sample.hash, lie).await?;
            entry.batch_writer().await?.sync().await?;
        }
        assert_eq!(present(&store, sample.hash).await?, chunks(0..16));
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
        // What came under the lie was true, and stays.
        check_present(&store, &sample, &chunks(0..16)).await?;
        finish(&store, &sample).await?;
    }
    Ok(())
}

async fn later_lies_do_not_lose_what_is_there<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(TRUTH);
    sample.write(&store, &chunks(0..32)).await?;
    for lie in LIES {
        let entry = store.get_or_create(sample.hash, lie).await?;
        assert_eq!(entry.size(), BaoBlobSize::Unverified(lie));
        check_present(&store, &sample, &chunks(0..32)).await?;
    }
    finish(&store, &sample).await
}

async fn size_lie_smaller_then_true_size_extends<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    for (number, lie) in (0..).zip([1, 1024, 16_384, 81_920, 99_080]) {
        let sample = Sample::numbered(TRUTH, number);
        let entry = store.get_or_create(sample.hash, lie).await?;
        write_items(&store, sample.hash, lie, sample.items_as(lie, &chunks(0..16))).await?;
        let mut reader = entry.data_reader().await?;
        assert_eq!(reader.size().await?, lie);
        finish(&store, &sample).await?;
        // A reader that was opened under the lie sees what is there now.
        let bytes = reader.read_range(0, usize::MAX).await?;
        assert_eq!(bytes, sample.slice(0, bytes.len() as u64));
    }
    Ok(())
}

/// In the end there is no byte more than the truth has, to read or to export, and no hash.
async fn size_lie_larger_then_truth_truncates_file_and_outboard<S>(trial: &Trial<S>, store: S) -> Outcome
where
    S: MapMut + BlobStatus + Export,
{
    for (number, lie) in (0..).zip([99_082, 131_072, 4 << 20]) {
        let sample = Sample::numbered(TRUTH, number);
        let wrong = Leaf { offset: lie / 2048 * 1024, data: Bytes::from(vec![0xaa; 8 << 10]) };
        write_items(&store, sample.hash, lie, vec![wrong.into()]).await?;
        let entry = store.get_or_create(sample.hash, lie).await?;
        entry.batch_writer().await?.sync().await?;
        finish(&store, &sample).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        assert_eq!(reader.size().await?, sample.size());
        assert_eq!(reader.read_range(sample.size(), 1 << 20).await?, "");
        let target = trial.user(&number.to_string());
        store.export(sample.hash, target.clone(), ExportMode::Copy, Progress::none()).await?;
        assert_eq!(std::fs::read(target)?, sample.data);
    }
    Ok(())
}

async fn lie_accepted_left_range_then_last_chunk_exposes_and_resets<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, lie) in (0..).zip(LIES) {
        let sample = Sample::numbered(TRUTH, number);
        let part = chunks(0..16);
        store.import_bao(sample.hash, lie, part.clone(), sample.encode(&part)).await?;
        assert_eq!(present(&store, sample.hash).await?, part);
        // The last chunk of the truth, sent as that of the lie.
        let last = chunks(lie.div_ceil(1024) - 1..lie.div_ceil(1024));
        let exposed = store.import_bao(sample.hash, lie, last.clone(), sample.encode(&last)).await.map(drop);
        let is_exposed = match &exposed {
            Err(Error::Mismatch { hash, .. }) => *hash == sample.hash,
            Err(Error::Io { source, .. }) => source.kind() == io::ErrorKind::UnexpectedEof,
            _ => false,
        };
        assert!(is_exposed, "{exposed:?}");
        assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Unverified(lie));
        check_present(&store, &sample, &part).await?;
        let rest = whole(&sample) - part;
        store.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn writer_under_an_old_claim_gets_a_conflict_and_changes_nothing<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(TRUTH);
    sample.write(&store, &chunks(16..32)).await?;
    let entry = store.get_or_create(sample.hash, 81_920).await?;
    let mut stale = entry.batch_writer().await?;
    let there = present(&store, sample.hash).await?;
    store.get_or_create(sample.hash, sample.size()).await?;
    let error = error_of(stale.write_batch(81_920, sample.items_as(81_920, &chunks(0..16))).await);
    let Error::SizeConflict { hash, claimed, current } = error else { return Err(error.into()) };
    assert_eq!((hash, claimed, current), (sample.hash, 81_920, sample.size()));
    check_present(&store, &sample, &there).await?;
    // The same writer may go on under the new claim.
    stale.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
    check_present(&store, &sample, &(there | chunks(0..16))).await
}

async fn verified_size_takes_no_other_claim<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(TRUTH);
    sample.write(&store, &chunks(96..97)).await?;
    for lie in LIES.into_iter().chain([0, 1 << 40]) {
        let refused = store.get_or_create(sample.hash, lie).await.map(drop);
        let Err(Error::SizeConflict { hash, claimed, current }) = refused else {
            return Err(format!("{refused:?}").into());
        };
        assert_eq!((hash, claimed, current), (sample.hash, lie, sample.size()));
        let mut writer = store.get_or_create(sample.hash, sample.size()).await?.batch_writer().await?;
        let error = error_of(writer.write_batch(lie, sample.items_as(lie, &chunks(0..16))).await);
        assert!(matches!(error, Error::SizeConflict { .. }), "{error:?}");
    }
    assert_eq!(store.existing(sample.hash).await?.size(), BaoBlobSize::Verified(sample.size()));
    check_present(&store, &sample, &chunks(96..97)).await?;
    finish(&store, &sample).await
}

/// Old bytes that the new claim has no use for must not pass for written ones when the right ones come.
async fn bytes_behind_what_a_claim_keeps_are_forgotten<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for is_synced in [false, true] {
        let sample = Sample::numbered(18 * 1024 + 500, is_synced.into());
        let leaf = |offset, data| BaoContentItem::Leaf(Leaf { offset, data });
        let wrong = leaf(16 * 1024, Bytes::from(vec![0xaa; 3 * 1024]));
        write_items(&store, sample.hash, 20 * 1024, vec![wrong]).await?;
        if is_synced {
            let entry = store.get_or_create(sample.hash, 20 * 1024).await?;
            entry.batch_writer().await?.sync().await?;
        }
        let parents = sample.all_items().into_iter().filter(BaoContentItem::is_parent);
        let last = leaf(18 * 1024, sample.slice(18 * 1024, 500));
        write_items(&store, sample.hash, sample.size(), parents.chain([last]).collect()).await?;
        assert!(chunks(18..19).is_subset(&present(&store, sample.hash).await?));
        let read = store.read_range(sample.hash, 18 * 1024..u64::MAX).await?;
        assert_eq!(read, sample.slice(18 * 1024, 500));
    }
    Ok(())
}

async fn parents_of_a_tree_of_another_height_are_forgotten<S: MapMut>(_: &Trial<S>, store: S) -> Outcome {
    for is_synced in [false, true] {
        let sample = Sample::numbered(40_000, is_synced.into());
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        if is_synced {
            writer.sync().await?;
        }
        let mut outboard = store.get_or_create(sample.hash, 80_000).await?.outboard().await?;
        let zeros = ([0; 32].into(), [0; 32].into());
        for node in outboard.tree().pre_order_nodes_iter() {
            assert!(outboard.load(node).await?.is_none_or(|pair| pair == zeros));
        }
    }
    Ok(())
}

/// True ranges under the true size and under lies, mixed: nothing wrong is ever read, and the truth completes.
async fn any_mix_of_claims_ends_in_the_truth<S: MapMut + BlobStatus>(trial: &Trial<S>, store: S) -> Outcome {
    let claim = prop_oneof![1..200_000_u64, Just(0)];
    let steps = prop::collection::vec((claim, 0..140_u64, 1..40_u64, any::<bool>()), 0..8);
    let mut number = 0;
    trial
        .for_all(12, (1..140_000_usize, steps), async |(size, steps)| {
            number += 1;
            let sample = Sample::numbered(size, number);
            for (claim, start, len, is_synced) in steps {
                let claim = if claim == 0 { sample.size() } else { claim };
                let entry = match store.get_or_create(sample.hash, claim).await {
                    Err(Error::SizeConflict { .. }) => continue,
                    entry => entry?,
                };
                let mut writer = entry.batch_writer().await?;
                writer.write_batch(claim, sample.items_as(claim, &chunks(start..start + len))).await?;
                if is_synced {
                    writer.sync().await?;
                }
                assert!(!entry.size().is_verified() || claim == sample.size());
                check_bytes(&store, &sample).await?;
            }
            assert_ne!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
            sample.write(&store, &ChunkRanges::all()).await?;
            finish(&store, &sample).await
        })
        .await
}

/// Reads what is present in whole.
async fn check_bytes<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    let mut reader = store.existing(sample.hash).await?.data_reader().await?;
    for range in present(store, sample.hash).await?.boundaries().chunks(2) {
        let [start, end] = range else { return Err("a range without an end".into()) };
        let bytes = reader.read_range(start.0 * 1024, usize::try_from((end.0 - start.0) * 1024)?).await?;
        assert_eq!(bytes, sample.slice(start.0 * 1024, bytes.len() as u64));
    }
    Ok(())
}
