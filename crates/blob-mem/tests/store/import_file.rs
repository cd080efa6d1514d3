use std::path::PathBuf;

use blob_mem::MemStore;
use blob_traits::{BlobFormat, Error, ImportMode, Progress, Result, prelude::*};

async fn import(store: &MemStore, path: PathBuf) -> Result<()> {
    store.import_file(path, ImportMode::Copy, BlobFormat::Raw, Progress::none()).await.map(drop)
}

#[tokio::test]
async fn what_cannot_be_imported_is_told_apart() {
    let store = MemStore::new();
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let error = import(&store, missing.clone()).await.unwrap_err();
    assert!(matches!(error, Error::FileNotFound { path } if path == missing));
    let error = import(&store, directory.path().to_owned()).await.unwrap_err();
    assert!(matches!(error, Error::IsADirectory { path } if path == directory.path()));
    let error = import(&store, "relative".into()).await.unwrap_err();
    assert!(matches!(error, Error::RelativePath { path } if path.as_os_str() == "relative"));
}

#[cfg(unix)]
#[tokio::test]
async fn fifo_socket_and_device_are_refused_without_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let store = MemStore::new();
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for odd in [fifo, socket, "/dev/null".into()] {
        let error = import(&store, odd.clone()).await.unwrap_err();
        assert!(matches!(error, Error::NotAFile { path } if path == odd));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn unreadable_file_is_a_matter_of_permission() {
    use std::os::unix::fs::PermissionsExt;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(file.path()).is_ok() {
        return; // root reads everything
    }
    let error = import(&MemStore::new(), file.path().to_owned()).await.unwrap_err();
    assert!(matches!(error, Error::PermissionDenied { .. }));
}

#[cfg(unix)]
#[tokio::test]
async fn link_to_a_file_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (file, link) = (directory.path().join("file"), directory.path().join("link"));
    std::fs::write(&file, "content").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    import(&MemStore::new(), link).await.unwrap();
}

#[tokio::test]
async fn later_edits_of_the_file_change_nothing() {
    let store = MemStore::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    for mode in [ImportMode::Copy, ImportMode::TryReference] {
        std::fs::write(file.path(), "before").unwrap();
        let import = store.import_file(file.path().to_owned(), mode, BlobFormat::Raw, Progress::none());
        let (tag, _) = import.await.unwrap();
        std::fs::write(file.path(), "after").unwrap();
        assert_eq!(store.read_to_bytes(tag.hash()).await.unwrap(), "before");
    }
}
