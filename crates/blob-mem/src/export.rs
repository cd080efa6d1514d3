//! Taking whole blobs out.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bao_tree::blake3::Hasher;
use blob_traits::{
    Error, ExistingTarget, Export, ExportOptions, ExportProgress, Hash, Progress, Result,
    blocking::{Alive, unblock},
};
use bytes::Bytes;

use crate::{
    entry::{Blob, Content},
    store::MemStore,
};

/// How much is written between two reports.
const STEP_BYTES: usize = 1 << 20;

impl Export for MemStore {
    /// Copies, also with [`ExportMode::TryReference`](blob_traits::ExportMode::TryReference).
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        let existing = options.into().existing;
        if !target.is_absolute() {
            return Err(Error::RelativePath { path: target });
        }
        let blob = {
            let state = self.state()?;
            self.find(&state, hash).ok_or(Error::NotFound { hash })?
        };
        let data = whole_data(&blob)?;
        let size = data.len() as u64;
        let alive = Alive::default();
        let watch = alive.watch();
        let target = unblock(move || check_target(target, existing)).await?;
        let id = progress.new_id();
        progress.send(ExportProgress::Start { id, hash, path: target.clone(), stable: false }).await?;
        let each = progress.clone();
        let written = unblock(move || {
            Written::create(target, existing)?.fill(hash, &data, |offset| {
                watch.check()?;
                each.try_send(ExportProgress::Progress { id, offset })
            })
        })
        .await?;
        progress.send(ExportProgress::Progress { id, offset: size }).await?;
        let watch = alive.watch();
        unblock(move || {
            watch.check()?;
            written.publish()
        })
        .await?;
        // The file is there: nobody who listens no longer can change that.
        let _ = progress.send(ExportProgress::Done { id }).await;
        Ok(())
    }
}

fn whole_data(blob: &Blob) -> Result<Bytes> {
    match &*blob.content() {
        Content::Whole(whole) => Ok(whole.data.clone()),
        Content::Partial(pieces) | Content::Removed(pieces) => {
            let tree = pieces.tree();
            tree.require(blob.hash, 0..u64::MAX)?;
            // all of it may be there, but nobody has said that the blob is complete
            let size = tree.size().value();
            Err(Error::Incomplete {
                hash: blob.hash,
                first_missing: size,
                n_missing: 0,
                n_chunks: size.div_ceil(1024),
            })
        }
    }
}

/// Checks what can be known before anything is written.
fn check_target(target: PathBuf, existing: ExistingTarget) -> Result<PathBuf> {
    match fs::symlink_metadata(&target) {
        Ok(metadata) if metadata.is_dir() => Err(Error::IsADirectory { path: target }),
        Ok(_) if existing == ExistingTarget::Refuse => Err(Error::TargetExists { path: target }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("look at", target, error)),
        _ => match target.parent().map(Path::exists) {
            Some(true) => Ok(target),
            _ => Err(Error::FileNotFound { path: target.parent().map(Path::to_owned).unwrap_or(target) }),
        },
    }
}

/// A file beside the target, under a temporary name; removed when it is dropped before it is published.
struct Written {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    existing: ExistingTarget,
    published: bool,
}

impl Written {
    fn create(target: PathBuf, existing: ExistingTarget) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let temporary = target.with_file_name(format!(".blob-export-{}-{n}.tmp", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok(Self { file, temporary, target, existing, published: false }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::io("create a file beside", target, error)),
            }
        }
    }

    /// Writes and checks the bytes, and makes them durable. Before more is written `go_on` hears how much there is.
    fn fill(mut self, hash: Hash, data: &[u8], mut go_on: impl FnMut(u64) -> Result<()>) -> Result<Self> {
        let mut hasher = Hasher::new();
        let mut offset = 0;
        for step in data.chunks(STEP_BYTES) {
            if offset > 0 {
                go_on(offset)?;
            }
            hasher.update(step);
            self.file.write_all(step).map_err(|error| Error::io("write", &self.target, error))?;
            offset += step.len() as u64;
        }
        if hasher.finalize() != *hash.as_bytes() {
            return Err(Error::Mismatch { hash, offset: 0 });
        }
        self.file.sync_all().map_err(|error| Error::io("sync", &self.target, error))?;
        Ok(self)
    }

    /// Gives the file its name.
    fn publish(mut self) -> Result<()> {
        let moved = match self.existing {
            ExistingTarget::Refuse => rename_to_new(&self.temporary, &self.target),
            ExistingTarget::Replace => fs::rename(&self.temporary, &self.target),
        };
        moved.map_err(|error| Error::io("name", &self.target, error))?;
        self.published = true;
        sync_parent(&self.target).map_err(|error| Error::io("sync the directory of", &self.target, error))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if !self.published {
            // nobody is left to be told
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// Renames, unless the new name is taken.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            done => return Ok(done?),
        }
    }
    fs::hard_link(from, to)?;
    fs::remove_file(from)
}

#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}
