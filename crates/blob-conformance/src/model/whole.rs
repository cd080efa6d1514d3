//! Whole blobs: importing, reading, deleting.

use std::{io, path::PathBuf};

use blob_traits::{
    BlobFormat, HashAndFormat, ImportMode, ImportOptions, ImportSource, Progress, Result, Store, TagRange,
    TempTag,
};
use bytes::Bytes;

use super::{
    Check, done, expect,
    files::Use,
    op::{Blob, By},
    partial::{Chunks, Partial},
    refused,
    tags::name,
    universe::{CHUNK, GROUP, Known, n_chunks},
    world::{State, World},
};

impl<S: Store> World<'_, S> {
    pub(super) async fn import(
        &mut self,
        blob: Blob,
        by: By,
        format: BlobFormat,
        tag: Option<usize>,
        keep: bool,
    ) -> Check {
        let known = self.known(blob);
        // A reader is imported by a call that takes no tag.
        let tag = tag.filter(|_| by != By::Reader).map(name);
        let content = HashAndFormat::new(known.hash, format);
        let file = match by {
            By::Copy | By::Reference => Some(self.files.source(&known.data)?),
            _ => None,
        };
        let options = ImportOptions { format, tag: tag.clone() };
        let (temp_tag, size) = done("import", self.call_import(&known, by, file.clone(), options).await)?;
        expect("import", &(temp_tag.hash_and_format(), size), &(content, known.size()))?;
        if let Some(file) = file {
            let in_place = by == By::Reference && self.setup.references;
            self.files.used(file, if in_place { Use::InPlace } else { Use::Copied })?;
        }
        self.complete(blob);
        if keep {
            self.temp_tags.push(temp_tag);
        }
        if let Some(tag) = tag {
            self.tags.insert(tag.clone(), content);
            self.check_tags(TagRange::one(tag)).await?;
        }
        self.look(blob).await
    }

    async fn call_import(
        &self,
        known: &Known,
        by: By,
        file: Option<PathBuf>,
        options: ImportOptions,
    ) -> Result<(TempTag, u64)> {
        let store = self.store().map_err(io::Error::other)?;
        let source = match (by, file) {
            (By::Reader, _) => {
                let reader = io::Cursor::new(known.data.clone());
                return store.import_reader(reader, options.format, Progress::none()).await;
            }
            (By::Copy, Some(path)) => ImportSource::File { path, mode: ImportMode::Copy },
            (_, Some(path)) => ImportSource::File { path, mode: ImportMode::TryReference },
            (By::Bytes, None) => ImportSource::Bytes(known.data.clone()),
            _ => ImportSource::Stream(Box::pin(futures_lite::stream::iter(pieces(&known.data).map(Ok)))),
        };
        store.import(source, options, Progress::none()).await
    }

    /// A stream that ends with an error leaves everything as it was.
    pub(super) async fn import_fails(&mut self, blob: Blob) -> Check {
        let known = self.known(blob);
        let broken = Err(io::Error::other("the stream breaks off"));
        let stream = pieces(&known.data).map(Ok).chain([broken]).collect::<Vec<_>>();
        let source = ImportSource::Stream(Box::pin(futures_lite::stream::iter(stream)));
        let imported = self.store()?.import(source, ImportOptions::default(), Progress::none()).await;
        refused("import of a broken stream", imported, &["io"])?;
        self.look(blob).await
    }

    pub(super) async fn delete(&mut self, blobs: &[Blob]) -> Check {
        let hashes = blobs.iter().map(|blob| self.known(*blob).hash).collect();
        done("delete", self.store()?.delete(hashes).await)?;
        for blob in blobs {
            *self.state(*blob) = State::Absent;
            self.handles_lose(*blob);
            self.look(*blob).await?;
        }
        Ok(())
    }

    pub(super) async fn read(&mut self, blob: Blob, at: u32, len: u32, proof: bool) -> Check {
        let known = self.known(blob);
        let (start, end) = place(&known, at, len);
        let store = self.store()?;
        let found = if proof {
            store.read_verified(known.hash, start..end).await
        } else {
            store.read_range(known.hash, start..end).await
        };
        self.check_read(blob, start..end, proof, found)
    }

    /// Compares what was read of a blob with what should be there.
    pub(super) fn check_read(
        &mut self,
        blob: Blob,
        range: std::ops::Range<u64>,
        proof: bool,
        found: Result<Bytes>,
    ) -> Check {
        let known = self.known(blob);
        let about = format!("bytes {range:?} of blob {blob}");
        if self.is_complete(blob) {
            return expect(&about, &done(&about, found)?, &known.slice(range.start, range.end));
        }
        match self.state(blob) {
            State::Partial(partial) => {
                let end = range.end.min(partial.size);
                if can_read(partial, range.start, end, proof) {
                    expect(&about, &done(&about, found)?, &known.slice(range.start, end))
                } else {
                    refused(&about, found, &["incomplete"])
                }
            }
            _ => refused(&about, found, &["not-found"]),
        }
    }

    /// Reads each chunk of a partial blob that is there.
    pub(super) async fn read_each(&mut self, blob: Blob, present: &Chunks) -> Check {
        let (store, known) = (self.store()?, self.known(blob));
        for chunk in present {
            let range = chunk * CHUNK..(chunk + 1) * CHUNK;
            let found = store.read_range(known.hash, range.clone()).await;
            self.check_read(blob, range, false, found)?;
        }
        Ok(())
    }
}

/// Whether a range of a partial blob is there: its chunks, or for a proof the chunk groups that it touches.
fn can_read(partial: &Partial, start: u64, end: u64, proof: bool) -> bool {
    if start >= end {
        return true;
    }
    let unit = if proof { GROUP } else { 1 };
    let (first, last) = (start / CHUNK / unit, (end - 1) / CHUNK / unit);
    let present = partial.present();
    let wanted = first * unit..((last + 1) * unit).min(n_chunks(partial.size));
    // A huge claim has more chunks than one wants to look for.
    wanted.end - wanted.start <= present.len() as u64
        && wanted.into_iter().all(|chunk| present.contains(&chunk))
}

/// A range of a blob that may begin or end behind its end.
pub(super) fn place(known: &Known, at: u32, len: u32) -> (u64, u64) {
    let beyond = known.size() + 2 * CHUNK;
    let start = u64::from(at) % beyond;
    (start, start + u64::from(len) % beyond)
}

/// Cuts bytes into pieces of changing lengths, with empty ones in between.
fn pieces(data: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let data = data.clone();
    let mut at = 0;
    let lens = [0, 1, 1023, 0, 16384, 5000].into_iter().cycle();
    lens.map_while(move |len| {
        let start = at;
        at = data.len().min(start + len);
        (start < data.len()).then(|| data.slice(start..at))
    })
}
