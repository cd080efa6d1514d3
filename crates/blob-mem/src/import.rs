//! Bringing whole blobs in.

mod file;
mod hash;

use std::{io, path::PathBuf, pin::Pin};

use blob_traits::{
    Hash, HashAndFormat, Import, ImportOptions, ImportProgress, ImportSource, Progress, Result, TempTag,
    blocking::{Alive, unblock},
};
use bytes::{Bytes, BytesMut};
use futures_lite::{Stream, StreamExt};

use crate::{
    entry::{Content, Whole},
    store::MemStore,
    tags::check_tag,
};

/// What an import reports to.
#[derive(Clone)]
struct Report {
    progress: Progress<ImportProgress>,
    id: u64,
}

impl Report {
    async fn found(&self, name: String) -> Result<()> {
        self.progress.send(ImportProgress::Found { id: self.id, name }).await
    }

    /// Reports where a copy is. Never the end: that is for [`copied`](Self::copied), which is not lost.
    fn copying(&self, offset: u64) -> Result<()> {
        self.progress.try_send(ImportProgress::CopyProgress { id: self.id, offset })
    }

    async fn copied(&self, size: u64) -> Result<()> {
        self.progress.send(ImportProgress::CopyProgress { id: self.id, offset: size }).await
    }

    async fn size(&self, size: u64) -> Result<()> {
        self.progress.send(ImportProgress::Size { id: self.id, size }).await
    }

    /// Reports where hashing is, as [`copying`](Self::copying) does.
    fn hashing(&self, offset: u64) -> Result<()> {
        self.progress.try_send(ImportProgress::OutboardProgress { id: self.id, offset })
    }

    async fn hashed(&self, size: u64, hash: Hash) -> Result<()> {
        let id = self.id;
        self.progress.send(ImportProgress::OutboardProgress { id, offset: size }).await?;
        self.progress.send(ImportProgress::OutboardDone { id, hash }).await
    }
}

impl Import for MemStore {
    async fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        options.tag.as_ref().map_or(Ok(()), check_tag)?;
        self.state().map(drop)?;
        let report = Report { id: progress.new_id(), progress };
        let data = match source {
            ImportSource::Bytes(bytes) => self.take(bytes, &report).await?,
            ImportSource::File { path, .. } => self.copy_file(path, &report).await?,
            ImportSource::Stream(stream) => self.copy_stream(stream, &report).await?,
        };
        let size = data.len() as u64;
        report.size(size).await?;
        let (hash, whole) = hash::hash(data, &report).await?;
        report.hashed(size, hash).await?;
        Ok((self.insert(hash, whole, options)?, size))
    }
}

impl MemStore {
    async fn take(&self, bytes: Bytes, report: &Report) -> Result<Bytes> {
        report.found("bytes".to_owned()).await?;
        self.check_size(bytes.len() as u64)?;
        Ok(bytes)
    }

    async fn copy_file(&self, path: PathBuf, report: &Report) -> Result<Bytes> {
        let name = path.to_string_lossy().into_owned();
        let file = unblock(move || file::open(path)).await?;
        report.found(name).await?;
        self.check_size(file.len())?;
        let alive = Alive::default();
        let (store, watch, each) = (self.clone(), alive.watch(), report.clone());
        let bytes = unblock(move || {
            file.read(|step| {
                watch.check()?;
                store.check_size(step.end)?;
                if step.start > 0 { each.copying(step.start) } else { Ok(()) }
            })
        });
        let bytes = bytes.await?;
        report.copied(bytes.len() as u64).await?;
        Ok(bytes)
    }

    async fn copy_stream(
        &self,
        mut stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
        report: &Report,
    ) -> Result<Bytes> {
        report.found("stream".to_owned()).await?;
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            if piece.is_empty() {
                continue;
            }
            if !bytes.is_empty() {
                report.copying(bytes.len() as u64)?;
            }
            self.check_size(bytes.len() as u64 + piece.len() as u64)?;
            bytes.extend_from_slice(&piece);
        }
        report.copied(bytes.len() as u64).await?;
        Ok(bytes.freeze())
    }

    /// Makes a blob part of the store and sets its tag, in one step.
    fn insert(&self, hash: Hash, whole: Whole, options: ImportOptions) -> Result<TempTag> {
        let content = HashAndFormat::new(hash, options.format);
        let mut state = self.state()?;
        let pin = self.pins().import(&state, content);
        match state.blobs.get(&hash) {
            // handles of the partial blob go on with the complete one
            Some(blob) if !blob.is_whole() => blob.complete(whole),
            Some(_) => {}
            None => drop(state.blobs.insert(hash, self.new_blob(hash, Content::Whole(whole)))),
        }
        self.pins().changed(&hash);
        if let Some(tag) = options.tag {
            let _pin = self.pins().tag(&state, content);
            state.tags.insert(tag, content);
        }
        Ok(pin)
    }
}
