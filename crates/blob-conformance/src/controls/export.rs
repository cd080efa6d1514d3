//! Exports with a defect.

use std::{fs, io, path::PathBuf};

use blob_traits::{
    Cancelled, Error, ExistingTarget, Export, ExportOptions, ExportProgress, Hash, MapEntry, Progress,
    ReadBlob, Result, Store,
};

use super::{Broken, Defect};

impl<S: Store> Broken<S> {
    /// Writes what can be read of a blob.
    async fn export_what_is_there(&self, hash: Hash, target: PathBuf) -> Result<()> {
        let Some(entry) = self.inner.get(&hash).await? else { return Err(Error::NotFound { hash }) };
        let mut reader = entry.data_reader().await?;
        let mut bytes = Vec::new();
        let len = usize::try_from(entry.size().value()).unwrap_or_default();
        for offset in (0..len).step_by(1024) {
            match reader.read_range(offset as u64, 1024.min(len - offset)).await {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(_) => bytes.resize((offset + 1024).min(len), 0),
            }
        }
        Ok(fs::write(target, bytes)?)
    }
}

fn progress(defect: Defect, progress: Progress<ExportProgress>) -> Progress<ExportProgress> {
    if !matches!(defect, Defect::LastEventMissing | Defect::OffsetsBackwards | Defect::CancellationIgnored) {
        return progress;
    }
    Progress::from_fn(move |event| {
        let event = match event {
            ExportProgress::Done { .. } if defect == Defect::LastEventMissing => return Ok(()),
            ExportProgress::Progress { id, offset } if defect == Defect::OffsetsBackwards => {
                ExportProgress::Progress { id, offset: u64::MAX - offset }
            }
            event => event,
        };
        match progress.try_send(event) {
            Err(_) if defect != Defect::CancellationIgnored => Err(Cancelled),
            _ => Ok(()),
        }
    })
}

fn cut(target: &PathBuf) -> io::Result<()> {
    let file = fs::File::options().write(true).open(target)?;
    file.set_len(file.metadata()?.len().saturating_sub(1))
}

impl<S: Store> Export for Broken<S> {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        reports: Progress<ExportProgress>,
    ) -> Result<()> {
        let mut options = options.into();
        if self.is(Defect::ExportedTargetReplaced) {
            options.existing = ExistingTarget::Replace;
        }
        let exported = self.inner.export(hash, target.clone(), options, progress(self.defect, reports)).await;
        match (self.defect, exported) {
            (Defect::ExportedShort, Ok(())) => Ok(cut(&target)?),
            (Defect::ExportedPartial, Err(Error::Incomplete { .. })) => {
                self.export_what_is_there(hash, target).await
            }
            (Defect::ExportedHalf, Err(e)) if target.is_absolute() && !target.exists() => {
                // Where there is no directory there can be no half file either.
                let _ = fs::write(target, b"half");
                Err(e)
            }
            (_, exported) => self.told_as(exported),
        }
    }
}
