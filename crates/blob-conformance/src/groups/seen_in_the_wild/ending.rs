//! How operations and stores end.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use blob_traits::{
    Error, Export, ExportMode, ExportProgress, Hash, Import, ImportMode, ImportOptions, ImportProgress,
    ImportSource, Map, MapEntry, MapExt, Progress, Store,
};
use bytes::Bytes;
use futures_lite::{Stream, StreamExt, future, stream};
use tokio::sync::mpsc::Receiver;

use super::{PATIENCE, eventually};
use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "seen_in_the_wild", for S: Store;
    last_offset_of_an_import_is_its_size,
    last_offset_of_an_export_is_its_size,
    events_of_an_aborted_import_end,
    events_of_an_aborted_export_end,
    import_whose_future_is_dropped_ends,
    export_whose_future_is_dropped_ends,
    store_that_is_dropped_can_be_opened_again_at_once [needs Persistence Lock],
    store_that_is_dropped_amid_work_can_be_opened_again [needs Persistence Lock],
}

/// Takes events one by one, more slowly than they come, until there are no more.
async fn take_slowly<E>(mut events: Receiver<E>) -> Result<Vec<E>, Failure> {
    let mut taken = Vec::new();
    while let Some(event) = next(&mut events).await? {
        taken.push(event);
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
    Ok(taken)
}

/// The next event, or the end of events, which comes in time.
async fn next<E>(events: &mut Receiver<E>) -> Result<Option<E>, Failure> {
    tokio::time::timeout(PATIENCE, events.recv()).await.map_err(|_| "the events do not end".into())
}

async fn last_offset_of_an_import_is_its_size<S: Import>(trial: &Trial<S>, store: S) -> Outcome {
    for (size, way) in
        trial.ways().into_iter().chain([3_000_000]).flat_map(|size| [0, 1, 2, 3].map(|way| (size, way)))
    {
        let sample = Sample::numbered(size, way);
        let path = trial.user_file("file", &sample.data)?;
        let source = match way {
            0 => ImportSource::Bytes(sample.data.clone()),
            1 => ImportSource::Stream(Box::pin(stream::iter(pieces(&sample.data)))),
            2 => ImportSource::File { path, mode: ImportMode::Copy },
            _ => ImportSource::File { path, mode: ImportMode::TryReference },
        };
        let (progress, events) = Progress::channel(1);
        let importing = store.import(source, ImportOptions::default(), progress);
        let (imported, events) = tokio::join!(importing, take_slowly(events));
        let _pinned = imported?;
        let (mut copied, mut hashed) = (None, None);
        for event in events? {
            match event {
                ImportProgress::CopyProgress { offset, .. } => copied = Some(offset),
                ImportProgress::OutboardProgress { offset, .. } => hashed = Some(offset),
                _ => {}
            }
        }
        assert_eq!(hashed, Some(sample.size()), "way {way}");
        assert_eq!(copied.unwrap_or(sample.size()), sample.size(), "way {way}");
    }
    Ok(())
}

fn pieces(data: &Bytes) -> Vec<io::Result<Bytes>> {
    data.chunks(70_000).map(|piece| Ok(data.slice_ref(piece))).collect()
}

async fn last_offset_of_an_export_is_its_size<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().chain([3_000_000]).map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let (progress, events) = Progress::channel(1);
        let target = trial.user(&sample.size().to_string());
        let exporting = store.export(sample.hash, target, ExportMode::Copy, progress);
        let (exported, events) = tokio::join!(exporting, take_slowly(events));
        exported?;
        let mut offsets = events?.into_iter().filter_map(|event| match event {
            ExportProgress::Progress { offset, .. } => Some(offset),
            _ => None,
        });
        // There is none where the file shares its blocks.
        assert_eq!(offsets.next_back().unwrap_or(sample.size()), sample.size());
    }
    Ok(())
}

async fn events_of_an_aborted_import_end<S: Import>(trial: &Trial<S>, store: S) -> Outcome {
    let broken =
        pieces(&Sample::new(trial.large()).data).into_iter().chain([Err(io::Error::other("broken"))]);
    let sources = [
        ImportSource::Stream(Box::pin(stream::iter(broken.collect::<Vec<_>>()))),
        ImportSource::File { path: trial.user("absent"), mode: ImportMode::Copy },
        ImportSource::File { path: trial.user(""), mode: ImportMode::TryReference },
    ];
    for source in sources {
        let (progress, events) = Progress::channel(1);
        let importing = store.import(source, ImportOptions::default(), progress);
        let (imported, events) = tokio::join!(importing, take_slowly(events));
        assert!(imported.is_err());
        assert!(!events?.iter().any(|event| matches!(event, ImportProgress::OutboardDone { .. })));
    }
    Ok(())
}

async fn events_of_an_aborted_export_end<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let taken = trial.user_file("taken", b"mine")?;
    for (hash, target) in [(Hash::new(b"absent"), trial.user("target")), (sample.hash, taken)] {
        let (progress, events) = Progress::channel(1);
        let exporting = store.export(hash, target, ExportMode::Copy, progress);
        let (exported, events) = tokio::join!(exporting, take_slowly(events));
        assert!(matches!(exported, Err(Error::NotFound { .. } | Error::TargetExists { .. })), "{exported:?}");
        assert!(!events?.iter().any(|event| matches!(event, ExportProgress::Done { .. })));
    }
    Ok(())
}

/// A stream without end that counts how often it was asked.
struct Endless {
    piece: Bytes,
    n_asked: Arc<AtomicUsize>,
}

impl Stream for Endless {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.n_asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(self.piece.clone())))
    }
}

fn endless() -> (ImportSource, Arc<AtomicUsize>) {
    let n_asked = Arc::new(AtomicUsize::new(0));
    let piece = Sample::new(30_000).data;
    (ImportSource::Stream(Endless { piece, n_asked: n_asked.clone() }.boxed()), n_asked)
}

async fn import_whose_future_is_dropped_ends<S: Import>(_: &Trial<S>, store: S) -> Outcome {
    for n_polls in [1, 2, 5, 10, 30] {
        let (source, n_asked) = endless();
        let mut importing = Box::pin(store.import(source, ImportOptions::default(), Progress::none()));
        for _ in 0..n_polls {
            assert!(future::poll_once(&mut importing).await.is_none(), "it has come to an end");
            tokio::task::yield_now().await;
        }
        drop(importing);
        eventually("the stream is read", || Arc::strong_count(&n_asked) == 1).await?;
    }
    assert_eq!(store.temp_tags().count(), 0);
    Ok(())
}

/// Nobody takes the events, so that it cannot have ended before it is dropped.
async fn export_whose_future_is_dropped_ends<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large().max(3_000_000));
    let _pinned = sample.import(&store).await?;
    for n_polls in [1, 2, 5, 20] {
        let (progress, mut events) = Progress::channel(1);
        let target = trial.user("target");
        let mut exporting = Box::pin(store.export(sample.hash, target, ExportMode::Copy, progress));
        for _ in 0..n_polls {
            assert!(future::poll_once(&mut exporting).await.is_none(), "it has come to an end");
            tokio::task::yield_now().await;
        }
        drop(exporting);
        while let Some(event) = next(&mut events).await? {
            assert!(!matches!(event, ExportProgress::Done { .. }));
        }
        let names = || trial.user_names().unwrap_or_default();
        eventually("there is a file", || names().is_empty()).await?;
    }
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

async fn store_that_is_dropped_can_be_opened_again_at_once<S: Map + Import>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    for number in 0..4 {
        let sample = Sample::numbered(if number % 2 == 0 { 1000 } else { 100_000 }, number);
        let pinned = sample.import(&store).await?;
        let entry = store.existing(sample.hash).await?;
        drop((entry.data_reader().await?, entry.outboard().await?, entry, pinned));
        trial.abandon(store);
        store = trial.open(trial.home()).await?;
    }
    Ok(())
}

async fn store_that_is_dropped_amid_work_can_be_opened_again<S: Map + Import + Export>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let sample = Sample::new(trial.large().min(2_000_000));
    for n_polls in [1, 2, 4, 8] {
        drop(sample.import(&store).await?);
        let mut importing = Box::pin(store.import(endless().0, ImportOptions::default(), Progress::none()));
        let target = trial.user(&n_polls.to_string());
        let mut exporting = Box::pin(store.export(sample.hash, target, ExportMode::Copy, Progress::none()));
        for _ in 0..n_polls {
            let _ = future::poll_once(&mut importing).await;
            if future::poll_once(&mut exporting).await.is_some() {
                break;
            }
        }
        drop((importing, exporting));
        store = trial.crash_and_reopen(store).await?;
    }
    Ok(())
}
