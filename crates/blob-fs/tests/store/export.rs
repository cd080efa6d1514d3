use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use blob_fs::FsStore;
use blob_traits::{
    Cancelled, Error, ExistingTarget, ExportMode, ExportOptions, ExportProgress, Hash, Progress, Result,
    prelude::*,
};

use crate::{
    drive::eventually,
    home::{Home, SETUPS, Setup, has_extension, open},
    sample::{Sample, chunks, import, write},
};

const REPLACE: ExportOptions = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };
const MODES: [ExportMode; 2] = [ExportMode::Copy, ExportMode::TryReference];

async fn stored(setup: Setup, sample: &Sample) -> (Home, FsStore) {
    let (home, store) = open(setup).await;
    import(&store, sample).await;
    (home, store)
}

async fn export(store: &FsStore, home: &Home, sample: &Sample, mode: ExportMode) -> Result<()> {
    store.export(sample.hash, home.user("target"), mode, Progress::none()).await
}

/// How many files hold bytes of a blob in the store.
fn n_data_files(home: &Home, sample: &Sample) -> usize {
    let name = sample.hash.to_string();
    home.files().keys().filter(|file| file.contains(&name) && has_extension(file, "data")).count()
}

#[tokio::test]
async fn exported_file_has_the_bytes_of_the_blob() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        for reopened in [false, true] {
            for sample in setup.sizes().into_iter().map(Sample::new) {
                import(&store, &sample).await;
                for mode in MODES {
                    let target = home.user(&format!("{} {mode:?} {reopened}", sample.size()));
                    store.export(sample.hash, target.clone(), mode, Progress::none()).await.unwrap();
                    assert_eq!(fs::read(target).unwrap(), sample.data);
                    assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
                }
            }
            store = home.reopen(store).await;
        }
        assert!(home.user_names().iter().all(|name| !name.starts_with('.')));
    }
}

#[tokio::test]
async fn what_cannot_be_exported_is_told_apart() {
    for setup in SETUPS {
        let sample = Sample::new(50_000);
        let (home, store) = stored(setup, &sample).await;
        for mode in MODES {
            let export = |hash, target| store.export(hash, target, mode, Progress::none());
            let absent = Hash::new(b"absent");
            let error = export(absent, home.user("target")).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { hash } if hash == absent));
            let error = export(sample.hash, "relative".into()).await.unwrap_err();
            assert!(matches!(error, Error::RelativePath { .. }));
            let below = home.user("no directory/target");
            let error = export(sample.hash, below.clone()).await.unwrap_err();
            assert!(matches!(error, Error::FileNotFound { path } if Some(path.as_path()) == below.parent()));
            let directory = home.user("").join("");
            for options in [mode.into(), ExportOptions { mode, ..REPLACE }] {
                let result = store.export(sample.hash, directory.clone(), options, Progress::none()).await;
                assert!(matches!(result, Err(Error::IsADirectory { .. })));
            }
            let partial = Sample::new(60_000);
            write(&store, partial.hash, 60_000, partial.items(&chunks(0..16))).await.unwrap();
            let error = export(partial.hash, home.user("target")).await.unwrap_err();
            assert!(matches!(error, Error::Incomplete { .. } | Error::SizeUnverified { .. }));
            assert!(home.user_names().is_empty());
        }
        // None of it has harmed the store.
        import(&store, &Sample::new(10)).await;
        let store = home.reopen(store).await;
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn existing_target_is_refused_or_replaced_as_asked() {
    for setup in SETUPS {
        for mode in MODES {
            let sample = Sample::new(50_000);
            let (home, store) = stored(setup, &sample).await;
            let store = home.reopen(store).await;
            let target = home.user_file("target", b"mine");
            let result = export(&store, &home, &sample, mode).await;
            assert!(matches!(result, Err(Error::TargetExists { path }) if path == target));
            assert_eq!(fs::read(&target).unwrap(), b"mine");
            let replace = ExportOptions { mode, ..REPLACE };
            store.export(sample.hash, target.clone(), replace, Progress::none()).await.unwrap();
            assert_eq!(fs::read(&target).unwrap(), sample.data);
            assert_eq!(home.user_names(), ["target"]);
        }
    }
}

#[tokio::test]
async fn link_in_place_of_the_target_is_not_followed() {
    for setup in SETUPS {
        for mode in MODES {
            let sample = Sample::new(70_000);
            let (home, store) = stored(setup, &sample).await;
            let store = home.reopen(store).await;
            let (mine, link) = (home.user("mine"), home.user("link"));
            for content in [None, Some("mine")] {
                if let Some(content) = content {
                    fs::write(&mine, content).unwrap();
                }
                std::os::unix::fs::symlink(&mine, &link).unwrap();
                let result = store.export(sample.hash, link.clone(), mode, Progress::none()).await;
                assert!(matches!(result, Err(Error::TargetExists { .. })));
                let replace = ExportOptions { mode, ..REPLACE };
                store.export(sample.hash, link.clone(), replace, Progress::none()).await.unwrap();
                assert!(link.symlink_metadata().unwrap().is_file());
                assert_eq!(fs::read(&mine).ok().as_deref(), content.map(str::as_bytes));
                fs::remove_file(&link).unwrap();
                import(&store, &sample).await;
            }
        }
    }
}

/// Somebody takes the name between the first look and the end.
#[tokio::test]
async fn target_that_appears_meanwhile_is_not_replaced() {
    for setup in SETUPS {
        for mode in MODES {
            let sample = Sample::new(50_000);
            let (home, store) = stored(setup, &sample).await;
            let store = home.reopen(store).await;
            let n_before = home.files().len();
            let name = home.user("target");
            let progress = Progress::from_fn(move |event| {
                if matches!(event, ExportProgress::Start { .. }) {
                    fs::write(&name, "mine").unwrap();
                }
                Ok(())
            });
            let result = store.export(sample.hash, home.user("target"), mode, progress).await;
            assert!(matches!(result, Err(Error::TargetExists { .. })));
            assert_eq!(fs::read(home.user("target")).unwrap(), b"mine");
            assert_eq!(home.user_names(), ["target"]);
            assert_eq!(home.files().len(), n_before);
            assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        }
    }
}

#[tokio::test]
async fn export_that_is_refused_at_any_event_leaves_no_file() {
    let sample = Sample::new(3_000_000);
    for setup in [Setup::Default, Setup::AllInlined] {
        for mode in MODES {
            let (home, store) = stored(setup, &sample).await;
            let store = home.reopen(store).await;
            let n_before = home.files().len();
            for n_allowed in 0.. {
                let n_events = AtomicUsize::new(0);
                let last_was_done = Arc::new(AtomicUsize::new(0));
                let done = last_was_done.clone();
                let progress = Progress::from_fn(move |event| {
                    done.store(usize::from(matches!(event, ExportProgress::Done { .. })), Ordering::SeqCst);
                    if n_events.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
                });
                let result = store.export(sample.hash, home.user("target"), mode, progress).await;
                if last_was_done.load(Ordering::SeqCst) == 1 {
                    assert!(result.is_ok() && n_allowed > 0);
                    assert_eq!(home.user_names(), ["target"]);
                    break;
                }
                assert!(matches!(result, Err(Error::Cancelled)));
                assert!(home.user_names().is_empty());
                assert_eq!(home.files().len(), n_before);
            }
        }
    }
}

#[tokio::test]
async fn copy_may_be_changed_without_harm() {
    for setup in SETUPS {
        let sample = Sample::new(100_000);
        let (home, store) = stored(setup, &sample).await;
        export(&store, &home, &sample, ExportMode::Copy).await.unwrap();
        fs::write(home.user("target"), vec![7; 100_000]).unwrap();
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
    }
}

/// A blob that was just imported, and one whose files have been moved to their place.
#[tokio::test]
async fn blob_is_moved_out_and_read_from_the_target() {
    for reopened in [false, true] {
        let sample = Sample::new(100_000);
        let (home, mut store) = stored(Setup::NothingInlined, &sample).await;
        if reopened {
            store = home.reopen(store).await;
        }
        export(&store, &home, &sample, ExportMode::TryReference).await.unwrap();
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        eventually(|| n_data_files(&home, &sample) == 0);
        let copy = home.user("copy");
        store.export(sample.hash, copy.clone(), ExportMode::TryReference, Progress::none()).await.unwrap();
        let store = home.reopen(store).await;
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        fs::write(&copy, "changed").unwrap();
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        fs::write(home.user("target"), vec![7; 100_000]).unwrap();
        let error = store.read_to_bytes(sample.hash).await.unwrap_err();
        assert!(matches!(error, Error::Changed { path, .. } if path == home.user("target")));
        store.delete(vec![sample.hash]).await.unwrap();
        let _store = home.reopen(store).await;
        assert_eq!(home.user_names(), ["copy", "target"]);
    }
}

#[tokio::test]
async fn start_says_whether_the_blob_is_moved_out() {
    for setup in SETUPS {
        for reopened in [false, true] {
            let sample = Sample::new(100_000);
            let (home, mut store) = stored(setup, &sample).await;
            if reopened {
                store = home.reopen(store).await;
            }
            let (progress, mut receiver) = Progress::channel(100);
            let target = home.user("target");
            store.export(sample.hash, target.clone(), ExportMode::TryReference, progress).await.unwrap();
            let stable = setup != Setup::AllInlined;
            let start = ExportProgress::Start { id: 0, hash: sample.hash, path: target, stable };
            assert_eq!(receiver.recv().await, Some(start), "{setup:?} {reopened}");
            if stable {
                assert_eq!(receiver.recv().await, Some(ExportProgress::Done { id: 0 }));
            }
        }
    }
}

/// Somebody has the blob open while it is moved out, and the user changes the file that is his now.
#[tokio::test]
async fn handle_from_before_the_move_never_reads_what_the_user_wrote() {
    for reopened in [false, true] {
        let sample = Sample::new(100_000);
        let (home, mut store) = stored(Setup::NothingInlined, &sample).await;
        if reopened {
            store = home.reopen(store).await;
        }
        let entry = store.existing(sample.hash).await.unwrap();
        let mut reader = entry.data_reader().await.unwrap();
        assert_eq!(reader.read_range(0, 10).await.unwrap(), sample.data[..10]);
        export(&store, &home, &sample, ExportMode::TryReference).await.unwrap();
        assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
        let target = fs::File::options().write(true).open(home.user("target")).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&target, &[0xaa; 1000], 50_000).unwrap();
        for reader in [&mut reader, &mut entry.data_reader().await.unwrap()] {
            for len in [100_000, 50_100] {
                match reader.read_range(0, len).await {
                    Ok(bytes) => assert_eq!(bytes, sample.data[..len]),
                    Err(error) => assert!(matches!(error.into(), Error::Changed { .. })),
                }
            }
            assert_eq!(reader.read_range(0, 16_384).await.unwrap(), sample.data[..16_384]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_exports_at_once_all_succeed() {
    for mode in MODES {
        let sample = Sample::new(200_000);
        let (home, store) = stored(Setup::Default, &sample).await;
        let store = home.reopen(store).await;
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let (store, target) = (store.clone(), home.user(&i.to_string()));
                tokio::spawn(async move { store.export(sample.hash, target, mode, Progress::none()).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        for i in 0..20 {
            assert_eq!(fs::read(home.user(&i.to_string())).unwrap(), sample.data);
        }
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        let store = home.reopen(store).await;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
    }
}
