//! Imports with a defect.

use std::{io, pin::Pin};

use blob_traits::{
    BlobFormat, Error, Import, ImportOptions, ImportProgress, ImportSource, Progress, Result, Store, TempTag,
};
use bytes::Bytes;
use futures_lite::{Stream, StreamExt};

use super::{Broken, Defect, broken::lock};

type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl<S: Store> Broken<S> {
    fn source(&self, source: ImportSource) -> Result<ImportSource> {
        Ok(match (self.defect, source) {
            (Defect::StreamErrorSwallowed, ImportSource::Stream(stream)) => {
                ImportSource::Stream(until(stream, io::Result::is_err))
            }
            (Defect::EmptyPieceEndsStream, ImportSource::Stream(stream)) => {
                ImportSource::Stream(until(stream, |piece| piece.as_ref().is_ok_and(Bytes::is_empty)))
            }
            (Defect::RelativePathTaken, ImportSource::File { path, mode }) if path.is_relative() => {
                // Something is stored for it; what, does not matter.
                drop((path, mode));
                ImportSource::Bytes(Bytes::from_static(b"relative"))
            }
            (Defect::DirectoryIsAbsent, ImportSource::File { path, .. }) if path.is_dir() => {
                return Err(Error::FileNotFound { path });
            }
            (_, source) => source,
        })
    }

    fn progress(&self, progress: Progress<ImportProgress>) -> Progress<ImportProgress> {
        let defect = self.defect;
        if !matches!(
            defect,
            Defect::LastEventMissing | Defect::OffsetsBackwards | Defect::CancellationIgnored
        ) {
            return progress;
        }
        let ids = progress.clone();
        Progress::from_fn(move |event| {
            let event = match event {
                ImportProgress::OutboardDone { .. } if defect == Defect::LastEventMissing => return Ok(()),
                ImportProgress::CopyProgress { id, offset } if defect == Defect::OffsetsBackwards => {
                    ImportProgress::CopyProgress { id, offset: u64::MAX - offset }
                }
                ImportProgress::OutboardProgress { id, offset } if defect == Defect::OffsetsBackwards => {
                    ImportProgress::OutboardProgress { id, offset: u64::MAX - offset }
                }
                event => event,
            };
            // A callback has nowhere to wait; a channel that is full loses the event.
            match ids.try_send(event) {
                Err(_) if defect != Defect::CancellationIgnored => Err(blob_traits::Cancelled),
                _ => Ok(()),
            }
        })
    }
}

/// Ends a stream before the first piece of some kind.
fn until(stream: Pieces, ends: impl Fn(&io::Result<Bytes>) -> bool + Send + 'static) -> Pieces {
    Box::pin(stream.take_while(move |piece| !ends(piece)))
}

impl<S: Store> Import for Broken<S> {
    async fn import(
        &self,
        source: ImportSource,
        mut options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        let file = match &source {
            ImportSource::File { path, .. } => Some(path.clone()),
            _ => None,
        };
        let source = self.source(source)?;
        match self.defect {
            Defect::TagOfImportForgotten => options.tag = None,
            Defect::FormatOfImportLost => options.format = BlobFormat::Raw,
            _ => {}
        }
        let imported = self.inner.import(source, options, self.progress(progress)).await;
        let (pinned, size) = self.told_as(imported)?;
        *lock(&self.notes().latest_import) = Some(pinned.hash());
        if let Some(path) = file {
            lock(&self.notes().files).insert(pinned.hash(), path);
        }
        if self.is(Defect::ReleasedEarly) {
            return Ok((self.notes().elsewhere.issue(pinned.hash_and_format()), size));
        }
        Ok((pinned, size))
    }
}
