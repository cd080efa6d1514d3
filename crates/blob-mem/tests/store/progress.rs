use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use blob_mem::MemStore;
use blob_traits::{
    BlobFormat, Cancelled, EntryStatus, Error, ExportMode, ExportProgress, ImportMode, ImportProgress,
    ImportSource, Progress, collect, prelude::*,
};
use futures_lite::stream;

use crate::sample::{Sample, status};

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
                assert!((last < *offset && *offset <= size) || size == 0, "{offset} after {last}");
                last = *offset;
                if matches!(event, ImportProgress::CopyProgress { .. }) { 'C' } else { 'O' }
            }
            ImportProgress::OutboardDone { id: 0, .. } => 'D',
            other => panic!("{other:?}"),
        });
    }
    letters
}

fn sources(sample: &Sample, path: &std::path::Path) -> [ImportSource; 3] {
    std::fs::write(path, &sample.data).unwrap();
    let pieces: Vec<_> = sample.data.chunks(100_000).map(|piece| Ok(sample.data.slice_ref(piece))).collect();
    [
        ImportSource::Bytes(sample.data.clone()),
        ImportSource::Stream(Box::pin(stream::iter(pieces))),
        ImportSource::File { path: path.to_owned(), mode: ImportMode::Copy },
    ]
}

#[tokio::test]
async fn import_reports_in_order_and_ends_with_the_total() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for size in [0, 1, 100_000, 3_500_000] {
        let sample = Sample::new(size);
        for (i, source) in sources(&sample, file.path()).into_iter().enumerate() {
            let (progress, mut receiver) = Progress::channel(1000);
            MemStore::new().import(source, BlobFormat::Raw.into(), progress).await.unwrap();
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                events.push(event);
            }
            let letters = grammar(&events, sample.size());
            let (copied, hashed) = letters.split_once('S').unwrap();
            assert!(copied.starts_with('F') && copied[1..].bytes().all(|letter| letter == b'C'), "{letters}");
            assert_eq!(copied.len() > 1, i > 0);
            assert!(hashed.trim_start_matches('O') == "D" && hashed.len() > 1, "{letters}");
            let total = ImportProgress::OutboardProgress { id: 0, offset: sample.size() };
            assert_eq!(events[events.len() - 2], total);
            if size > 3_000_000 {
                assert!(hashed.len() > 3, "{letters}");
            }
        }
    }
}

#[tokio::test]
async fn slow_consumer_misses_offsets_only() {
    let sample = Sample::new(5_000_000);
    let (progress, mut receiver) = Progress::channel(1);
    let store = MemStore::new();
    let consumer = tokio::spawn(async move {
        let mut events = Vec::new();
        while let Some(event) = receiver.recv().await {
            tokio::task::yield_now().await;
            events.push(event);
        }
        events
    });
    let source = ImportSource::Bytes(sample.data.clone());
    store.import(source, BlobFormat::Raw.into(), progress).await.unwrap();
    let events = consumer.await.unwrap();
    assert!(matches!(events[..2], [ImportProgress::Found { .. }, ImportProgress::Size { .. }]));
    let end = [
        ImportProgress::OutboardProgress { id: 0, offset: 5_000_000 },
        ImportProgress::OutboardDone { id: 0, hash: sample.hash },
    ];
    assert_eq!(events[events.len() - 2..], end);
}

#[tokio::test]
async fn import_that_is_refused_at_any_event_leaves_nothing() {
    let sample = Sample::new(3_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    for which in 0..3 {
        for n_allowed in 0.. {
            let [bytes, stream, path] = sources(&sample, file.path());
            let source = [bytes, stream, path].into_iter().nth(which).unwrap();
            let n_events = Arc::new(AtomicUsize::new(0));
            let counted = n_events.clone();
            let progress = Progress::from_fn(move |_| {
                if counted.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
            });
            let store = MemStore::new();
            let result = store.import(source, BlobFormat::Raw.into(), progress).await;
            if n_events.load(Ordering::SeqCst) <= n_allowed {
                assert!(result.is_ok());
                break;
            }
            assert!(matches!(result, Err(Error::Cancelled)));
            assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
            assert_eq!(store.temp_tags().count(), 0);
        }
    }
}

#[tokio::test]
async fn receiver_that_is_gone_cancels_an_import() {
    let sample = Sample::new(10);
    let store = MemStore::new();
    let (progress, receiver) = Progress::channel(8);
    drop(receiver);
    let source = ImportSource::Bytes(sample.data.clone());
    let result = store.import(source, BlobFormat::Raw.into(), progress).await;
    assert!(matches!(result, Err(Error::Cancelled)));
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
}

#[tokio::test]
async fn export_reports_start_offsets_and_done() {
    let sample = Sample::new(3_500_000);
    let store = MemStore::new();
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    let (progress, mut receiver) = Progress::channel(100);
    store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await.unwrap();
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    let offsets: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            ExportProgress::Progress { id: 0, offset } => Some(*offset),
            _ => None,
        })
        .collect();
    assert_eq!(events.len(), offsets.len() + 2);
    assert_eq!(events[0], ExportProgress::Start { id: 0, hash: sample.hash, path: target, stable: false });
    assert_eq!(events.last(), Some(&ExportProgress::Done { id: 0 }));
    assert!(offsets.is_sorted_by(|a, b| a < b) && offsets.len() > 1);
    assert_eq!(offsets.last(), Some(&3_500_000));
}
