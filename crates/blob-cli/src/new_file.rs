//! Files that appear whole or not at all.

use std::{
    fs::{self, File, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Result, blocking::unblock};
use tempfile::{Builder, NamedTempFile};

use crate::{exit::Failure, open::absolute};

/// A file that is being written beside its target. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct NewFile {
    temp: NamedTempFile,
    target: PathBuf,
    replace: bool,
}

impl NewFile {
    /// Begins a file. What is there already is replaced at the end, by `force`, if it is a regular file.
    pub(crate) async fn begin(target: &Path, force: bool) -> Result<Self, Failure> {
        let target = absolute(target)?;
        Ok(unblock(move || Self::begin_blocking(target, force)).await?)
    }

    fn begin_blocking(target: PathBuf, replace: bool) -> Result<Self> {
        match fs::symlink_metadata(&target) {
            Ok(found) if found.is_dir() => return Err(Error::IsADirectory { path: target }),
            Ok(_) if !replace => return Err(Error::TargetExists { path: target }),
            Ok(found) if !found.is_file() && !found.is_symlink() => {
                return Err(Error::NotAFile { path: target });
            }
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look at", target, e)),
        }
        let parent = target.parent().unwrap_or(&target);
        let temp = Builder::new()
            .prefix(".blob-")
            // Less the user's mask, as for any new file.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(parent)
            .map_err(|e| Error::io("create a file in", parent, e))?;
        Ok(Self { temp, target, replace })
    }

    /// Returns another handle to write through.
    pub(crate) fn handle(&self) -> Result<File> {
        self.temp.as_file().try_clone().map_err(|e| Error::io("write", &self.target, e))
    }

    /// The path that the file will have.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Makes the file durable and gives it its name.
    pub(crate) async fn finish(self) -> Result<()> {
        unblock(move || self.finish_blocking()).await
    }

    fn finish_blocking(self) -> Result<()> {
        let failed = |e| Error::io("write", &self.target, e);
        self.temp.as_file().sync_all().map_err(failed)?;
        let named = if self.replace {
            self.temp.persist(&self.target)
        } else {
            self.temp.persist_noclobber(&self.target)
        };
        named.map_err(|e| failed(e.error))?;
        let parent = self.target.parent().unwrap_or(&self.target);
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(|e| Error::io("sync", parent, e))
    }
}
