//! Futures that are dropped before they are done.

use std::{
    cell::Cell,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use blob_traits::{
    BaoBatchWriter, BlobFormat, BlobStatus, Delete, EntryStatus, Error, Export, ExportMode, HashAndFormat,
    Import, ImportExt, ImportSource, Map, MapEntryMut, MapExt, MapMut, MapMutExt, Progress, ReadTagsExt,
    Store, TempTags, WriteTags, bao_tree::ChunkRanges,
};
use futures_lite::{StreamExt, future, stream};

use crate::{
    Failure, GROUP, Outcome, Sample, Trial,
    case::group,
    chunks, drop_at_every_await, eventually,
    groups::import::way::{Way, check_dropped, check_whole, pieces, two_ways},
};

group! {
    "progress_cancel", for S: Store;
    drop_future_at_every_await_import_bytes,
    drop_future_at_every_await_import_stream,
    drop_future_at_every_await_import_file,
    drop_future_at_every_await_import_file_by_reference,
    drop_future_at_every_await_import_completing_a_partial,
    drop_future_at_every_await_import_bao,
    drop_future_at_every_await_write_batch_and_sync,
    drop_future_at_every_await_export,
    drop_future_at_every_await_export_by_reference,
    drop_future_at_every_await_insert_complete,
    drop_future_at_every_await_delete,
    drop_future_at_every_await_set_tag,
    cancelled_op_releases_temp_tag_and_temp_file [needs Files],
    cancel_then_retry_succeeds,
}

/// Imports with somebody who takes the events one by one: then it waits at every phase, too.
async fn import_reporting<S: Map + Import>(
    trial: &Trial<S>,
    store: &S,
    sample: &Sample,
    way: Way,
) -> Result<(), Failure> {
    let (progress, mut receiver) = Progress::channel(1);
    let source = way.source(trial, sample)?;
    let consumer = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
    store.import(source, BlobFormat::Raw.into(), progress).await?;
    Ok(consumer.await?)
}

async fn drop_import<S: Map + BlobStatus + Import + Delete>(trial: &Trial<S>, store: S, way: Way) -> Outcome {
    for sample in two_ways(trial) {
        let import = async || import_reporting(trial, &store, &sample, way).await;
        drop_at_every_await(import, async || {
            check_dropped(&store, &sample).await?;
            Ok(store.delete(vec![sample.hash]).await?)
        })
        .await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn drop_future_at_every_await_import_bytes<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_import(trial, store, Way::Bytes).await
}

async fn drop_future_at_every_await_import_stream<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_import(trial, store, Way::Stream).await
}

async fn drop_future_at_every_await_import_file<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_import(trial, store, Way::CopiedFile).await
}

async fn drop_future_at_every_await_import_file_by_reference<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_import(trial, store, Way::ReferredFile).await
}

/// Checks that what a blob is said to have is there, whatever that is, and that nothing is held any more.
async fn check_part<S: Map + BlobStatus + TempTags>(store: &S, sample: &Sample) -> Outcome {
    eventually("no temporary tag", async || Ok(store.temp_tags().next().is_none())).await?;
    let Some(present) = store.present_ranges(&sample.hash).await? else { return Ok(()) };
    let verified = store.verified_ranges(sample.hash).await?.unwrap_or_default();
    let all = chunks(0..sample.n_chunks());
    assert!((present & all).is_subset(&verified), "what is said to be there is not");
    match store.read_to_bytes(sample.hash).await {
        Ok(bytes) => assert!(bytes == sample.data, "wrong bytes"),
        Err(error) => assert!(matches!(error, Error::Incomplete { .. }), "{error:?}"),
    }
    Ok(())
}

/// What was there of the blob before stays.
async fn drop_future_at_every_await_import_completing_a_partial<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    for way in [Way::Stream, Way::ReferredFile] {
        sample.write(&store, &chunks(0..16)).await?;
        let import = async || import_reporting(trial, &store, &sample, way).await;
        drop_at_every_await(import, async || {
            check_part(&store, &sample).await?;
            assert_eq!(store.read_verified(sample.hash, 0..GROUP).await?, sample.slice(0, GROUP));
            store.delete(vec![sample.hash]).await?;
            Ok(sample.write(&store, &chunks(0..16)).await?)
        })
        .await?;
        check_whole(&store, &sample).await?;
        store.delete(vec![sample.hash]).await?;
    }
    Ok(())
}

async fn drop_future_at_every_await_import_bao<S: MapMut + BlobStatus + TempTags + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        let encoded = sample.encode(&ChunkRanges::all());
        let import = async || {
            let all = ChunkRanges::all();
            Ok(store.import_bao(sample.hash, sample.size(), all, encoded.clone()).await?)
        };
        drop_at_every_await(import, async || {
            check_part(&store, &sample).await?;
            Ok(store.delete(vec![sample.hash]).await?)
        })
        .await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn drop_future_at_every_await_write_batch_and_sync<S: MapMut + BlobStatus + TempTags + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        let write = async || {
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            let mut writer = entry.batch_writer().await?;
            writer.write_batch(sample.size(), sample.all_items()).await?;
            writer.sync().await?;
            Ok(entry)
        };
        let entry = drop_at_every_await(write, async || {
            check_part(&store, &sample).await?;
            Ok(store.delete(vec![sample.hash]).await?)
        })
        .await?;
        store.insert_complete(entry).await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

/// Each round has a target of its own: what still comes of the one before does not meet the next.
async fn drop_export<S: Map + BlobStatus + Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
    mode: ExportMode,
) -> Outcome {
    for sample in two_ways(trial) {
        let n_begun = Cell::new(0);
        let target = || trial.user(&format!("{} {}", sample.size(), n_begun.get()));
        sample.import(&store).await?;
        let export = async || {
            n_begun.set(n_begun.get() + 1);
            Ok(store.export(sample.hash, target(), mode, Progress::none()).await?)
        };
        drop_at_every_await(export, async || {
            check_whole(&store, &sample).await?;
            let is_target = |name: &String| name.starts_with(&sample.size().to_string());
            eventually("no half file", async || Ok(trial.user_names()?.iter().all(is_target))).await?;
            if let Ok(bytes) = fs::read(target()) {
                assert!(bytes == sample.data, "half a file has the name of the target");
            }
            store.delete(vec![sample.hash]).await?;
            sample.import(&store).await?;
            Ok(())
        })
        .await?;
        assert!(fs::read(target())? == sample.data);
        check_whole(&store, &sample).await?;
        for name in trial.user_names()? {
            fs::remove_file(trial.user(&name))?;
        }
    }
    Ok(())
}

async fn drop_future_at_every_await_export<S: Map + BlobStatus + Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_export(trial, store, ExportMode::Copy).await
}

async fn drop_future_at_every_await_export_by_reference<S: Map + BlobStatus + Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    drop_export(trial, store, ExportMode::TryReference).await
}

async fn drop_future_at_every_await_insert_complete<S: MapMut + BlobStatus + TempTags + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        sample.write(&store, &ChunkRanges::all()).await?;
        let insert = async || {
            let entry = store.get_mut(&sample.hash).await?.ok_or("the blob is gone")?;
            Ok(store.insert_complete(entry).await?)
        };
        drop_at_every_await(insert, async || {
            check_part(&store, &sample).await?;
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
            store.delete(vec![sample.hash]).await?;
            Ok(sample.write(&store, &ChunkRanges::all()).await?)
        })
        .await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn drop_future_at_every_await_delete<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        sample.import(&store).await?;
        let delete = async || Ok(store.delete(vec![sample.hash]).await?);
        drop_at_every_await(delete, async || {
            check_dropped(&store, &sample).await?;
            sample.import(&store).await?;
            Ok(())
        })
        .await?;
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
    }
    Ok(())
}

async fn drop_future_at_every_await_set_tag<S: WriteTags + TempTags>(_: &Trial<S>, store: S) -> Outcome {
    let content = HashAndFormat::raw(Sample::new(1000).hash);
    let set = async || Ok(store.set_tag("tag".into(), Some(content)).await?);
    drop_at_every_await(set, async || {
        eventually("no temporary tag", async || Ok(store.temp_tags().next().is_none())).await?;
        let found = store.get_tag(&"tag".into()).await?;
        assert!(found.is_none() || found == Some(content), "{found:?}");
        Ok(store.set_tag("tag".into(), None).await?)
    })
    .await?;
    assert_eq!(store.get_tag(&"tag".into()).await?, Some(content));
    Ok(())
}

/// The import is dropped when most of the blob has come and nothing more does.
async fn cancelled_op_releases_temp_tag_and_temp_file<S: Map + BlobStatus + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let before = trial.home().stored_bytes();
    for number in 0..3 {
        let sample = Sample::numbered(trial.large().max(3 << 20), number);
        let has_stalled = Arc::new(AtomicBool::new(false));
        let stalled = has_stalled.clone();
        let stall = stream::poll_fn(move |_| {
            stalled.store(true, Ordering::SeqCst);
            Poll::Pending
        });
        let source = Box::pin(pieces(&sample, 500_000).chain(stall));
        let import = store.import_tagged(
            ImportSource::Stream(source),
            BlobFormat::Raw,
            "tag".into(),
            Progress::none(),
        );
        let wait = eventually("the end of the stream", async || Ok(has_stalled.load(Ordering::SeqCst)));
        future::or(async { import.await.map(drop).map_err(Into::into) }, wait).await?;
        check_dropped(&store, &sample).await?;
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
    }
    eventually("the space is free again", async || Ok(trial.home().stored_bytes() < before + (1 << 20))).await
}

/// Without cleaning up in between.
async fn cancel_then_retry_succeeds<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        for way in Way::ALL {
            let import = async || {
                let source = way.source(trial, &sample)?;
                let (pin, size) = store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
                assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
                Ok(())
            };
            drop_at_every_await(import, async || {
                import().await?;
                assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
                Ok(store.delete(vec![sample.hash]).await?)
            })
            .await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}
