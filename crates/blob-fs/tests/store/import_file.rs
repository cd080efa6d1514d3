use std::{
    fs::File,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use blob_fs::FsStore;
use blob_traits::{BlobFormat, Error, ImportMode, ImportProgress, Progress, Result, TempTag, prelude::*};

use crate::{
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, status},
};

const MODES: [ImportMode; 2] = [ImportMode::Copy, ImportMode::TryReference];

async fn import(store: &FsStore, path: PathBuf, mode: ImportMode) -> Result<TempTag> {
    Ok(store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?.0)
}

#[tokio::test]
async fn what_cannot_be_imported_is_told_apart() {
    let (home, store) = open(Setup::Default).await;
    let missing = home.user("missing");
    let link = home.user("link");
    std::os::unix::fs::symlink(home.user(""), &link).unwrap();
    for mode in MODES {
        let error = import(&store, missing.clone(), mode).await.unwrap_err();
        assert!(matches!(error, Error::FileNotFound { path } if path == missing));
        let error = import(&store, home.user(""), mode).await.unwrap_err();
        assert!(matches!(error, Error::IsADirectory { path } if path == home.user("")));
        let error = import(&store, link.clone(), mode).await.unwrap_err();
        assert!(matches!(error, Error::IsADirectory { path } if path == link));
        let error = import(&store, "relative".into(), mode).await.unwrap_err();
        assert!(matches!(error, Error::RelativePath { path } if path.as_os_str() == "relative"));
    }
    assert_eq!(home.n_temporary(), 0);
}

#[tokio::test]
async fn fifo_socket_and_device_are_refused_without_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let (home, store) = open(Setup::Default).await;
    let (fifo, socket, link) = (home.user("fifo"), home.user("socket"), home.user("link"));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    for odd in [fifo, socket, link, "/dev/null".into(), "/dev/zero".into()] {
        for mode in MODES {
            let error = import(&store, odd.clone(), mode).await.unwrap_err();
            assert!(matches!(error, Error::NotAFile { path } if path == odd));
        }
    }
}

#[tokio::test]
async fn unreadable_file_is_a_matter_of_permission() {
    use std::os::unix::fs::PermissionsExt;
    let (home, store) = open(Setup::Default).await;
    let path = home.user_file("secret", b"secret");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        return; // root reads everything
    }
    let error = import(&store, path, ImportMode::Copy).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }));
}

#[tokio::test]
async fn link_to_a_file_is_followed() {
    let (home, store) = open(Setup::Default).await;
    for (i, mode) in MODES.into_iter().enumerate() {
        let sample = Sample::numbered(100_000, i);
        let file = home.user_file(&format!("file{i}"), &sample.data);
        let link = home.user(&format!("link{i}"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let tag = import(&store, link, mode).await.unwrap();
        assert_eq!(store.read_to_bytes(tag.hash()).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn copied_file_may_be_changed_removed_and_was_not_touched() {
    for setup in SETUPS {
        for (size, mode) in
            [(1000, ImportMode::Copy), (100_000, ImportMode::Copy), (1000, ImportMode::TryReference)]
        {
            if mode == ImportMode::TryReference && setup == Setup::NothingInlined {
                continue; // used in place
            }
            let (home, store) = open(setup).await;
            let sample = Sample::new(size);
            let path = home.user_file("file", &sample.data);
            let then = SystemTime::now() - Duration::from_hours(1);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
            let tag = import(&store, path.clone(), mode).await.unwrap();
            assert_eq!(path.metadata().unwrap().modified().unwrap(), then);
            assert_eq!(std::fs::read(&path).unwrap(), sample.data);
            std::fs::write(&path, "after").unwrap();
            assert_eq!(store.read_to_bytes(tag.hash()).await.unwrap(), sample.data);
            std::fs::remove_file(&path).unwrap();
            assert_eq!(store.read_to_bytes(tag.hash()).await.unwrap(), sample.data);
        }
    }
}

#[tokio::test]
async fn holes_are_zeros() {
    let (home, store) = open(Setup::Default).await;
    let path = home.user("sparse");
    File::create(&path).unwrap().set_len(3_000_001).unwrap();
    for mode in MODES {
        let tag = import(&store, path.clone(), mode).await.unwrap();
        assert_eq!(tag.hash(), blake3::hash(&vec![0; 3_000_001]).into());
        store.delete(vec![tag.hash()]).await.unwrap();
    }
}

/// Somebody writes to the file while it is read.
#[tokio::test]
async fn file_that_changes_meanwhile_is_stored_as_it_was_read_or_refused() {
    for setup in SETUPS {
        for mode in MODES {
            let (home, store) = open(setup).await;
            let path = home.user_file("file", &Sample::new(5_000_000).data);
            let changed = path.clone();
            let progress = Progress::from_fn(move |event| {
                if matches!(
                    event,
                    ImportProgress::CopyProgress { .. } | ImportProgress::OutboardProgress { .. }
                ) {
                    let file = File::options().write(true).open(&changed).unwrap();
                    std::os::unix::fs::FileExt::write_all_at(&file, b"meanwhile", 4_999_000).unwrap();
                }
                Ok(())
            });
            let (tag, size) = match store.import_file(path, mode, BlobFormat::Raw, progress).await {
                Ok(imported) => imported,
                Err(error) => {
                    assert!(matches!(error, Error::Changed { .. }), "{error}");
                    assert_eq!((home.n_temporary(), store.temp_tags().count()), (0, 0));
                    continue;
                }
            };
            let read = store.read_verified(tag.hash(), 0..u64::MAX).await;
            match read {
                Ok(bytes) => {
                    assert_eq!((blob_traits::Hash::new(&bytes), bytes.len() as u64), (tag.hash(), size));
                }
                Err(error) => assert!(matches!(error, Error::Changed { .. })),
            }
        }
    }
}

#[tokio::test]
async fn import_of_a_file_can_be_repeated_after_it_was_refused() {
    let sample = Sample::new(5_000_000);
    for mode in MODES {
        let home = Home::new(Setup::NothingInlined);
        let store = home.open().await;
        let path = home.user_file("file", &sample.data);
        let refused = Progress::from_fn(|event| {
            let phase = matches!(event, ImportProgress::OutboardDone { .. });
            if phase { Err(blob_traits::Cancelled) } else { Ok(()) }
        });
        let result = store.import_file(path.clone(), mode, BlobFormat::Raw, refused).await;
        assert!(matches!(result, Err(Error::Cancelled)));
        assert_eq!(status(&store, sample.hash), blob_traits::EntryStatus::NotFound);
        assert_eq!((home.n_temporary(), store.temp_tags().count()), (0, 0));
        assert_eq!(import(&store, path.clone(), mode).await.unwrap().hash(), sample.hash);
    }
}
