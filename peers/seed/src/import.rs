//! Bringing whole blobs in.

use std::{io, pin::Pin};

use blob_traits::{
    Error, Import, ImportMode, ImportOptions, ImportProgress, ImportSource, Progress, Result, TempTag,
    WriteTags,
};
use bytes::Bytes;
use futures_lite::{Stream, StreamExt};
use iroh_blobs::store::{ImportMode as TheirMode, Store};

use crate::{
    convert::format_to_theirs,
    failure::About,
    limit::{MAX_IN_MEMORY, too_much},
    progress::ImportSender,
    store::Seed,
};

impl<S: Store> Import for Seed<S> {
    async fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        let format = format_to_theirs(options.format);
        let sender = ImportSender::of_import(progress);
        let imported = match source {
            ImportSource::Bytes(bytes) => {
                let size = bytes.len() as u64;
                let pinned = self.call(About::Store, self.store().import_bytes(bytes, format)).await;
                pinned.map(|pin| (pin, size))
            }
            ImportSource::File { path, mode } => {
                let about = About::Source(path.clone());
                self.call(about, self.store().import_file(path, mode_to_theirs(mode), format, sender.clone()))
                    .await
            }
            ImportSource::Stream(stream) => {
                let stream = bounded(stream);
                self.call(About::Store, self.store().import_stream(stream, format, sender.clone())).await
            }
        };
        let (pin, size) =
            imported.map_err(|error| if sender.was_refused() { Error::Cancelled } else { error })?;
        let pin = self.pins().adopt(pin);
        if let Some(tag) = options.tag {
            self.set_tag(tag, Some(pin.hash_and_format())).await?;
        }
        Ok((pin, size))
    }
}

fn mode_to_theirs(mode: ImportMode) -> TheirMode {
    match mode {
        ImportMode::Copy => TheirMode::Copy,
        ImportMode::TryReference => TheirMode::TryReference,
    }
}

/// Ends a stream that would not end before memory or disk do.
fn bounded(
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    let mut seen = 0;
    stream.map(move |item| {
        let bytes = item?;
        seen += bytes.len() as u64;
        if seen > MAX_IN_MEMORY { Err(too_much()) } else { Ok(bytes) }
    })
}
