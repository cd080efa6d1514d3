//! Bringing whole blobs in: small ones into the log, large ones into files, files of the user's by reference.

mod file;
mod large;

use std::{future::Future, io, path::PathBuf, pin::Pin, sync::Arc};

use blob_traits::{
    Error, Hash, HashAndFormat, Import, ImportMode, ImportOptions, ImportProgress, ImportSource, MAX_TAG_LEN,
    Progress, Result, TempTag,
    blocking::{Alive, Watch, unblock},
};
use bytes::{Bytes, BytesMut};
use futures_lite::{Stream, StreamExt};
use smallvec::{SmallVec, smallvec};

use self::large::LargeWriter;
use crate::{
    engine::{Decision, Engine, Keys},
    hasher::hash_small,
    op::{Killed, Op},
    row::BlobState,
    state::{Looked, State},
    store::FsStore,
};

/// Bytes in memory up to this size are hashed where they are; more of them on the blocking pool.
const HASH_INLINE: usize = 256 << 10;

/// What stays the same for all steps of one import.
#[derive(Clone, Debug)]
struct Job {
    engine: Arc<Engine>,
    options: ImportOptions,
    progress: Progress<ImportProgress>,
    id: u64,
    /// Ends work on the blocking pool when the import's future is dropped.
    watch: Watch,
}

type Bytestream = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Import for FsStore {
    async fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        if let Some(tag) = &options.tag {
            check_tag_len(tag.as_ref().len())?;
        }
        self.engine.state().check_writable()?;
        let id = progress.new_id();
        let alive = Alive::default();
        let job = Job { engine: self.engine.clone(), options, progress, id, watch: alive.watch() };
        match source {
            ImportSource::Bytes(bytes) => job.bytes(bytes).await,
            ImportSource::File { path, mode } => job.file(path, mode).await,
            ImportSource::Stream(stream) => job.stream(stream).await,
        }
    }
}

pub(crate) fn check_tag_len(len: usize) -> Result<()> {
    if len > MAX_TAG_LEN {
        return Err(Error::TagTooLong { len, limit: MAX_TAG_LEN });
    }
    Ok(())
}

impl Job {
    async fn bytes(self, bytes: Bytes) -> Result<(TempTag, u64)> {
        let size = bytes.len() as u64;
        self.check_size(size)?;
        self.found("bytes in memory").await?;
        self.size(size).await?;
        if size <= self.engine.options.inline_max {
            return self.small(bytes).await;
        }
        let writer = unblock(move || {
            let mut writer = LargeWriter::new(self.clone())?;
            for piece in bytes.chunks(large::PIECE) {
                writer.write(piece)?;
                self.step(writer.size(), size, |id, offset| ImportProgress::OutboardProgress { id, offset })?;
            }
            Ok((self, writer))
        });
        let (job, writer) = writer.await?;
        job.large(writer, SizeEvent::Sent).await
    }

    async fn stream(self, mut stream: Bytestream) -> Result<(TempTag, u64)> {
        self.found("a stream").await?;
        let mut buffer = BytesMut::new();
        let mut writer = None;
        let mut copied = 0;
        while let Some(piece) = stream.next().await {
            let piece = piece?;
            let before = copied;
            copied += piece.len() as u64;
            self.check_size(copied)?;
            buffer.extend_from_slice(&piece);
            let most = if writer.is_some() { large::PIECE as u64 } else { self.engine.options.inline_max };
            if buffer.len() as u64 > most {
                writer = Some(self.write_piece(writer, buffer.split().freeze()).await?);
                if before > 0 {
                    self.progress.try_send(ImportProgress::CopyProgress { id: self.id, offset: before })?;
                }
            }
        }
        self.copied(copied).await?;
        match writer {
            None => {
                self.size(copied).await?;
                self.small(buffer.freeze()).await
            }
            Some(writer) => {
                let writer = self.write_piece(Some(writer), buffer.freeze()).await?;
                self.large(writer, SizeEvent::Due).await
            }
        }
    }

    async fn write_piece(&self, writer: Option<LargeWriter>, piece: Bytes) -> Result<LargeWriter> {
        let job = self.clone();
        unblock(move || {
            let mut writer = match writer {
                Some(writer) => writer,
                None => LargeWriter::new(job)?,
            };
            writer.write(&piece)?;
            Ok(writer)
        })
        .await
    }

    async fn file(self, path: PathBuf, mode: ImportMode) -> Result<(TempTag, u64)> {
        if !path.is_absolute() {
            return Err(Error::RelativePath { path });
        }
        self.found(&path.to_string_lossy()).await?;
        let job = self.clone();
        match unblock(move || file::read(&job, &path, mode)).await? {
            file::Read::Small(bytes) => {
                self.copied(bytes.len() as u64).await?;
                self.size(bytes.len() as u64).await?;
                self.small(bytes).await
            }
            file::Read::Copied(writer) => {
                self.copied(writer.size()).await?;
                self.large(writer, SizeEvent::Due).await
            }
            file::Read::Shared(writer) => self.large(writer, SizeEvent::Due).await,
            file::Read::Referenced(referenced) => self.referenced(referenced).await,
        }
    }

    fn check_size(&self, size: u64) -> Result<()> {
        let limit = self.engine.options.max_blob_size;
        if size > limit { Err(Error::TooLarge { size, limit }) } else { Ok(()) }
    }

    async fn found(&self, name: &str) -> Result<()> {
        self.progress.send(ImportProgress::Found { id: self.id, name: name.to_owned() }).await
    }

    async fn size(&self, size: u64) -> Result<()> {
        self.progress.send(ImportProgress::Size { id: self.id, size }).await
    }

    async fn hashed(&self, size: u64, hash: Hash) -> Result<()> {
        self.progress.send(ImportProgress::OutboardProgress { id: self.id, offset: size }).await?;
        self.progress.send(ImportProgress::OutboardDone { id: self.id, hash }).await
    }

    /// Reports an offset from the blocking pool, but for the last one, which is sent when the phase ends. Ends the work
    /// when nobody waits for it any more.
    fn step(&self, offset: u64, total: u64, event: impl FnOnce(u64, u64) -> ImportProgress) -> Result<()> {
        self.watch.check()?;
        if offset < total { self.progress.try_send(event(self.id, offset)) } else { Ok(()) }
    }

    /// Ends the phase of copying.
    async fn copied(&self, offset: u64) -> Result<()> {
        self.progress.send(ImportProgress::CopyProgress { id: self.id, offset }).await
    }

    /// A blob that goes into the log.
    async fn small(self, data: Bytes) -> Result<(TempTag, u64)> {
        let size = data.len() as u64;
        let (hash, outboard) = if data.len() <= HASH_INLINE {
            hash_small(&data)
        } else {
            let data = data.clone();
            unblock(move || Ok(hash_small(&data))).await?
        };
        self.hashed(size, hash).await?;
        let weight = size + outboard.len() as u64;
        let pin = self.record(hash, weight, || Op::Small { hash, data, outboard }).await?;
        Ok((pin, size))
    }

    /// A blob whose files are written.
    async fn large(self, writer: LargeWriter, size_event: SizeEvent) -> Result<(TempTag, u64)> {
        let written = unblock(move || writer.finish()).await?;
        if size_event == SizeEvent::Due {
            self.size(written.size).await?;
        }
        self.hashed(written.size, written.hash).await?;
        let size = written.size;
        // From here on the files belong to the record.
        let pin = self.record(written.hash, 0, || written.into_op()).await?;
        Ok((pin, size))
    }

    async fn referenced(self, referenced: file::Referenced) -> Result<(TempTag, u64)> {
        let (hash, size) = (referenced.hash, referenced.size);
        self.hashed(size, hash).await?;
        let pin = self.record(hash, 0, || referenced.into_op()).await?;
        Ok((pin, size))
    }

    /// Has a blob and its tag recorded, unless they are there (E20). `op` is called when the record is needed.
    fn record(
        &self,
        hash: Hash,
        weight: u64,
        op: impl FnOnce() -> Op + Send,
    ) -> impl Future<Output = Result<TempTag>> + Send {
        let engine = self.engine.clone();
        let content = HashAndFormat { hash, format: self.options.format };
        let tag = self.options.tag.clone();
        let mut keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        keys.tags.extend(tag.clone());
        async move {
            let pins = &engine.pins;
            // Where the record is not needed its files are removed, which is not for the state lock (E18).
            let mut op = Some(op);
            let decide = |state: &mut State, looked: &Looked| {
                let pin = pins.import(state, content);
                // A file of the user's may be gone or changed: importing its content again mends that (E38).
                let is_hit =
                    |old: BlobState| matches!(old, BlobState::Small { .. } | BlobState::Large { .. });
                let there = state.pending_blob(&hash, looked).filter(|(old, _)| is_hit(*old));
                let mut ops = Vec::with_capacity(1);
                if there.is_none() {
                    ops.extend(op.take().map(|op| op()));
                }
                let mut held: SmallVec<[TempTag; 1]> = smallvec![pin.clone()];
                if let Some(tag) = tag {
                    held.push(pins.tag(state, content));
                    ops.push(Op::TagSet { tag, content });
                }
                Ok(match there {
                    Some((_, Killed::Queued)) if ops.is_empty() => Decision::Join(hash, pin),
                    _ if ops.is_empty() => Decision::Nothing(pin),
                    _ => Decision::Write(ops, held, pin),
                })
            };
            engine.transact(&keys, weight, decide).await
        }
    }
}

/// Whether the size of a blob has been reported yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SizeEvent {
    Sent,
    Due,
}
