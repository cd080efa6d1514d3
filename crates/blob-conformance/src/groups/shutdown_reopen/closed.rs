//! What a store says once it was shut down.

use blob_traits::{
    BaoBatchWriter, BlobFormat, BlobStatus, Delete, Error, ExistingTarget, Export, ExportExt, ExportMode,
    ExportOptions, Hash, HashAndFormat, Import, ImportExt, ImportMode, ImportSource, Lifecycle, ListBlobs,
    Map, MapEntry, MapEntryMut, MapExt, MapMut, MapMutExt, Progress, ReadBlob, ReadTags, ReadTagsExt, Result,
    Store, WriteTags, WriteTagsExt, bao_tree::ChunkRanges,
};
use futures_lite::StreamExt;

use crate::{Outcome, Sample, Trial, case::group, error_of, group_ranges};

group! {
    "shutdown_reopen", for S: Store;
    shutdown_twice_ok,
    shutdown_twice_at_once_ok,
    shutdown_of_one_handle_closes_all,
    ops_after_shutdown_error_kind_reading,
    ops_after_shutdown_error_kind_status,
    ops_after_shutdown_error_kind_listing,
    ops_after_shutdown_error_kind_writing_tags,
    ops_after_shutdown_error_kind_import,
    ops_after_shutdown_error_kind_partial,
    ops_after_shutdown_error_kind_entries_opened_before,
    ops_after_shutdown_error_kind_writer_opened_before,
    ops_after_shutdown_error_kind_export,
    ops_after_shutdown_error_kind_delete,
    ops_after_shutdown_error_kind_sync,
    reader_opened_before_shutdown_reads_right_bytes_or_says_closed,
    listing_begun_before_shutdown_is_right_or_says_closed,
    temp_tags_do_no_harm_after_shutdown,
    shutdown_meets_running_imports_which_end_whole_or_closed,
}

#[track_caller]
fn closed<T>(result: Result<T>) {
    match result {
        Err(Error::Closed) => {}
        Err(other) => panic!("{other:?} instead of Closed"),
        Ok(_) => panic!("it went through after the shutdown"),
    }
}

/// A blob that is there, the empty one, and one that is not.
fn hashes(stored: &Sample) -> [Hash; 3] {
    [stored.hash, Hash::EMPTY, Hash::new(b"missing")]
}

/// Stores a blob and shuts the store down.
async fn stored_and_shut_down<S: Import + Lifecycle>(store: &S) -> Result<Sample> {
    let sample = Sample::new(50_000);
    sample.import(store).await?;
    store.shutdown().await?;
    Ok(sample)
}

async fn shutdown_twice_ok<S: Import + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    stored_and_shut_down(&store).await?;
    store.shutdown().await?;
    Ok(store.shutdown().await?)
}

async fn shutdown_twice_at_once_ok<S: Map + Import + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    let clone = store.clone();
    Sample::new(50_000).import(&store).await?;
    let (first, second) = futures_lite::future::zip(store.shutdown(), clone.shutdown()).await;
    first?;
    Ok(second?)
}

async fn shutdown_of_one_handle_closes_all<S: Map + Import + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    let clone = store.clone();
    let sample = stored_and_shut_down(&store).await?;
    closed(clone.get(&sample.hash).await);
    closed(sample.import(&clone).await);
    Ok(clone.shutdown().await?)
}

async fn ops_after_shutdown_error_kind_reading<S: Map + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for hash in hashes(&stored_and_shut_down(&store).await?) {
        closed(store.get(&hash).await);
        closed(store.existing(hash).await);
        closed(store.read_to_bytes(hash).await);
        closed(store.read_verified(hash, 0..10).await);
        closed(store.reader(hash).await.map(drop));
        closed(store.export_bao(hash, ChunkRanges::all(), Vec::new()).await);
        closed(store.verified_ranges(hash).await);
    }
    Ok(())
}

async fn ops_after_shutdown_error_kind_status<S: BlobStatus + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for hash in hashes(&stored_and_shut_down(&store).await?) {
        closed(store.entry_status(&hash).await);
        closed(store.entry_status_sync(&hash));
        closed(store.present_ranges(&hash).await);
    }
    Ok(())
}

async fn ops_after_shutdown_error_kind_listing<S: ListBlobs + ReadTags + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    stored_and_shut_down(&store).await?;
    closed(store.blobs().await.map(drop));
    closed(store.partial_blobs().await.map(drop));
    closed(store.tags(..).await.map(drop));
    closed(store.tags_with_prefix("a").await.map(drop));
    closed(store.get_tag(&"a".into()).await);
    Ok(())
}

async fn ops_after_shutdown_error_kind_writing_tags<S: WriteTags + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let content = HashAndFormat::raw(Hash::EMPTY);
    store.set_tag("a".into(), Some(content)).await?;
    stored_and_shut_down(&store).await?;
    closed(store.set_tag("a".into(), Some(content)).await);
    closed(store.set_tag("a".into(), None).await);
    closed(store.set_tag("missing".into(), None).await);
    closed(store.delete_tag("a".into()).await);
    closed(store.create_tag(content).await);
    closed(store.delete_tags(..).await);
    closed(store.rename_tag("a".into(), "b".into()).await);
    closed(store.rename_tag("missing".into(), "b".into()).await);
    Ok(())
}

async fn ops_after_shutdown_error_kind_import<S: Map + Import + Lifecycle>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let stored = stored_and_shut_down(&store).await?;
    for sample in trial.ways().into_iter().map(|size| Sample::numbered(size, 1)).chain([stored]) {
        closed(sample.import(&store).await);
        let path = trial.user_file("source", &sample.data)?;
        for mode in [ImportMode::Copy, ImportMode::TryReference] {
            closed(store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await);
        }
        let stream = futures_lite::stream::iter([Ok(sample.data.clone())]);
        closed(store.import_stream(stream, BlobFormat::Raw, Progress::none()).await);
        let source = ImportSource::Bytes(sample.data);
        closed(store.import_tagged(source, BlobFormat::Raw, "a".into(), Progress::none()).await);
    }
    Ok(())
}

async fn ops_after_shutdown_error_kind_partial<S: MapMut + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::numbered(70_000, 1);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    sample.write(&store, &ChunkRanges::all()).await?;
    let stored = stored_and_shut_down(&store).await?;
    for sample in [&sample, &stored, &Sample::numbered(70_000, 2)] {
        closed(store.get_mut(&sample.hash).await);
        closed(store.get_or_create(sample.hash, sample.size()).await);
        let (all, stream) = (ChunkRanges::all(), sample.encode(&ChunkRanges::all()));
        closed(store.import_bao(sample.hash, sample.size(), all, stream).await);
    }
    closed(store.insert_complete(entry).await);
    Ok(())
}

async fn ops_after_shutdown_error_kind_entries_opened_before<S: MapMut + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let (complete, partial) = (Sample::new(50_000), Sample::numbered(70_000, 1));
    partial.write(&store, &group_ranges(0..1)).await?;
    let entry = store.get_or_create(partial.hash, partial.size()).await?;
    complete.import(&store).await?;
    let complete_mut = store.get_or_create(complete.hash, complete.size()).await?;
    let of_complete = store.existing(complete.hash).await?;
    store.shutdown().await?;
    for entry in [&entry, &complete_mut] {
        closed(entry.data_reader().await.map(drop).map_err(Error::from));
        closed(entry.outboard().await.map(drop).map_err(Error::from));
        closed(entry.batch_writer().await.map(drop).map_err(Error::from));
    }
    closed(of_complete.data_reader().await.map(drop).map_err(Error::from));
    closed(of_complete.outboard().await.map(drop).map_err(Error::from));
    assert_eq!((entry.hash(), of_complete.hash()), (partial.hash, complete.hash));
    Ok(())
}

async fn ops_after_shutdown_error_kind_writer_opened_before<S: MapMut + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(70_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(sample.size(), sample.items(&group_ranges(0..2))).await?;
    store.shutdown().await?;
    let late = writer.write_batch(sample.size(), sample.all_items()).await;
    assert!(matches!(error_of(late), Error::Closed));
    assert!(matches!(error_of(writer.sync().await), Error::Closed));
    Ok(())
}

async fn ops_after_shutdown_error_kind_export<S: Map + BlobStatus + Export + Import + Lifecycle>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let replaced = trial.user_file("replaced", b"as it was")?;
    for hash in hashes(&stored_and_shut_down(&store).await?) {
        for mode in [ExportMode::Copy, ExportMode::TryReference] {
            closed(store.export(hash, trial.user("never"), mode, Progress::none()).await);
            let options = ExportOptions { mode, existing: ExistingTarget::Replace };
            closed(store.export(hash, replaced.clone(), options, Progress::none()).await);
            closed(store.export_collection(hash, trial.user("never"), mode, Progress::none()).await);
        }
    }
    assert_eq!(trial.user_names()?, ["replaced"]);
    assert_eq!(std::fs::read(replaced)?, b"as it was");
    Ok(())
}

async fn ops_after_shutdown_error_kind_delete<S: Delete + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    for hash in hashes(&stored_and_shut_down(&store).await?) {
        closed(store.delete(vec![hash]).await);
    }
    Ok(())
}

async fn ops_after_shutdown_error_kind_sync<S: Import + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    stored_and_shut_down(&store).await?;
    closed(store.sync().await);
    Ok(())
}

async fn reader_opened_before_shutdown_reads_right_bytes_or_says_closed<S: Map + Import + Lifecycle>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut opened = Vec::new();
    for sample in trial.ways().into_iter().map(Sample::new) {
        sample.import(&store).await?;
        let entry = store.existing(sample.hash).await?;
        opened.push((entry.data_reader().await?, sample));
    }
    store.shutdown().await?;
    for (mut reader, sample) in opened {
        for offset in [0, sample.size() / 2, sample.size()] {
            match reader.read_range(offset, 5000).await.map_err(Error::from) {
                Ok(bytes) => assert_eq!(bytes, sample.slice(offset, 5000)),
                Err(e) => closed::<()>(Err(e)),
            }
        }
    }
    Ok(())
}

async fn listing_begun_before_shutdown_is_right_or_says_closed<S: ListBlobs + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let mut hashes = Vec::new();
    for number in 0..20 {
        let sample = Sample::numbered(100, number);
        sample.import(&store).await?;
        hashes.push(sample.hash);
    }
    hashes.sort();
    let mut listing = store.blobs().await?;
    assert_eq!(listing.next().await.transpose()?, hashes.first().copied());
    store.shutdown().await?;
    for hash in hashes.into_iter().skip(1) {
        match listing.next().await {
            Some(Ok(listed)) => assert_eq!(listed, hash),
            Some(Err(e)) => {
                closed::<()>(Err(e));
                return Ok(());
            }
            None => panic!("the listing ended before {hash}"),
        }
    }
    assert!(listing.next().await.is_none());
    Ok(())
}

async fn temp_tags_do_no_harm_after_shutdown<S: Import + Lifecycle>(_: &Trial<S>, store: S) -> Outcome {
    let before = Sample::new(1000).import(&store).await?;
    store.shutdown().await?;
    let after = store.temp_tag(HashAndFormat::raw(Sample::new(1).hash));
    drop((before.clone(), after.clone()));
    drop(store);
    drop((before, after));
    Ok(())
}

async fn shutdown_meets_running_imports_which_end_whole_or_closed<S: Map + Import + Lifecycle>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    Sample::numbered(3000, task * 100 + number).import(&store).await?;
                }
                Ok(())
            })
        })
        .collect();
    for number in 0..3 {
        Sample::numbered(100, number).import(&store).await?;
    }
    store.shutdown().await?;
    for task in tasks {
        if let Err(e) = task.await? {
            closed::<()>(Err(e));
        }
    }
    Ok(())
}
