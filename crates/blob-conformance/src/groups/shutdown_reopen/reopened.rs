//! What is there when a store is opened again.

use std::time::Instant;

use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobFormat, BlobStatus, Delete, EntryStatus, Error, Hash, HashAndFormat,
    Import, ImportExt, ImportSource, Lifecycle, ListBlobs, Map, MapEntry, MapEntryMut, MapExt, MapMut,
    Progress, ReadTags, Result, Store, Tag, TagRange, TempTags, WriteTags, bao_tree::ChunkRanges, collect,
};

use crate::{Failure, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "shutdown_reopen", for S: Store;
    shutdown_flushes_all_acked_imports [needs Persistence],
    shutdown_flushes_all_acked_tags [needs Persistence],
    shutdown_flushes_all_acked_partial_writes [needs Persistence],
    shutdown_flushes_all_acked_deletes [needs Persistence],
    shutdown_flushes_what_ran_beside_it [needs Persistence],
    shutdown_that_was_dropped_is_finished_by_the_next [needs Persistence],
    drop_without_shutdown_equals_kill_semantics_imports [needs Persistence Durability],
    drop_without_shutdown_equals_kill_semantics_tags [needs Persistence Durability],
    drop_without_shutdown_equals_kill_semantics_synced_partial [needs Persistence Durability],
    drop_without_shutdown_equals_kill_semantics_deletes [needs Persistence Durability],
    drop_of_one_handle_leaves_the_store_open,
    home_opens_again_at_once_while_old_handles_live [needs Persistence],
    reopened_empty_store_is_empty [needs Persistence],
    reopened_store_has_no_temp_tags [needs Persistence],
    reopened_partial_blob_is_resumed_and_completed [needs Persistence],
    reopened_partial_blob_keeps_its_size_claim [needs Persistence],
    reopened_once_more_after_nothing_happened_is_the_same [needs Persistence Durability],
    reopen_time_1m_entries_bounded [deep needs Persistence],
}

async fn import_all_ways<S: Import + Clone>(trial: &Trial<S>, store: &S) -> Result<Vec<Sample>> {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        sample.import(store).await?;
    }
    Ok(samples)
}

async fn see_complete<S: Map + BlobStatus + ListBlobs>(store: &S, samples: &[Sample]) -> Outcome {
    let listed = collect(store.blobs().await?).await?;
    for sample in samples {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        assert!(listed.contains(&sample.hash), "{} is not listed", sample.hash);
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        let entry = store.existing(sample.hash).await?;
        assert_eq!((entry.is_complete(), entry.size()), (true, BaoBlobSize::Verified(sample.size())));
    }
    Ok(())
}

async fn shutdown_flushes_all_acked_imports<S: Map + BlobStatus + ListBlobs + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = import_all_ways(trial, &store).await?;
    see_complete(&trial.reopen(store).await?, &samples).await
}

async fn drop_without_shutdown_equals_kill_semantics_imports<S: Map + BlobStatus + ListBlobs + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = import_all_ways(trial, &store).await?;
    see_complete(&trial.crash_and_reopen(store).await?, &samples).await
}

/// Changes tags in all ways, and returns those that are there then.
async fn change_tags<S: WriteTags + Import>(store: &S) -> Result<Vec<(Tag, HashAndFormat)>> {
    let [one, two] = [1, 2].map(|number| HashAndFormat::raw(Hash::new([number])));
    let seq = HashAndFormat::hash_seq(Hash::new([3]));
    for name in ["deleted", "range/1", "range/2", "renamed", "replaced"] {
        store.set_tag(name.into(), Some(one)).await?;
    }
    store.set_tag(b"\xff not text".as_slice().into(), Some(seq)).await?;
    store.set_tag("deleted".into(), None).await?;
    store.set_tag("replaced".into(), Some(two)).await?;
    store.rename_tag("renamed".into(), "name".into()).await?;
    store.delete_tags(TagRange::prefix("range/")).await?;
    let created = store.create_tag(seq).await?;
    let source = ImportSource::Bytes("with a tag".into());
    let (pin, _) = store.import_tagged(source, BlobFormat::Raw, "imported".into(), Progress::none()).await?;
    let mut tags = vec![
        (created, seq),
        ("imported".into(), pin.hash_and_format()),
        ("name".into(), one),
        ("replaced".into(), two),
        (b"\xff not text".as_slice().into(), seq),
    ];
    tags.sort();
    assert_eq!(collect(store.tags(..).await?).await?, tags);
    Ok(tags)
}

async fn shutdown_flushes_all_acked_tags<S: WriteTags + Import + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let tags = change_tags(&store).await?;
    let store = trial.reopen(store).await?;
    assert_eq!(collect(store.tags(..).await?).await?, tags);
    Ok(())
}

async fn drop_without_shutdown_equals_kill_semantics_tags<S: WriteTags + Import + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let tags = change_tags(&store).await?;
    let store = trial.crash_and_reopen(store).await?;
    assert_eq!(collect(store.tags(..).await?).await?, tags);
    Ok(())
}

/// Samples of which two groups are written: one below each way, so that all have a third.
fn partial_samples<S: Clone>(trial: &Trial<S>) -> Vec<Sample> {
    trial.ways().into_iter().map(|size| Sample::numbered(size + 40_000, 1)).collect()
}

async fn see_two_groups<S: Map + BlobStatus + ListBlobs>(store: &S, samples: &[Sample]) -> Outcome {
    let listed = collect(store.partial_blobs().await?).await?;
    let two = group_ranges(0..2);
    for sample in samples {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
        assert!(listed.contains(&sample.hash), "{} is not listed", sample.hash);
        assert_eq!(store.present_ranges(&sample.hash).await?, Some(two.clone()));
        let stream = store.export_bao(sample.hash, two.clone(), Vec::new()).await?;
        assert!(stream == sample.encode(&two));
    }
    Ok(())
}

async fn shutdown_flushes_all_acked_partial_writes<S: MapMut + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = partial_samples(trial);
    for sample in &samples {
        sample.write(&store, &group_ranges(0..2)).await?;
    }
    see_two_groups(&trial.reopen(store).await?, &samples).await
}

async fn drop_without_shutdown_equals_kill_semantics_synced_partial<S: MapMut + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = partial_samples(trial);
    for sample in &samples {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&group_ranges(0..2))).await?;
        writer.sync().await?;
    }
    see_two_groups(&trial.crash_and_reopen(store).await?, &samples).await
}

async fn import_and_delete<S: MapMut + Import + Delete>(trial: &Trial<S>, store: &S) -> Result<Vec<Hash>> {
    let mut hashes: Vec<_> =
        import_all_ways(trial, store).await?.into_iter().map(|sample| sample.hash).collect();
    for sample in partial_samples(trial) {
        sample.write(store, &group_ranges(0..1)).await?;
        hashes.push(sample.hash);
    }
    store.delete(hashes.clone()).await?;
    Ok(hashes)
}

async fn see_none<S: BlobStatus>(store: &S, hashes: &[Hash]) -> Outcome {
    for hash in hashes {
        assert_eq!(store.entry_status(hash).await?, EntryStatus::NotFound, "{hash} is back");
    }
    Ok(())
}

async fn shutdown_flushes_all_acked_deletes<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let hashes = import_and_delete(trial, &store).await?;
    see_none(&trial.reopen(store).await?, &hashes).await
}

async fn drop_without_shutdown_equals_kill_semantics_deletes<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let hashes = import_and_delete(trial, &store).await?;
    see_none(&trial.crash_and_reopen(store).await?, &hashes).await
}

async fn shutdown_flushes_what_ran_beside_it<S: Map + BlobStatus + ListBlobs + Import + Lifecycle>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let tasks: Vec<_> = (0..3)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0..50 {
                    let sample = Sample::numbered(3000, task * 100 + number);
                    match sample.import(&store).await {
                        Ok(_) => acknowledged.push(sample),
                        Err(Error::Closed) => break,
                        Err(e) => return Err(e),
                    }
                }
                Ok(acknowledged)
            })
        })
        .collect();
    Sample::numbered(3000, 1 << 20).import(&store).await?;
    store.shutdown().await?;
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await??);
    }
    see_complete(&trial.reopen(store).await?, &acknowledged).await
}

/// Who drops a shutdown that is under way and asks again finds the store closed, whole, and free.
async fn shutdown_that_was_dropped_is_finished_by_the_next<
    S: Map + BlobStatus + ListBlobs + Import + Lifecycle,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples = import_all_ways(trial, &store).await?;
    futures_lite::future::or(async { store.shutdown().await.is_ok() }, async { false }).await;
    see_complete(&trial.reopen(store).await?, &samples).await
}

async fn drop_of_one_handle_leaves_the_store_open<S: Map + Import>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(50_000);
    let clone = store.clone();
    let pin = sample.import(&store).await?;
    drop(store);
    assert_eq!(clone.read_to_bytes(pin.hash()).await?, sample.data);
    Sample::numbered(50_000, 1).import(&clone).await?;
    Ok(())
}

async fn home_opens_again_at_once_while_old_handles_live<S: Map + Import>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let mut old = Vec::new();
    for number in 0..5 {
        let sample = Sample::numbered(100_000, number);
        let pin = sample.import(&store).await?;
        old.push((store.clone(), store.existing(sample.hash).await?, pin));
        store = trial.reopen(store).await?;
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    for (old, entry, _) in &old {
        assert!(matches!(old.get(&entry.hash()).await, Err(Error::Closed)));
    }
    Ok(())
}

async fn reopened_empty_store_is_empty<S: ListBlobs + ReadTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let store = trial.reopen(store).await?;
    let blobs = collect(store.blobs().await?).await?;
    assert!(blobs.iter().all(|hash| *hash == Hash::EMPTY), "{blobs:?}");
    assert_eq!(collect(store.partial_blobs().await?).await?, []);
    assert_eq!(collect(store.tags(..).await?).await?, []);
    Ok(())
}

async fn reopened_store_has_no_temp_tags<S: Import + TempTags + Clone>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let pin = Sample::new(1000).import(&store).await?;
    store.temp_tag(HashAndFormat::raw(Hash::EMPTY)).leak();
    let store = trial.reopen(store).await?;
    assert_eq!(store.temp_tags().collect::<Vec<_>>(), []);
    drop(pin);
    Ok(())
}

async fn reopened_partial_blob_is_resumed_and_completed<S: MapMut + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let samples = partial_samples(trial);
    for sample in &samples {
        sample.write(&store, &group_ranges(1..2)).await?;
    }
    store = trial.reopen(store).await?;
    for sample in &samples {
        let present = store.present_ranges(&sample.hash).await?.ok_or("it is forgotten")?;
        assert_eq!(present, group_ranges(1..2));
        sample.write(&store, &(ChunkRanges::all() - present)).await?;
        let entry = store.get_mut(&sample.hash).await?.ok_or("it is forgotten")?;
        store.insert_complete(entry).await?;
    }
    see_complete(&store, &samples).await?;
    see_complete(&trial.reopen(store).await?, &samples).await
}

async fn reopened_partial_blob_keeps_its_size_claim<S: MapMut>(trial: &Trial<S>, store: S) -> Outcome {
    let (unverified, verified) = (Sample::numbered(70_000, 1), Sample::numbered(70_000, 2));
    unverified.write(&store, &group_ranges(0..1)).await?;
    verified.write(&store, &group_ranges(4..5)).await?;
    let store = trial.reopen(store).await?;
    assert_eq!(store.existing(unverified.hash).await?.size(), BaoBlobSize::Unverified(70_000));
    assert_eq!(store.existing(verified.hash).await?.size(), BaoBlobSize::Verified(70_000));
    let other = store.get_or_create(verified.hash, 80_000).await;
    assert!(matches!(other, Err(Error::SizeConflict { claimed: 80_000, current: 70_000, .. })), "{other:?}");
    Ok(())
}

async fn reopened_once_more_after_nothing_happened_is_the_same<
    S: MapMut + BlobStatus + ListBlobs + WriteTags + Import,
>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let complete = import_all_ways(trial, &store).await?;
    let partial = partial_samples(trial);
    for sample in &partial {
        sample.write(&store, &group_ranges(0..2)).await?;
    }
    let tags = change_tags(&store).await?;
    store = trial.reopen(store).await?;
    for round in 0..4 {
        store = match round % 2 {
            0 => trial.crash_and_reopen(store).await?,
            _ => trial.reopen(store).await?,
        };
        see_complete(&store, &complete).await?;
        see_two_groups(&store, &partial).await?;
        assert_eq!(collect(store.tags(..).await?).await?, tags);
    }
    Ok(())
}

/// A million small blobs are opened in a fraction of the time that bringing them in takes.
async fn reopen_time_1m_entries_bounded<S: Map + BlobStatus + WriteTags + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    const TASKS: u64 = 64;
    const EACH: u64 = 1_000_000 / TASKS;
    let sample = |task: u64, number: u64| Sample::of((task * EACH + number).to_le_bytes().to_vec());
    let begun = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..EACH {
                    sample(task, number).import(&store).await?;
                }
                Ok::<_, Failure>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let importing = begun.elapsed();
    let begun = Instant::now();
    let store = trial.reopen(store).await?;
    let reopening = begun.elapsed();
    let mut dice = trial.dice();
    for _ in 0..1000 {
        let sample = sample(dice.below(TASKS), dice.below(EACH));
        assert_eq!(store.read_to_bytes(sample.hash).await?, sample.data);
    }
    assert!(reopening < importing / 4, "reopened in {reopening:?}, imported in {importing:?}");
    Ok(())
}
