use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, Cancelled, EntryStatus, Error, ExportMode, ExportProgress, ImportMode, ImportProgress,
    ImportSource, Progress, collect, prelude::*,
};
use futures_lite::stream;

use crate::{
    drive::eventually,
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, import, status},
};

/// The events of an import as letters, with the offsets of each phase checked.
fn grammar(events: &[ImportProgress], size: u64) -> String {
    let mut last = 0;
    let mut letters = String::new();
    for event in events {
        letters.push(match event {
            ImportProgress::Found { id: 0, .. } => 'F',
            ImportProgress::Size { id: 0, size: found } => {
                assert_eq!(*found, size);
                last = 0;
                'S'
            }
            ImportProgress::CopyProgress { id: 0, offset }
            | ImportProgress::OutboardProgress { id: 0, offset } => {
                assert!(
                    (last < *offset && *offset <= size) || size == 0,
                    "{offset} after {last}: {events:?}"
                );
                last = *offset;
                if matches!(event, ImportProgress::CopyProgress { .. }) { 'C' } else { 'O' }
            }
            ImportProgress::OutboardDone { id: 0, .. } => 'D',
            other => panic!("{other:?}"),
        });
    }
    letters
}

fn sources(sample: &Sample, path: &Path) -> [ImportSource; 4] {
    std::fs::write(path, &sample.data).unwrap();
    let pieces: Vec<_> = sample.data.chunks(100_000).map(|piece| Ok(sample.data.slice_ref(piece))).collect();
    [
        ImportSource::Bytes(sample.data.clone()),
        ImportSource::Stream(Box::pin(stream::iter(pieces))),
        ImportSource::File { path: path.to_owned(), mode: ImportMode::Copy },
        ImportSource::File { path: path.to_owned(), mode: ImportMode::TryReference },
    ]
}

async fn events_of<E: Send + 'static>(mut receiver: tokio::sync::mpsc::Receiver<E>) -> Vec<E> {
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events
}

/// Imports from each source and checks what is reported.
async fn check_import(home: &Home, store: &FsStore, size: usize) {
    let sample = Sample::new(size);
    for source in sources(&sample, &home.user("source")) {
        store.delete(vec![sample.hash]).await.unwrap();
        let (progress, receiver) = Progress::channel(1000);
        let what = format!("{source:?} {size}");
        store.import(source, BlobFormat::Raw.into(), progress).await.unwrap();
        let events = events_of(receiver).await;
        let letters = grammar(&events, sample.size());
        let (copied, hashed) = letters.split_once('S').unwrap();
        assert!(
            copied.starts_with('F') && copied[1..].bytes().all(|letter| letter == b'C'),
            "{what}: {letters}"
        );
        if copied.len() > 1 {
            let total = ImportProgress::CopyProgress { id: 0, offset: sample.size() };
            assert_eq!(events[copied.len() - 1], total, "{what}");
        }
        assert!(hashed.trim_start_matches('O') == "D" && hashed.len() > 1, "{what}: {letters}");
        let total = ImportProgress::OutboardProgress { id: 0, offset: sample.size() };
        assert_eq!(events[events.len() - 2], total, "{what}");
        assert!(
            size < 3_000_000 || store.dir().ends_with("inlined") || letters.len() > 6,
            "{what}: {letters}"
        );
    }
    store.delete(vec![sample.hash]).await.unwrap();
}

#[tokio::test]
async fn import_reports_in_order_and_ends_with_the_total() {
    for setup in [Setup::Default, Setup::NothingInlined, Setup::Tiny] {
        let (home, store) = open(setup).await;
        for size in [0, 1, 100_000, 3_500_000] {
            check_import(&home, &store, size).await;
        }
    }
    let (home, store) = open(Setup::AllInlined).await;
    for size in [0, 1, 100_000] {
        check_import(&home, &store, size).await;
    }
}

#[tokio::test]
async fn slow_consumer_misses_offsets_only() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(5_000_000);
        for source in sources(&sample, &home.user("source")) {
            store.delete(vec![sample.hash]).await.unwrap();
            let (progress, mut receiver) = Progress::channel(1);
            let consumer = tokio::spawn(async move {
                let mut events = Vec::new();
                while let Some(event) = receiver.recv().await {
                    tokio::task::yield_now().await;
                    events.push(event);
                }
                events
            });
            store.import(source, BlobFormat::Raw.into(), progress).await.unwrap();
            let events = consumer.await.unwrap();
            let letters = grammar(&events, 5_000_000);
            let at = letters.find('S').unwrap();
            if letters.contains('C') {
                assert_eq!(events[at - 1], ImportProgress::CopyProgress { id: 0, offset: 5_000_000 });
            }
            let end = [
                ImportProgress::OutboardProgress { id: 0, offset: 5_000_000 },
                ImportProgress::OutboardDone { id: 0, hash: sample.hash },
            ];
            assert_eq!(events[events.len() - 2..], end);
        }
    }
}

#[tokio::test]
async fn import_that_is_refused_at_any_event_leaves_nothing() {
    let sample = Sample::new(3_000_000);
    for setup in SETUPS {
        for which in 0..4 {
            for n_allowed in 0.. {
                let (home, store) = open(setup).await;
                let source = sources(&sample, &home.user("source")).into_iter().nth(which).unwrap();
                let n_events = Arc::new(AtomicUsize::new(0));
                let counted = n_events.clone();
                let progress = Progress::from_fn(move |_| {
                    if counted.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
                });
                let result = store.import(source, BlobFormat::Raw.into(), progress).await;
                if n_events.load(Ordering::SeqCst) <= n_allowed {
                    assert!(result.is_ok());
                    break;
                }
                assert!(matches!(result, Err(Error::Cancelled)));
                assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
                assert_eq!((store.temp_tags().count(), home.n_temporary()), (0, 0));
            }
        }
    }
}

#[tokio::test]
async fn receiver_that_is_gone_cancels_an_import() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(100_000);
        for source in sources(&sample, &home.user("source")) {
            let (progress, receiver) = Progress::channel(8);
            drop(receiver);
            let result = store.import(source, BlobFormat::Raw.into(), progress).await;
            assert!(matches!(result, Err(Error::Cancelled)));
            assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
            assert_eq!((store.temp_tags().count(), home.n_temporary()), (0, 0));
        }
    }
}

/// Nobody takes the events, and nobody waits for the operation any more: the work behind it must end.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_future_ends_the_work_also_when_the_channel_is_full() {
    let sample = Sample::new(300_000);
    for capacity in 1..6 {
        let (home, store) = open(Setup::NothingInlined).await;
        for source in sources(&sample, &home.user("source")) {
            let (progress, receiver) = Progress::channel(capacity);
            let import = store.import(source, BlobFormat::Raw.into(), progress);
            futures_lite::future::or(async { drop(import.await) }, wait_full(&receiver, capacity)).await;
            eventually(|| receiver.sender_strong_count() == 0);
            store.delete(vec![sample.hash]).await.unwrap();
            eventually(|| home.n_temporary() == 0 && store.temp_tags().count() == 0);
        }
        import(&store, &sample).await;
        for mode in [ExportMode::Copy, ExportMode::TryReference] {
            let (progress, receiver) = Progress::channel(capacity);
            let export = store.export(sample.hash, home.user("target"), mode, progress);
            futures_lite::future::or(async { drop(export.await) }, wait_full(&receiver, capacity)).await;
            eventually(|| receiver.sender_strong_count() == 0);
            assert!(home.user_names().iter().all(|name| !name.starts_with('.')));
            let _ = std::fs::remove_file(home.user("target"));
        }
    }
}

/// Waits until the channel holds all it can.
async fn wait_full<E>(receiver: &tokio::sync::mpsc::Receiver<E>, capacity: usize) {
    while receiver.len() < capacity {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_imports_at_once_are_unique() {
    let (_home, store) = open(Setup::Default).await;
    let (progress, receiver) = Progress::channel(1000);
    let tasks: Vec<_> = (0..20)
        .map(|i| {
            let (store, progress, data) = (store.clone(), progress.clone(), Sample::numbered(100, i).data);
            let source = ImportSource::Bytes(data);
            tokio::spawn(async move { store.import(source, BlobFormat::Raw.into(), progress).await.unwrap() })
        })
        .collect();
    drop(progress);
    for task in tasks {
        task.await.unwrap();
    }
    let mut ids: Vec<_> = events_of(receiver)
        .await
        .into_iter()
        .filter_map(|event| match event {
            ImportProgress::Found { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

#[tokio::test]
async fn export_reports_start_offsets_and_done() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(3_500_000);
        import(&store, &sample).await;
        let (progress, receiver) = Progress::channel(100);
        let target = home.user("target");
        store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await.unwrap();
        let events = events_of(receiver).await;
        let offsets: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                ExportProgress::Progress { id: 0, offset } => Some(*offset),
                _ => None,
            })
            .collect();
        assert_eq!(events.len(), offsets.len() + 2);
        let start = ExportProgress::Start { id: 0, hash: sample.hash, path: target, stable: false };
        assert_eq!((&events[0], events.last()), (&start, Some(&ExportProgress::Done { id: 0 })));
        assert!(offsets.is_sorted_by(|a, b| a < b) && offsets.len() > 1);
        assert_eq!(offsets.last(), Some(&3_500_000));
    }
}

#[tokio::test]
async fn receiver_that_is_gone_cancels_an_export() {
    for setup in SETUPS {
        for mode in [ExportMode::Copy, ExportMode::TryReference] {
            let (home, store) = open(setup).await;
            let sample = Sample::new(100_000);
            import(&store, &sample).await;
            let (progress, receiver) = Progress::channel(8);
            drop(receiver);
            let result = store.export(sample.hash, home.user("target"), mode, progress).await;
            assert!(matches!(result, Err(Error::Cancelled)));
            assert!(home.user_names().is_empty());
            assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        }
    }
}

/// Where the file system shares blocks nothing is copied, and nothing is reported as copied.
#[tokio::test]
async fn shared_blocks_are_not_reported_as_copied() {
    let home = Home::sharing_blocks();
    let mut store = home.open().await;
    for size in [1, 100_000, 3_500_000] {
        let sample = Sample::new(size);
        let [_, _, copy, _] = sources(&sample, &home.user("source"));
        let (progress, receiver) = Progress::channel(1000);
        store.import(copy, BlobFormat::Raw.into(), progress).await.unwrap();
        assert_eq!(grammar(&events_of(receiver).await, sample.size()), "FSOD");
        store = home.reopen(store).await;
        let (progress, receiver) = Progress::channel(1000);
        let target = home.user(&size.to_string());
        store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await.unwrap();
        assert_eq!(events_of(receiver).await.len(), 2);
        assert_eq!(std::fs::read(target).unwrap(), sample.data);
    }
}
