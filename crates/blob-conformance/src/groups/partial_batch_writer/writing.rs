//! Batches, and what is present after them.

use bao_tree::{ChunkNum, ChunkRanges, io::BaoContentItem};
use blob_traits::{
    BaoBatchWriter, BlobStatus, Error, MapEntry, MapEntryMut, MapExt, MapMut, MapMutExt, ReadBlob, Store,
};
use iroh_io::AsyncSliceReader;
use proptest::prelude::*;

use super::{answered, check_complete, check_outboard, check_present, model::Model, present, whole};
use crate::{Dice, Outcome, Sample, Trial, case::group, chunks, error_of, group_ranges, write_items};

group! {
    "partial_batch_writer", for S: Store;
    write_batch_single_leaf_then_read_back,
    write_batch_all_orders_permuted_ranges_same_final_state,
    write_batch_interleaved_two_writers_same_hash,
    concurrent_downloads_of_one_blob_meet_in_one_entry,
    write_batch_idempotent_rewrite_same_leaf,
    write_batch_parents_without_leaves_does_not_mark_data_present,
    write_batch_leaves_without_parents_does_not_mark_data_present,
    write_batch_empty_vec_is_noop,
    write_batch_through_a_mutable_reference,
    valid_ranges_after_k_batches_equal_model_bitmap,
    partial_read_of_present_range_ok_absent_range_errors,
    partial_read_past_the_claimed_end_is_short_or_empty,
    absent_parents_are_zeros_that_never_verify,
}

async fn write_batch_single_leaf_then_read_back<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let last = sample.n_groups() - 1;
        for group in [last / 2, last] {
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            let items = sample.items(&group_ranges(group..group + 1));
            assert_eq!(items.iter().filter(|item| matches!(item, BaoContentItem::Leaf(_))).count(), 1);
            entry.batch_writer().await?.write_batch(sample.size(), items).await?;
            let start = group << 14;
            let expected = sample.slice(start, 1 << 14);
            assert_eq!(store.read_range(sample.hash, start..start + (1 << 14)).await?, expected);
            assert_eq!(entry.data_reader().await?.read_range(start, expected.len()).await?, expected);
            assert_eq!(store.read_verified(sample.hash, start..start + (1 << 14)).await?, expected);
        }
        let expected = (group_ranges(last / 2..last / 2 + 1) | group_ranges(last..last + 1)) & whole(&sample);
        assert_eq!(present(&store, sample.hash).await?, expected);
    }
    Ok(())
}

/// Each item comes in a batch of its own, in any order.
async fn write_batch_all_orders_permuted_ranges_same_final_state<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut number = 0;
    trial
        .for_all(8, (1..200_000_usize, any::<u64>(), any::<bool>()), async |(size, order, is_synced)| {
            number += 1;
            let sample = Sample::numbered(size, number);
            let mut items = sample.all_items();
            Dice::new(order).shuffle(&mut items);
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            let mut writer = entry.batch_writer().await?;
            let mut model = Model::new(&sample);
            for item in items {
                model.write(std::slice::from_ref(&item));
                writer.write_batch(sample.size(), vec![item]).await?;
                assert_eq!(present(&store, sample.hash).await?, model.present(sample.n_chunks()));
            }
            if is_synced {
                writer.sync().await?;
            }
            check_present(&store, &sample, &whole(&sample)).await?;
            check_outboard(&entry, &sample).await?;
            store.insert_complete(entry).await?;
            check_complete(&store, &sample).await
        })
        .await
}

async fn write_batch_interleaved_two_writers_same_hash<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    for size in [20_000, 300_000] {
        let sample = Sample::new(size);
        let first = store.get_or_create(sample.hash, sample.size()).await?;
        let second = store.get_or_create(sample.hash, sample.size()).await?;
        let (mut one, mut other) = (first.batch_writer().await?, second.batch_writer().await?);
        for item in sample.all_items() {
            let writer = if dice.below(2) == 0 { &mut one } else { &mut other };
            writer.write_batch(sample.size(), vec![item]).await?;
        }
        one.sync().await?;
        check_present(&store, &sample, &whole(&sample)).await?;
        store.insert_complete(first).await?;
        other.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        store.insert_complete(second).await?;
        check_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn concurrent_downloads_of_one_blob_meet_in_one_entry<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(600_000);
    let mut dice = trial.dice();
    let mut expected = ChunkRanges::empty();
    let mut running = Vec::new();
    for _ in 0..8 {
        let start = dice.below(sample.n_chunks());
        let part = chunks(start..(start + 1 + dice.below(200)).min(sample.n_chunks()));
        expected |= part.clone();
        let (store, sample) = (store.clone(), sample.clone());
        running.push(tokio::spawn(async move {
            let encoded = sample.encode(&part);
            store.import_bao(sample.hash, sample.size(), part, encoded).await.map(drop)
        }));
    }
    for task in running {
        task.await??;
    }
    assert_eq!(present(&store, sample.hash).await?, expected);
    let rest = whole(&sample) - expected;
    store.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await?;
    check_complete(&store, &sample).await
}

async fn write_batch_idempotent_rewrite_same_leaf<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let part = || (0..150_u64, 1..60_u64).prop_map(|(start, len)| chunks(start..start + len));
    let mut number = 0;
    trial
        .for_all(
            16,
            (20_000..150_000_usize, part(), part(), any::<bool>()),
            async |(size, a, b, is_synced)| {
                number += 1;
                let sample = Sample::numbered(size, number);
                let [a, b] = [a, b].map(|part| answered(&part, &sample));
                for part in [&a, &a, &b, &a, &b] {
                    sample.write(&store, part).await?;
                    if is_synced {
                        let entry = store.get_or_create(sample.hash, sample.size()).await?;
                        entry.batch_writer().await?.sync().await?;
                    }
                }
                check_present(&store, &sample, &(a | b)).await
            },
        )
        .await
}

/// The items of a sample, leaves and parents apart.
fn apart(sample: &Sample) -> (Vec<BaoContentItem>, Vec<BaoContentItem>) {
    sample.all_items().into_iter().partition(|item| matches!(item, BaoContentItem::Leaf(_)))
}

async fn write_batch_parents_without_leaves_does_not_mark_data_present<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let (leaves, parents) = apart(&sample);
    write_items(&store, sample.hash, sample.size(), parents).await?;
    check_present(&store, &sample, &ChunkRanges::empty()).await?;
    write_items(&store, sample.hash, sample.size(), leaves).await?;
    check_present(&store, &sample, &whole(&sample)).await
}

async fn write_batch_leaves_without_parents_does_not_mark_data_present<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let (leaves, parents) = apart(&sample);
    write_items(&store, sample.hash, sample.size(), leaves).await?;
    check_present(&store, &sample, &ChunkRanges::empty()).await?;
    write_items(&store, sample.hash, sample.size(), parents).await?;
    check_present(&store, &sample, &whole(&sample)).await
}

async fn write_batch_empty_vec_is_noop<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    for part in [ChunkRanges::empty(), chunks(16..40), whole(&sample)] {
        if !part.is_empty() {
            sample.write(&store, &part).await?;
        }
        write_items(&store, sample.hash, sample.size(), Vec::new()).await?;
        check_present(&store, &sample, &part).await?;
    }
    Ok(())
}

async fn write_batch_through_a_mutable_reference<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    async fn download(mut writer: impl BaoBatchWriter, sample: &Sample) -> std::io::Result<()> {
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        writer.sync().await
    }
    let sample = Sample::new(100_000);
    let mut writer = store.get_or_create(sample.hash, sample.size()).await?.batch_writer().await?;
    download(&mut writer, &sample).await?;
    download(&mut writer, &sample).await?;
    check_present(&store, &sample, &chunks(0..16)).await
}

/// One step of a download: items of a range, or those that are leaves, or those that are not.
#[derive(Clone, Copy, Debug)]
enum Step {
    Items(u64, u64),
    Leaves(u64, u64),
    Parents(u64, u64),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    let part = || (0..200_u64, 1..80_u64);
    prop_oneof![
        3 => part().prop_map(|(start, len)| Step::Items(start, start + len)),
        2 => part().prop_map(|(start, len)| Step::Leaves(start, start + len)),
        2 => part().prop_map(|(start, len)| Step::Parents(start, start + len)),
        1 => Just(Step::Sync),
    ]
}

async fn valid_ranges_after_k_batches_equal_model_bitmap<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut number = 0;
    let steps = prop::collection::vec(step(), 1..10);
    trial
        .for_all(12, (1..200_000_usize, steps), async |(size, steps)| {
            number += 1;
            let sample = Sample::numbered(size, number);
            let mut model = Model::new(&sample);
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            let mut writer = entry.batch_writer().await?;
            for step in steps {
                let (start, end, leaves, parents) = match step {
                    Step::Items(start, end) => (start, end, true, true),
                    Step::Leaves(start, end) => (start, end, true, false),
                    Step::Parents(start, end) => (start, end, false, true),
                    Step::Sync => {
                        writer.sync().await?;
                        continue;
                    }
                };
                let mut items = sample.items(&chunks(start..end));
                items.retain(|item| if matches!(item, BaoContentItem::Leaf(_)) { leaves } else { parents });
                model.write(&items);
                writer.write_batch(sample.size(), items).await?;
                assert_eq!(present(&store, sample.hash).await?, model.present(sample.n_chunks()));
            }
            check_present(&store, &sample, &model.present(sample.n_chunks())).await
        })
        .await
}

/// Any range is read whole, or said to be missing in part: where it begins, and how much it is.
async fn partial_read_of_present_range_ok_absent_range_errors<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(150_000);
    let there = chunks(0..16) | chunks(40..50) | chunks(100..121) | chunks(146..147);
    sample.write(&store, &there).await?;
    let mut reader = store.existing(sample.hash).await?.data_reader().await?;
    let range = (0..150_000_u64, prop_oneof![0..3000_usize, 0..150_000_usize]);
    trial
        .for_all(64, range, async |(start, len)| {
            let end = (start + len as u64).min(sample.size());
            let asked = chunks(start / 1024..end.div_ceil(1024).max(start / 1024));
            let missing: Vec<_> = (0..sample.n_chunks())
                .map(ChunkNum)
                .filter(|c| asked.contains(c) && !there.contains(c))
                .collect();
            let read = reader.read_range(start, len).await;
            let Some(first) = missing.first().filter(|_| len > 0) else {
                assert_eq!(read?, sample.slice(start, len as u64));
                return Ok(());
            };
            let Error::Incomplete { hash, first_missing, n_missing, n_chunks } = error_of(read) else {
                return Err("another error".into());
            };
            assert_eq!((hash, n_chunks), (sample.hash, sample.n_chunks()));
            assert_eq!((first_missing, n_missing), (start.max(first.0 * 1024), missing.len() as u64));
            Ok(())
        })
        .await
}

async fn partial_read_past_the_claimed_end_is_short_or_empty<S: MapMut>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    sample.write(&store, &chunks(97..98)).await?;
    let mut reader = store.existing(sample.hash).await?.data_reader().await?;
    assert_eq!(reader.size().await?, 100_000);
    assert_eq!(reader.read_range(99_400, 1 << 20).await?, sample.slice(99_400, 1 << 20));
    for offset in [100_000, 100_001, 1 << 40, u64::MAX] {
        assert_eq!(reader.read_range(offset, 1024).await?, "");
        assert_eq!(reader.read_range(offset, usize::MAX).await?, "");
    }
    Ok(())
}

async fn absent_parents_are_zeros_that_never_verify<S: MapMut>(_: &Trial<S>, store: S) -> Outcome {
    use bao_tree::io::{fsm::Outboard, sync};
    for (size, is_synced) in [(1000, false), (100_000, false), (100_000, true)] {
        let sample = Sample::new(size);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        if is_synced {
            entry.batch_writer().await?.sync().await?;
        }
        let mut outboard = entry.outboard().await?;
        let zeros = ([0; 32].into(), [0; 32].into());
        for node in outboard.tree().pre_order_nodes_iter() {
            let expected = sync::Outboard::load(&sample.outboard, node)?.map(|_| zeros);
            assert_eq!(outboard.load(node).await?, expected);
        }
        let verified = store.read_verified(sample.hash, 0..10).await;
        assert!(matches!(verified, Err(Error::Incomplete { .. })), "{verified:?}");
    }
    Ok(())
}
