use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use blob_mem::MemStore;
use blob_traits::{
    BlobFormat, Cancelled, Error, ExistingTarget, ExportMode, ExportOptions, ExportProgress, Hash, Progress,
    prelude::*,
};

use crate::sample::{BOUNDARY_SIZES, Sample, chunks, write};

const REPLACE: ExportOptions = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };

async fn stored(sample: &Sample) -> MemStore {
    let store = MemStore::new();
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap();
    store
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[tokio::test]
async fn exported_file_has_the_bytes_of_the_blob() {
    let directory = tempfile::tempdir().unwrap();
    for size in BOUNDARY_SIZES {
        let sample = Sample::new(size);
        let store = stored(&sample).await;
        for mode in [ExportMode::Copy, ExportMode::TryReference] {
            let target = directory.path().join(format!("{size} {mode:?}"));
            store.export(sample.hash, target.clone(), mode, Progress::none()).await.unwrap();
            assert_eq!(std::fs::read(target).unwrap(), sample.data);
        }
    }
    assert_eq!(names(directory.path()).len(), BOUNDARY_SIZES.len() * 2);
}

#[tokio::test]
async fn what_cannot_be_exported_is_told_apart() {
    let sample = Sample::new(50_000);
    let store = stored(&sample).await;
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    let export = |hash, target| store.export(hash, target, ExportMode::Copy, Progress::none());

    let absent = Hash::new(b"absent");
    let error = export(absent, target.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { hash } if hash == absent));
    let error = export(sample.hash, "relative".into()).await.unwrap_err();
    assert!(matches!(error, Error::RelativePath { .. }));
    let below = directory.path().join("no directory/target");
    let error = export(sample.hash, below.clone()).await.unwrap_err();
    assert!(matches!(error, Error::FileNotFound { path } if Some(path.as_path()) == below.parent()));
    for options in [ExportOptions::default(), REPLACE] {
        let result = store.export(sample.hash, directory.path().to_owned(), options, Progress::none()).await;
        assert!(matches!(result, Err(Error::IsADirectory { .. })));
    }
    let partial = Sample::new(60_000);
    write(&store, partial.hash, 60_000, partial.items(&chunks(0..16))).await.unwrap();
    let error = export(partial.hash, target.clone()).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { first_missing: 16_384, .. }));
    assert!(names(directory.path()).is_empty());
}

#[tokio::test]
async fn existing_target_is_refused_or_replaced_as_asked() {
    let sample = Sample::new(50_000);
    let store = stored(&sample).await;
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    std::fs::write(&target, "mine").unwrap();
    let result = store.export(sample.hash, target.clone(), ExportMode::Copy, Progress::none()).await;
    assert!(matches!(result, Err(Error::TargetExists { path }) if path == target));
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    store.export(sample.hash, target.clone(), REPLACE, Progress::none()).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), sample.data);
    assert_eq!(names(directory.path()), ["target"]);
}

#[cfg(unix)]
#[tokio::test]
async fn link_in_place_of_the_target_is_not_followed() {
    let sample = Sample::new(50);
    let store = stored(&sample).await;
    let directory = tempfile::tempdir().unwrap();
    let (mine, link) = (directory.path().join("mine"), directory.path().join("link"));
    for content in [None, Some("mine")] {
        if let Some(content) = content {
            std::fs::write(&mine, content).unwrap();
        }
        std::os::unix::fs::symlink(&mine, &link).unwrap();
        let result = store.export(sample.hash, link.clone(), ExportMode::Copy, Progress::none()).await;
        assert!(matches!(result, Err(Error::TargetExists { .. })));
        store.export(sample.hash, link.clone(), REPLACE, Progress::none()).await.unwrap();
        assert!(link.symlink_metadata().unwrap().is_file());
        assert_eq!(std::fs::read(&mine).ok().as_deref(), content.map(str::as_bytes));
        std::fs::remove_file(&link).unwrap();
    }
}

/// Somebody takes the name between the first look and the end.
#[tokio::test]
async fn target_that_appears_meanwhile_is_not_replaced() {
    let sample = Sample::new(50_000);
    let store = stored(&sample).await;
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    let name = target.clone();
    let progress = Progress::from_fn(move |event| {
        if matches!(event, ExportProgress::Progress { .. }) {
            std::fs::write(&name, "mine").unwrap();
        }
        Ok(())
    });
    let result = store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await;
    assert!(matches!(result, Err(Error::TargetExists { .. })));
    assert_eq!(std::fs::read(&target).unwrap(), b"mine");
    assert_eq!(names(directory.path()), ["target"]);
}

#[tokio::test]
async fn export_that_is_refused_at_any_event_leaves_no_file() {
    let sample = Sample::new(3_000_000);
    let store = stored(&sample).await;
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    for n_allowed in 0.. {
        let n_events = AtomicUsize::new(0);
        let last_was_done = Arc::new(AtomicUsize::new(0));
        let done = last_was_done.clone();
        let progress = Progress::from_fn(move |event| {
            done.store(usize::from(matches!(event, ExportProgress::Done { .. })), Ordering::SeqCst);
            if n_events.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
        });
        let result = store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await;
        if last_was_done.load(Ordering::SeqCst) == 1 {
            assert!(result.is_ok() && n_allowed > 3);
            assert_eq!(names(directory.path()), ["target"]);
            break;
        }
        assert!(matches!(result, Err(Error::Cancelled)));
        assert!(names(directory.path()).is_empty());
    }
}
