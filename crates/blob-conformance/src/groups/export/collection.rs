//! Collections as directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use blob_traits::{
    Cancelled, Collection, Error, Export, ExportExt, ExportFormat, ExportMode, ExportProgress, Hash, Import,
    Map, MapExt, Progress, Result, Store, TempTag,
};
use bytes::Bytes;
use proptest::{collection::vec, prelude::any, sample::select};

use super::{MODES, assert_holds};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_collection_roundtrip_nested_names,
    export_collection_of_nothing_is_an_empty_directory,
    export_collection_same_child_under_many_names,
    export_collection_reports_each_child_under_its_own_path,
    export_collection_cancelled_leaves_whole_files_only,
    export_collection_failed_beforehand_can_be_repeated,
    export_as_follows_the_format,
}

/// Stores the children and the collection; returns what keeps each of them.
pub(super) async fn stored<S: Import>(store: &S, files: &[(&str, &Sample)]) -> Result<(Hash, Vec<TempTag>)> {
    let mut pinned = Vec::new();
    for (_, child) in files {
        pinned.push(child.import(store).await?);
    }
    let collection: Collection = files.iter().map(|(name, child)| (*name, child.hash)).collect();
    let root = collection.store(store).await?;
    let hash = root.hash();
    pinned.push(root);
    Ok((hash, pinned))
}

/// All files below a directory, by the names that they would have in a collection.
fn files_below(dir: &Path) -> std::io::Result<BTreeMap<String, Bytes>> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), dir.to_owned())];
    while let Some((prefix, at)) = open.pop() {
        for entry in fs::read_dir(at)? {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.file_type()?.is_dir() {
                open.push((format!("{name}/"), entry.path()));
            } else {
                found.insert(name, fs::read(entry.path())?.into());
            }
        }
    }
    Ok(found)
}

/// What a file of a collection is called: some directories, and a number that tells it from the others.
fn file_name(dirs: &[&str], number: usize, end: &str) -> String {
    let file = format!("f{number}{end}");
    dirs.iter().copied().chain([file.as_str()]).collect::<Vec<_>>().join("/")
}

async fn export_collection_roundtrip_nested_names<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let dirs = vec(select(&["d", "d e", "Ä", ".h", "e.g", "日本"][..]), 0..4);
    let ends = select(&["", ".txt", " x", "ß", ".tar.gz", "-", "'\"$*"][..]);
    let files = vec((dirs, ends, select(&[0, 1, 1000, 20_000][..])), 0..8);
    trial
        .for_all(8, (files, any::<bool>()), async |(files, is_copied)| {
            let target = trial.user("target");
            let _ = fs::remove_dir_all(&target);
            let files: Vec<_> = files
                .iter()
                .zip(0..)
                .map(|((dirs, end, size), number)| {
                    (file_name(dirs, number, end), Sample::numbered(*size, number as u64))
                })
                .collect();
            let named: Vec<_> = files.iter().map(|(name, child)| (name.as_str(), child)).collect();
            let (root, _pinned) = stored(&store, &named).await?;
            let mode = if is_copied { ExportMode::Copy } else { ExportMode::TryReference };
            store.export_collection(root, target.clone(), mode, Progress::none()).await?;
            let expected: BTreeMap<_, _> =
                files.into_iter().map(|(name, child)| (name, child.data)).collect();
            assert!(files_below(&target)? == expected);
            Ok(())
        })
        .await
}

async fn export_collection_of_nothing_is_an_empty_directory<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (root, _pinned) = stored(&store, &[]).await?;
    let target = trial.user("target");
    for _ in 0..2 {
        store.export_collection(root, target.clone(), ExportMode::Copy, Progress::none()).await?;
        assert!(fs::read_dir(&target)?.next().is_none());
    }
    Ok(())
}

/// More names than files are written at once, and a blob that only one of them can be moved out to.
async fn export_collection_same_child_under_many_names<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (mode, child) in MODES.into_iter().zip([Sample::new(1000), Sample::new(trial.large())]) {
        let n = if mode == ExportMode::Copy { 40 } else { 3 };
        let names: Vec<_> = (0..n).map(|number| format!("{}/{number}", number % 5)).collect();
        let files: Vec<_> = names.iter().map(|name| (name.as_str(), &child)).collect();
        let (root, _pinned) = stored(&store, &files).await?;
        let target = trial.user(&format!("{mode:?}"));
        store.export_collection(root, target.clone(), mode, Progress::none()).await?;
        assert_eq!(files_below(&target)?.len(), n);
        for name in names {
            assert_holds(&target.join(name), &child);
        }
        assert!(store.read_verified(child.hash, 0..u64::MAX).await? == child.data);
    }
    Ok(())
}

async fn export_collection_reports_each_child_under_its_own_path<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (a, b) = (Sample::numbered(1000, 1), Sample::numbered(20_000, 2));
    let files = [("a", &a), ("dir/a", &a), ("dir/deep/b", &b)];
    let (root, _pinned) = stored(&store, &files).await?;
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        let (progress, mut events) = Progress::channel(100);
        store.export_collection(root, target.clone(), mode, progress).await?;
        let (mut begun, mut ended, mut paths) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        while let Some(event) = events.recv().await {
            match event {
                ExportProgress::Start { id, hash, path, .. } => {
                    assert!(begun.insert(id), "two files have the number {id}");
                    paths.insert(path, hash);
                }
                ExportProgress::Progress { id, .. } => assert!(begun.contains(&id) && !ended.contains(&id)),
                ExportProgress::Done { id } => assert!(begun.contains(&id) && ended.insert(id)),
            }
        }
        assert_eq!(begun, ended);
        let expected: BTreeMap<_, _> =
            files.iter().map(|(name, child)| (target.join(name), child.hash)).collect();
        assert_eq!(paths, expected);
    }
    Ok(())
}

async fn export_collection_cancelled_leaves_whole_files_only<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(20_000);
    let names: Vec<_> = (0..30).map(|number| format!("dir/{number}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), &child)).collect();
    let (root, _pinned) = stored(&store, &files).await?;
    for n_allowed in [0, 1, 20, 50] {
        let target = trial.user(&n_allowed.to_string());
        let n_events = AtomicUsize::new(0);
        let progress = Progress::from_fn(move |_| {
            if n_events.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
        });
        let ended = store.export_collection(root, target.clone(), ExportMode::Copy, progress).await;
        assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
        let written = files_below(&target)?;
        assert!(written.len() < names.len(), "all was written");
        for (name, data) in written {
            assert!(names.contains(&name) && data == child.data, "{name}");
        }
    }
    Ok(())
}

async fn export_collection_failed_beforehand_can_be_repeated<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(1000);
    let (root, _pinned) = stored(&store, &[("a", &child), ("dir/b", &child)]).await?;
    let target = trial.user("target");
    fs::create_dir(&target)?;
    fs::write(target.join("a"), "mine")?;
    let refused = store.export_collection(root, target.clone(), ExportMode::Copy, Progress::none()).await;
    assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
    fs::remove_file(target.join("a"))?;
    store.export_collection(root, target.clone(), ExportMode::Copy, Progress::none()).await?;
    assert_eq!(files_below(&target)?.len(), 2);
    Ok(())
}

async fn export_as_follows_the_format<S: Map + Import + Export + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(1000);
    let (root, _pinned) = stored(&store, &[("a", &child)]).await?;
    let (file, directory) = (trial.user("file"), trial.user("directory"));
    let mode = ExportMode::Copy;
    store.export_as(root, ExportFormat::Blob, file.clone(), mode, Progress::none()).await?;
    assert_eq!(store.read_to_bytes(root).await?, fs::read(file)?);
    store.export_as(root, ExportFormat::Collection, directory.clone(), mode, Progress::none()).await?;
    assert_holds(&directory.join("a"), &child);
    Ok(())
}
