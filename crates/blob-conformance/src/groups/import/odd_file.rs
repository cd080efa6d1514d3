//! Paths that stand for no readable regular file.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use blob_traits::{BlobFormat, Error, Import, ImportExt, ImportMode, ListBlobs, Map, Progress, Store};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::time::timeout;

use super::{file::MODES, way::check_empty};
use crate::{Failure, Outcome, Trial, case::group};

group! {
    "import", for S: Store;
    import_file_missing_notfound,
    import_file_relative_path_rejected,
    import_file_directory_rejected,
    import_file_fifo_socket_device_rejected_without_blocking,
    import_file_unreadable_permission_error_kind,
}

/// Imports what cannot be imported, and returns why not.
async fn refused<S: Import + ListBlobs>(store: &S, path: &Path, mode: ImportMode) -> Result<Error, Failure> {
    let import = store.import_file(path.to_owned(), mode, BlobFormat::Raw, Progress::none());
    let Ok(imported) = timeout(Duration::from_secs(5), import).await else {
        return Err(format!("the import of {} waits", path.display()).into());
    };
    let Err(error) = imported else { return Err(format!("{} was imported", path.display()).into()) };
    check_empty(store).await?;
    Ok(error)
}

async fn import_file_missing_notfound<S: Map + Import + ListBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    for missing in [trial.user("missing"), trial.user("missing/file")] {
        for mode in MODES {
            let error = refused(&store, &missing, mode).await?;
            assert!(matches!(&error, Error::FileNotFound { path } if *path == missing), "{error:?}");
        }
    }
    Ok(())
}

async fn import_file_relative_path_rejected<S: Import + ListBlobs>(_: &Trial<S>, store: S) -> Outcome {
    for relative in ["Cargo.toml", "./Cargo.toml", "../missing", ""].map(PathBuf::from) {
        for mode in MODES {
            let error = refused(&store, &relative, mode).await?;
            assert!(matches!(&error, Error::RelativePath { path } if *path == relative), "{error:?}");
        }
    }
    Ok(())
}

async fn import_file_directory_rejected<S: Map + Import + ListBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let link = trial.user("link");
    symlink(trial.user(""), &link)?;
    for directory in [trial.user(""), link] {
        for mode in MODES {
            let error = refused(&store, &directory, mode).await?;
            assert!(matches!(&error, Error::IsADirectory { path } if *path == directory), "{error:?}");
        }
    }
    Ok(())
}

async fn import_file_fifo_socket_device_rejected_without_blocking<S: Map + Import + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let [fifo, socket, link] = ["fifo", "socket", "link"].map(|name| trial.user(name));
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0)?;
    let _listener = UnixListener::bind(&socket)?;
    symlink(&fifo, &link)?;
    for odd in [fifo, socket, link, "/dev/null".into()] {
        for mode in MODES {
            let error = refused(&store, &odd, mode).await?;
            assert!(matches!(&error, Error::NotAFile { path } if *path == odd), "{error:?}");
        }
    }
    Ok(())
}

async fn import_file_unreadable_permission_error_kind<S: Map + Import + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    if rustix::process::geteuid().is_root() {
        return Err(Failure::skipped("the superuser may read every file"));
    }
    let secret = trial.user_file("secret", b"secret")?;
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000))?;
    for mode in MODES {
        let error = refused(&store, &secret, mode).await?;
        assert!(matches!(&error, Error::PermissionDenied { path } if *path == secret), "{error:?}");
    }
    Ok(())
}
