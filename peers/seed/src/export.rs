//! Taking whole blobs out.

use std::{
    io,
    mem::replace,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use blob_traits::{
    Error, ExistingTarget, Export, ExportMode, ExportOptions, ExportProgress, Hash, Progress, Result,
};
use futures_lite::future::block_on;
use iroh_blobs::store::{ExportMode as TheirMode, ExportProgressCb, Store};

use crate::{convert::hash_to_theirs, failure::About, limit::within_patience, store::Seed};

impl<S: Store> Export for Seed<S> {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        let options = options.into();
        if options.existing == ExistingTarget::Refuse {
            refuse_existing(&target)?;
        }
        let events = Arc::new(Events { progress, started: Mutex::default(), hash, target: target.clone() });
        let id = events.progress.new_id();
        if options.mode == ExportMode::Copy {
            events.start(id, false).await?;
        }
        let sender = events.clone();
        let on_offset: ExportProgressCb = Box::new(move |offset| {
            block_on(within_patience(async {
                // Only what is copied has offsets.
                sender.start(id, false).await?;
                sender.progress.send(ExportProgress::Progress { id, offset }).await
            }))?
            .map_err(io::Error::from)
        });
        let about = About::Target(hash, target.clone());
        let mode = mode_to_theirs(options.mode);
        self.call(about, self.store().export(hash_to_theirs(hash), target.clone(), mode, on_offset)).await?;
        let size = target.metadata().map_or(0, |found| found.len());
        events.start(id, self.moves_out_above().is_some_and(|limit| size > limit)).await?;
        events.progress.send(ExportProgress::Done { id }).await
    }
}

/// Sends `Start` when it is known whether the blob is moved out.
struct Events {
    progress: Progress<ExportProgress>,
    /// Whether it was sent.
    started: Mutex<bool>,
    hash: Hash,
    target: PathBuf,
}

impl Events {
    async fn start(&self, id: u64, stable: bool) -> Result<()> {
        if replace(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner), true) {
            return Ok(());
        }
        let (hash, path) = (self.hash, self.target.clone());
        self.progress.send(ExportProgress::Start { id, hash, path, stable }).await
    }
}

fn mode_to_theirs(mode: ExportMode) -> TheirMode {
    match mode {
        ExportMode::Copy => TheirMode::Copy,
        ExportMode::TryReference => TheirMode::TryReference,
    }
}

/// The seed replaces what is there or fails, by size and backend. A relative target it refuses itself.
fn refuse_existing(target: &Path) -> Result<()> {
    match target.symlink_metadata() {
        Ok(found) if target.is_absolute() && found.is_dir() => {
            Err(Error::IsADirectory { path: target.into() })
        }
        Ok(_) if target.is_absolute() => Err(Error::TargetExists { path: target.into() }),
        _ => Ok(()),
    }
}
