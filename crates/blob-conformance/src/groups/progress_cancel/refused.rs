//! Imports that are cancelled through their progress.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use blob_traits::{
    BlobFormat, Cancelled, Delete, Error, Import, ImportExt, ListBlobs, Map, Progress, ReadTags, Store,
    WriteTags, WriteTagsExt, collect,
};
use tokio::time::timeout;

use crate::{
    Failure, Outcome, Sample, Trial,
    case::group,
    eventually,
    groups::import::way::{Way, check_empty, two_ways},
};

group! {
    "progress_cancel", for S: Store;
    progress_sender_dropped_cancels_import,
    progress_receiver_dropped_midway_cancels_import,
    progress_refused_at_any_event_cancels_import,
    dropped_import_lets_go_of_a_full_progress_channel,
}

/// A store reports no more events of a short import than this.
const MAX_EVENTS: usize = 60;

async fn progress_sender_dropped_cancels_import<S: Map + Import + ReadTags + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        for way in Way::ALL {
            let (progress, receiver) = Progress::channel(8);
            drop(receiver);
            let source = way.source(trial, &sample)?;
            let cancelled = store.import_tagged(source, BlobFormat::Raw, "tag".into(), progress).await;
            assert!(matches!(cancelled, Err(Error::Cancelled)), "{way:?}");
            check_empty(&store).await?;
            assert_eq!(collect(store.tags(..).await?).await?, []);
        }
    }
    Ok(())
}

/// The receiver goes after the first event, while the import waits for room for the second.
async fn progress_receiver_dropped_midway_cancels_import<S: Map + Import + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        for way in Way::ALL {
            let (progress, mut receiver) = Progress::channel(1);
            let source = way.source(trial, &sample)?;
            let importing = {
                let store = store.clone();
                tokio::spawn(async move { store.import(source, BlobFormat::Raw.into(), progress).await })
            };
            assert!(receiver.recv().await.is_some(), "an import from {way:?} reports nothing");
            drop(receiver);
            let Ok(cancelled) = timeout(Duration::from_secs(20), importing).await else {
                return Err(format!("an import from {way:?} goes on").into());
            };
            assert!(matches!(cancelled?, Err(Error::Cancelled)), "{way:?}");
            check_empty(&store).await?;
        }
    }
    Ok(())
}

/// Imports with a tag, and refuses to go on after so many events. Returns whether they were enough.
async fn is_enough<S: Map + Import>(
    trial: &Trial<S>,
    store: &S,
    sample: &Sample,
    way: Way,
    n_allowed: usize,
) -> Result<bool, Failure> {
    let n_events = Arc::new(AtomicUsize::new(0));
    let counter = n_events.clone();
    let progress = Progress::from_fn(move |_| {
        if counter.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
    });
    let source = way.source(trial, sample)?;
    let ended = store.import_tagged(source, BlobFormat::Raw, "tag".into(), progress).await;
    if n_events.load(Ordering::SeqCst) <= n_allowed {
        assert_eq!(ended?.0.hash(), sample.hash);
        return Ok(true);
    }
    assert!(matches!(ended, Err(Error::Cancelled)), "{way:?}, event {n_allowed}");
    Ok(false)
}

async fn progress_refused_at_any_event_cancels_import<S: Map + Import + WriteTags + ListBlobs + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        for way in Way::ALL {
            let mut n_allowed = 0;
            while !is_enough(trial, &store, &sample, way, n_allowed).await? {
                check_empty(&store).await?;
                assert_eq!(collect(store.tags(..).await?).await?, []);
                n_allowed += 1;
                assert!(n_allowed < MAX_EVENTS, "there is no end of events");
            }
            store.delete_tag("tag".into()).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

/// Nobody takes the events, and nobody waits for the import any more: the work behind it has to end.
async fn dropped_import_lets_go_of_a_full_progress_channel<S: Map + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    for way in Way::ALL {
        for capacity in 1..4 {
            let (progress, receiver) = Progress::channel(capacity);
            let import = store.import(way.source(trial, &sample)?, BlobFormat::Raw.into(), progress);
            let full =
                eventually("a full channel", async || Ok(receiver.len() == capacity || receiver.is_closed()));
            futures_lite::future::or(async { import.await.map(drop).map_err(Into::into) }, full).await?;
            eventually("nobody reports", async || Ok(receiver.sender_strong_count() == 0)).await?;
            eventually("no temporary tag", async || Ok(store.temp_tags().next().is_none())).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}
