//! Taking whole blobs out.

use std::{
    io,
    path::{Path, PathBuf},
};

use blob_traits::{
    Error, ExistingTarget, Export, ExportMode, ExportOptions, ExportProgress, Hash, Progress, Result,
};
use iroh_blobs::store::{ExportMode as TheirMode, ExportProgressCb, Store};

use crate::{convert::hash_to_theirs, failure::About, store::Seed};

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
        let id = progress.new_id();
        let stable = options.mode == ExportMode::TryReference;
        progress.send(ExportProgress::Start { id, hash, path: target.clone(), stable }).await?;
        let sender = progress.clone();
        let on_offset: ExportProgressCb = Box::new(move |offset| {
            sender.try_send(ExportProgress::Progress { id, offset }).map_err(io::Error::from)
        });
        let about = About::Target(hash, target.clone());
        let mode = mode_to_theirs(options.mode);
        self.call(about, self.store().export(hash_to_theirs(hash), target, mode, on_offset)).await?;
        progress.send(ExportProgress::Done { id }).await
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
