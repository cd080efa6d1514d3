//! A store in memory with a fault, which the histories have to find.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use bao_tree::ChunkRanges;
use blob_mem::{MemEntry, MemStore};
use blob_traits::{
    BoxStream, CheckMode, ConsistencyCheckProgress, EntryStatus, Error, ExistingTarget, ExportOptions,
    ExportProgress, Hash, HashAndFormat, ImportOptions, ImportProgress, ImportSource, Progress, Result, Tag,
    TagRange, TempTag, collect, prelude::*,
};
use tokio::task::yield_now;

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An import does not set its tag when the blob is there already.
    ForgetsTagOfKnownBlob,
    /// An import whose stream fails leaves a partial blob behind.
    FailedImportStays,
    /// A tag that is renamed keeps its old name, too.
    RenameCopies,
    /// Deleting leaves partial blobs.
    KeepsPartialBlobs,
    /// An export replaces what is there, asked or not.
    ReplacesTarget,
    /// Another size claim starts a partial blob anew.
    ClaimForgets,
    /// Temporary tags are listed without their formats.
    TempTagsAreAllRaw,
    /// A status is as old as the last look.
    StaleStatus,
    /// A tag is renamed in three steps.
    RenameInSteps,
    /// A listing is made in two steps.
    ListsInSteps,
}

#[derive(Clone, Debug)]
pub(crate) struct Broken {
    inner: MemStore,
    fault: Fault,
    looks: Arc<Mutex<BTreeMap<Hash, EntryStatus>>>,
}

impl Broken {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { inner: MemStore::new(), fault, looks: Arc::default() }
    }
}

impl Map for Broken {
    type Entry = MemEntry;

    async fn get(&self, hash: &Hash) -> Result<Option<MemEntry>> {
        self.inner.get(hash).await
    }
}

impl MapMut for Broken {
    type EntryMut = MemEntry;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<MemEntry>> {
        self.inner.get_mut(hash).await
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<MemEntry> {
        let known = self.inner.get(&hash).await?;
        if self.fault == Fault::ClaimForgets
            && known.is_some_and(|entry| !entry.size().is_verified() && entry.size().value() != size)
        {
            self.inner.delete(vec![hash]).await?;
        }
        self.inner.get_or_create(hash, size).await
    }

    async fn insert_complete(&self, entry: MemEntry) -> Result<()> {
        self.inner.insert_complete(entry).await
    }
}

impl BlobStatus for Broken {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        let status = self.inner.entry_status(hash).await?;
        let last = self.looks.lock().unwrap().insert(*hash, status);
        Ok(last.filter(|_| self.fault == Fault::StaleStatus).unwrap_or(status))
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        self.inner.entry_status_sync(hash)
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        self.inner.present_ranges(hash).await
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        self.inner.was_demoted(hash).await
    }
}

impl ConsistencyCheck for Broken {
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        self.inner.consistency_check(mode, progress).await
    }
}

impl ListBlobs for Broken {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        if self.fault != Fault::ListsInSteps {
            return self.inner.blobs().await;
        }
        let first = collect(self.inner.blobs().await?).await?;
        yield_now().await;
        let mut all = collect(self.inner.blobs().await?).await?;
        all.extend(first);
        all.sort();
        all.dedup();
        Ok(Box::pin(futures_lite::stream::iter(all.into_iter().map(Ok))))
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.inner.partial_blobs().await
    }
}

impl ReadTags for Broken {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        self.inner.tags(range).await
    }
}

impl WriteTags for Broken {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        self.inner.set_tag(tag, content).await
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        self.inner.create_tag(content).await
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        self.inner.delete_tags(range).await
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        let content = self.inner.get_tag(&from).await?;
        match self.fault {
            Fault::RenameCopies => {
                let content = content.ok_or(Error::TagNotFound { tag: from })?;
                self.inner.set_tag(to, Some(content)).await
            }
            Fault::RenameInSteps => {
                let content = content.ok_or(Error::TagNotFound { tag: from.clone() })?;
                yield_now().await;
                self.inner.set_tag(from, None).await?;
                yield_now().await;
                self.inner.set_tag(to, Some(content)).await
            }
            _ => self.inner.rename_tag(from, to).await,
        }
    }
}

impl TempTags for Broken {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.inner.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        let tags = self.inner.temp_tags();
        match self.fault {
            Fault::TempTagsAreAllRaw => Box::new(tags.map(|content| HashAndFormat::raw(content.hash))),
            _ => tags,
        }
    }
}

impl Import for Broken {
    async fn import(
        &self,
        source: ImportSource,
        mut options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        let before = collect(self.inner.blobs().await?).await?;
        let tag = options.tag.take_if(|_| self.fault == Fault::ForgetsTagOfKnownBlob);
        let imported = self.inner.import(source, options, progress).await;
        if self.fault == Fault::FailedImportStays && imported.is_err() {
            self.inner.get_or_create(Hash::new(b"left behind"), 11).await?;
        }
        let imported = imported?;
        if let Some(tag) = tag.filter(|_| !before.contains(&imported.0.hash())) {
            self.inner.set_tag(tag, Some(imported.0.hash_and_format())).await?;
        }
        Ok(imported)
    }
}

impl Export for Broken {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        let mut options = options.into();
        if self.fault == Fault::ReplacesTarget {
            options.existing = ExistingTarget::Replace;
        }
        self.inner.export(hash, target, options, progress).await
    }
}

impl Delete for Broken {
    async fn delete(&self, mut hashes: Vec<Hash>) -> Result<()> {
        if self.fault == Fault::KeepsPartialBlobs {
            let partial = collect(self.inner.partial_blobs().await?).await?;
            hashes.retain(|hash| !partial.contains(hash));
        }
        self.inner.delete(hashes).await
    }
}

impl Lifecycle for Broken {
    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }

    async fn shutdown(&self) -> Result<()> {
        self.inner.shutdown().await
    }
}
