//! Exporting collections from a program.

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_fs::{FsStore, Options};
use blob_traits::{
    BlobFormat, Cancelled, Collection, Error, ExistingTarget, ExportFormat, ExportMode, ExportOptions,
    ExportProgress, Hash, Progress, TempTag, prelude::*,
};
use tempfile::TempDir;

/// A store with a collection of a few small files and a large one.
async fn collection() -> (TempDir, FsStore, TempTag) {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(Options::new(dir.path().join("store"))).await.unwrap();
    let mut collection = Collection::default();
    for (name, len) in [("a/b/small", 10), ("a/other", 20_000), ("large", 1_000_000), ("z", 0)] {
        let pinned = store.import_bytes(vec![7; len].into(), BlobFormat::Raw).await.unwrap();
        collection.push(name.to_owned(), pinned.hash());
        pinned.leak();
    }
    let root = collection.store(&store).await.unwrap();
    (dir, store, root)
}

fn assert_whole(target: &Path) {
    for (name, len) in [("a/b/small", 10), ("a/other", 20_000), ("large", 1_000_000), ("z", 0)] {
        assert_eq!(fs::read(target.join(name)).unwrap(), vec![7; len], "{name}");
    }
}

#[tokio::test]
async fn events_name_the_files_themselves() {
    let (dir, store, root) = collection().await;
    let target = dir.path().join("out");
    let (progress, mut events) = Progress::channel(1000);
    let options = ExportOptions::default();
    store.export_as(root.hash(), ExportFormat::Collection, target.clone(), options, progress).await.unwrap();
    assert_whole(&target);
    let (mut started, mut n_done) = (Vec::new(), 0);
    while let Some(event) = events.recv().await {
        match event {
            ExportProgress::Start { path, .. } => started.push(path),
            ExportProgress::Progress { .. } => {}
            ExportProgress::Done { .. } => n_done += 1,
        }
    }
    started.sort();
    assert_eq!(started, ["a/b/small", "a/other", "large", "z"].map(|name| target.join(name)));
    assert_eq!(n_done, 4);
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn target_must_be_absolute_and_its_parent_there() {
    let (dir, store, root) = collection().await;
    let export =
        |target: PathBuf| store.export_collection(root.hash(), target, ExportMode::Copy, Progress::none());
    let relative = export("out".into()).await;
    assert!(matches!(relative, Err(Error::RelativePath { path }) if path == Path::new("out")));
    let orphan = export(dir.path().join("missing/out")).await;
    assert!(matches!(orphan, Err(Error::FileNotFound { path }) if path == dir.path().join("missing")));
    let absent = store.export_collection(
        Hash::new("absent"),
        dir.path().join("out"),
        ExportMode::Copy,
        Progress::none(),
    );
    assert!(matches!(absent.await, Err(Error::NotFound { .. })));
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn files_that_are_moved_out_are_found_there() {
    let (dir, store, root) = collection().await;
    let target = dir.path().join("out");
    let large = Collection::load(root.hash(), &store).await.unwrap().into_iter().nth(2).unwrap().1;
    let moved = ExportMode::TryReference;
    store.export_collection(root.hash(), target.clone(), moved, Progress::none()).await.unwrap();
    assert_whole(&target);
    assert_eq!(store.read_verified(large, 5..10).await.unwrap(), &[7; 5][..]);
    store.shutdown().await.unwrap();
}

#[tokio::test]
async fn cancelled_export_leaves_whole_files_only() {
    let (dir, store, root) = collection().await;
    let target = dir.path().join("out");
    let cancelling = Progress::from_fn(|event| match event {
        ExportProgress::Start { path, .. } if path.ends_with("large") => Err(Cancelled),
        _ => Ok(()),
    });
    let cancelled = store.export_collection(root.hash(), target.clone(), ExportMode::Copy, cancelling).await;
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    store.sync().await.unwrap();
    for entry in walkdir::WalkDir::new(&target).into_iter().map(Result::unwrap) {
        let len = entry.metadata().unwrap().len();
        let name = entry.path().strip_prefix(&target).unwrap().to_string_lossy().into_owned();
        let expected = [("a/b/small", 10), ("a/other", 20_000), ("z", 0)].contains(&(name.as_str(), len));
        assert!(entry.file_type().is_dir() || expected, "{name}");
    }
    let options = ExportOptions { existing: ExistingTarget::Replace, ..ExportOptions::default() };
    store.export_collection(root.hash(), target.clone(), options, Progress::none()).await.unwrap();
    assert_whole(&target);
    store.shutdown().await.unwrap();
}
