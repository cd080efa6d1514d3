//! What becomes reachable, or is read, while a round runs.

use blob_gc::GcStore;
use blob_traits::{
    BaoBatchWriter, BlobFormat, EntryStatus, Error, Export, ExportMode, HashAndFormat, Import, ImportExt,
    ImportSource, MapEntry, MapEntryMut, MapMut, Progress, ReadBlob, Store, Sweep, WriteTags,
};

use super::{assert_gone, assert_kept, import, samples, sequence, sweep, sweep_after, tag_raw, tag_seq};
use crate::{Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "gc", for S: Store, Sweep;
    gc_import_between_mark_and_sweep_kept,
    gc_import_of_a_hashseq_between_mark_and_sweep_keeps_children,
    gc_set_tag_between_mark_and_sweep_kept,
    gc_tagged_hashseq_between_mark_and_sweep_keeps_children,
    gc_import_with_tag_between_mark_and_sweep_kept,
    gc_get_or_create_between_mark_and_sweep_kept,
    gc_insert_complete_between_mark_and_sweep_kept,
    gc_download_in_progress_kept_by_temp_tag,
    gc_download_without_temp_tag_fails_or_is_whole,
    gc_concurrent_reader_never_sees_wrong_bytes,
    export_reference_vs_gc,
}

/// Of what is there already, so that nothing is written; and what was imported is let go of at once.
async fn gc_import_between_mark_and_sweep_kept<S: GcStore + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let there: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    let garbage = Sample::numbered(100, 9);
    import(&store, there.iter().chain([&garbage])).await?;
    let new = Sample::numbered(100, 10);
    sweep_after(&store, async || import(&store, there.iter().chain([&new])).await).await??;
    assert_kept(&store, there.iter().chain([&new])).await?;
    assert_gone(&store, [&garbage]).await?;
    sweep(&store).await?;
    assert_gone(&store, there.iter().chain([&new])).await
}

async fn gc_import_of_a_hashseq_between_mark_and_sweep_keeps_children<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(3);
    let list = sequence(children.iter().map(|child| child.hash));
    import(&store, children.iter().chain([&list])).await?;
    let mut held = None;
    let act = async || {
        held = Some(store.import_bytes(list.data.clone(), BlobFormat::HashSeq).await?);
        Ok(())
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, children.iter().chain([&list])).await?;
    drop(held);
    Ok(())
}

async fn gc_set_tag_between_mark_and_sweep_kept<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [set, created, moved, garbage] = [1, 2, 3, 4].map(|number| Sample::numbered(100, number));
    import(&store, [&set, &created, &moved, &garbage]).await?;
    tag_raw(&store, "from", &moved).await?;
    let act = async || {
        tag_raw(&store, "set", &set).await?;
        store.create_tag(HashAndFormat::raw(created.hash)).await?;
        Ok(store.rename_tag("from".into(), "to".into()).await?)
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, [&set, &created, &moved]).await?;
    assert_gone(&store, [&garbage]).await
}

/// More sequences than one, and a child of theirs that is let go of meanwhile.
async fn gc_tagged_hashseq_between_mark_and_sweep_keeps_children<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let children = samples(6);
    let garbage = Sample::numbered(100, 50);
    let (left, right) = children.split_at(3);
    let lists = [left, right].map(|part| sequence(part.iter().map(|child| child.hash)));
    import(&store, children.iter().chain(&lists).chain([&garbage])).await?;
    let [one, other] = &lists;
    let act = async || {
        tag_seq(&store, "one", one).await?;
        tag_seq(&store, "other", other).await
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, children.iter().chain(&lists)).await?;
    assert_gone(&store, [&garbage]).await
}

async fn gc_import_with_tag_between_mark_and_sweep_kept<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(100);
    let list = sequence([child.hash]);
    import(&store, [&child, &list]).await?;
    let act = async || {
        let source = ImportSource::Bytes(list.data.clone());
        let tag = "tag".into();
        drop(store.import_tagged(source, BlobFormat::HashSeq, tag, Progress::none()).await?);
        Ok(())
    };
    sweep_after(&store, act).await??;
    assert_kept(&store, [&child, &list]).await
}

async fn gc_get_or_create_between_mark_and_sweep_kept<S: GcStore + MapMut>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, size) in [(0, 100_000), (1, trial.large())] {
        let sample = Sample::numbered(size, number);
        sample.write(&store, &group_ranges(0..1)).await?;
        let act = async || {
            store.get_or_create(sample.hash, sample.size()).await?;
            Ok(())
        };
        sweep_after(&store, act).await??;
        assert_eq!(store.present_ranges(&sample.hash).await?, Some(group_ranges(0..1)));
        sweep(&store).await?;
        assert_gone(&store, [&sample]).await?;
    }
    Ok(())
}

async fn gc_insert_complete_between_mark_and_sweep_kept<S: GcStore + MapMut>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, size) in [(0, 100_000), (1, trial.large())] {
        let sample = Sample::numbered(size, number);
        sample.write(&store, &group_ranges(0..sample.n_groups())).await?;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        sweep_after(&store, async || Ok(store.insert_complete(entry).await?)).await??;
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        assert_kept(&store, [&sample]).await?;
    }
    Ok(())
}

async fn gc_download_in_progress_kept_by_temp_tag<S: GcStore + MapMut>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, size) in [(0, 100_000), (1, trial.large())] {
        let sample = Sample::numbered(size, number);
        // Before there is anything.
        let pin = store.temp_tag(HashAndFormat::raw(sample.hash));
        sweep(&store).await?;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        sweep(&store).await?;
        let mut writer = entry.batch_writer().await?;
        for group in 0..sample.n_groups() {
            writer.write_batch(sample.size(), sample.items(&group_ranges(group..group + 1))).await?;
            if group % 20 == 0 {
                sweep(&store).await?;
            }
        }
        writer.sync().await?;
        store.insert_complete(entry).await?;
        sweep(&store).await?;
        assert_kept(&store, [&sample]).await?;
        drop(pin);
    }
    Ok(())
}

/// Nothing keeps it: it may be collected under the writer's hands, which then has to be told.
async fn gc_download_without_temp_tag_fails_or_is_whole<S: GcStore + MapMut>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, size) in [(0, 100_000), (1, trial.large())] {
        let sample = Sample::numbered(size, number);
        sample.write(&store, &group_ranges(0..2)).await?;
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        sweep(&store).await?;
        let rest = sample.items(&group_ranges(2..sample.n_groups()));
        let written = writer.write_batch(sample.size(), rest).await.map_err(Error::from);
        let promoted = store.insert_complete(entry).await;
        for outcome in [written, promoted] {
            assert!(matches!(outcome, Ok(()) | Err(Error::NotFound { .. } | Error::Incomplete { .. })));
        }
        if store.entry_status(&sample.hash).await? == EntryStatus::Complete {
            assert_kept(&store, [&sample]).await?;
        }
    }
    Ok(())
}

/// Readers that were open before the blob was collected go on or fail clearly.
async fn gc_concurrent_reader_never_sees_wrong_bytes<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        import(&store, [&sample]).await?;
        let Some(entry) = store.get(&sample.hash).await? else { panic!("it was imported") };
        let mut reader = entry.data_reader().await?;
        sweep(&store).await?;
        // Other bytes where its were.
        import(&store, [&Sample::numbered(sample.data.len(), 1)]).await?;
        if let Ok(bytes) = reader.read_range(0, sample.data.len()).await {
            assert_eq!(bytes, sample.data);
        }
        if let Ok(mut late) = entry.data_reader().await
            && let Ok(bytes) = late.read_range(0, sample.data.len()).await
        {
            assert_eq!(bytes, sample.data);
        }
        sweep(&store).await?;
    }
    Ok(())
}

/// A blob that is moved out while it is collected is there, with the right bytes, or it is said to be missing.
async fn export_reference_vs_gc<S: GcStore + Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    for (number, is_held) in [true, false, true, false].into_iter().enumerate() {
        let pin = sample.import(&store).await?;
        let pin = Some(pin).filter(|_| is_held);
        let target = trial.user(&format!("target-{number}"));
        let exporting = store.export(sample.hash, target.clone(), ExportMode::TryReference, Progress::none());
        let (exported, swept) = futures_lite::future::zip(exporting, sweep(&store)).await;
        swept?;
        match exported {
            Ok(()) => assert_eq!(std::fs::read(&target)?, sample.data),
            Err(Error::NotFound { .. }) if !is_held => assert!(!target.exists()),
            Err(error) => return Err(error.into()),
        }
        if is_held {
            assert_kept(&store, [&sample]).await?;
        }
        drop(pin);
        sweep(&store).await?;
        // What was exported is the user's.
        assert!(!target.exists() || std::fs::read(&target)? == sample.data);
    }
    Ok(())
}
