//! A store with a defect: the look-up, and what all parts share.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBlobSize, BlobStatus, Delete, EntryStatus, Error, Hash, HashAndFormat, Lifecycle, Map, MapEntry,
    MapMut, Result, Store, Tag, TagRange, TempTag, TempTagRegistry, TempTags, collect,
};

use super::{
    Defect,
    entry::{BrokenEntry, Reading},
};

/// Any store, with one [`Defect`] that is chosen at run time. For all else it forwards.
#[derive(Clone)]
pub struct Broken<S> {
    pub(super) inner: S,
    pub(super) defect: Defect,
    notes: Arc<Notes>,
}

/// What a defect needs to remember.
#[derive(Default)]
pub(super) struct Notes {
    pub(super) latest_import: Arc<Mutex<Option<Hash>>>,
    pub(super) files: Mutex<BTreeMap<Hash, PathBuf>>,
    statuses: Mutex<BTreeMap<Hash, EntryStatus>>,
    pub(super) deleted: Mutex<Vec<Hash>>,
    pub(super) readers: Arc<AtomicUsize>,
    /// Issues tags that hold nothing in the store.
    pub(super) elsewhere: TempTagRegistry,
    has_shut_down: AtomicBool,
    /// Told of the end, and of what was held by temporary tags then.
    at_shutdown: Mutex<Option<AtShutdown>>,
}

type AtShutdown = Box<dyn FnOnce(Vec<HashAndFormat>) + Send>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Store> Broken<S> {
    /// Breaks a store.
    pub fn new(inner: S, defect: Defect) -> Self {
        Self { inner, defect, notes: Arc::default() }
    }

    pub(super) fn is(&self, defect: Defect) -> bool {
        self.defect == defect
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    pub(super) fn entry<E: MapEntry>(&self, inner: E) -> BrokenEntry<E> {
        let file = lock(&self.notes.files).get(&inner.hash()).cloned();
        let reading = Reading { defect: self.defect, file, readers: self.notes.readers.clone() };
        let notes = self.notes.clone();
        let hash = inner.hash();
        BrokenEntry::new(inner, reading, move || lock(&notes.deleted).contains(&hash))
    }
}

impl<S: Store> Map for Broken<S> {
    type Entry = BrokenEntry<S::Entry>;

    async fn get(&self, hash: &Hash) -> Result<Option<Self::Entry>> {
        if self.is(Defect::NoEmptyBlob) && *hash == Hash::EMPTY && self.is_unlisted(hash).await? {
            return Ok(None);
        }
        match self.inner.get(hash).await? {
            None if self.is(Defect::MissingIsAnError) => Err(Error::NotFound { hash: *hash }),
            found => Ok(found.map(|entry| self.entry(entry))),
        }
    }
}

impl<S: Store> Broken<S> {
    async fn is_unlisted(&self, hash: &Hash) -> Result<bool> {
        Ok(!collect(self.inner.blobs().await?).await?.contains(hash))
    }

    /// The status as this store tells it.
    fn told(&self, hash: &Hash, status: EntryStatus) -> EntryStatus {
        if self.is(Defect::StatusIsRemembered) {
            return *lock(&self.notes.statuses).entry(*hash).or_insert(status);
        }
        status
    }
}

impl<S: Store> BlobStatus for Broken<S> {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        let status = self.inner.entry_status(hash).await?;
        if self.is(Defect::NoEmptyBlob) && *hash == Hash::EMPTY && self.is_unlisted(hash).await? {
            return Ok(EntryStatus::NotFound);
        }
        if self.is(Defect::CompleteTooEarly) {
            // The last chunk makes the size known.
            let entry = self.inner.get(hash).await?;
            let is_known = entry.is_some_and(|entry| matches!(entry.size(), BaoBlobSize::Verified(_)));
            return Ok(if is_known { EntryStatus::Complete } else { status });
        }
        Ok(self.told(hash, status))
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        let status = self.inner.entry_status_sync(hash)?;
        if self.is(Defect::SyncStatusDisagrees) && status == EntryStatus::Partial {
            return Ok(EntryStatus::NotFound);
        }
        Ok(self.told(hash, status))
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        let present = self.inner.present_ranges(hash).await?;
        Ok(if self.is(Defect::AllIsPresent) { present.map(|_| ChunkRanges::all()) } else { present })
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        self.told_demoted(hash).await
    }
}

impl<S: Store> MapMut for Broken<S> {
    type EntryMut = BrokenEntry<S::EntryMut>;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<Self::EntryMut>> {
        Ok(self.inner.get_mut(hash).await?.map(|entry| self.entry(entry)))
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<Self::EntryMut> {
        if self.is(Defect::CompleteIsOverwritten)
            && self.inner.entry_status(&hash).await? == EntryStatus::Complete
        {
            self.inner.delete(vec![hash]).await?;
        }
        match self.inner.get_or_create(hash, size).await {
            Err(Error::SizeConflict { current, .. }) if self.is(Defect::ConflictIgnored) => {
                Ok(self.entry(self.inner.get_or_create(hash, current).await?))
            }
            created => Ok(self.entry(self.told_as(created)?)),
        }
    }

    async fn insert_complete(&self, entry: Self::EntryMut) -> Result<()> {
        if self.is(Defect::PromotionForgotten) {
            return Ok(());
        }
        match self.inner.insert_complete(entry.into_inner()).await {
            Err(Error::Incomplete { .. } | Error::SizeUnverified { .. })
                if self.is(Defect::PromotedWithoutCheck) =>
            {
                Ok(())
            }
            other => self.told_as(other),
        }
    }
}

impl<S: Store> TempTags for Broken<S> {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        if self.is(Defect::ReleasedEarly) {
            return self.notes.elsewhere.issue(content);
        }
        self.inner.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        let held = self.inner.temp_tags();
        if self.is(Defect::TemporaryFormatLost) {
            return Box::new(held.map(|content| HashAndFormat::raw(content.hash)));
        }
        held
    }
}

impl<S: Store> Delete for Broken<S> {
    async fn delete(&self, mut hashes: Vec<Hash>) -> Result<()> {
        match self.defect {
            Defect::DeletedFirstOnly => hashes.truncate(1),
            Defect::TagsStopDeletion => {
                let tags = collect(self.inner.tags(TagRange::all()).await?).await?;
                hashes.retain(|hash| !tags.iter().any(|(_, content)| content.hash == *hash));
            }
            Defect::MissingStopsDeletion => {
                for hash in &hashes {
                    if self.inner.entry_status(hash).await? == EntryStatus::NotFound {
                        return Err(Error::NotFound { hash: *hash });
                    }
                }
            }
            Defect::ZerosAfterDelete => lock(&self.notes.deleted).extend(&hashes),
            _ => {}
        }
        self.inner.delete(hashes).await
    }
}

impl<S: Store> Lifecycle for Broken<S> {
    async fn sync(&self) -> Result<()> {
        if self.is(Defect::SyncDropped) { Ok(()) } else { self.inner.sync().await }
    }

    async fn shutdown(&self) -> Result<()> {
        if self.notes.has_shut_down.swap(true, Ordering::Relaxed) {
            return match self.defect {
                Defect::ShutdownTwiceFails => Err(Error::Closed),
                _ => self.inner.shutdown().await,
            };
        }
        let held = self.inner.temp_tags().collect();
        if let Some(act) = lock(&self.notes.at_shutdown).take() {
            act(held);
        }
        match self.defect {
            Defect::NotClosed => return Ok(()),
            Defect::QueuedWriteLost => {
                let latest = *lock(&self.notes.latest_import);
                self.inner.delete(latest.into_iter().collect()).await?;
            }
            Defect::TagsLost => self.inner.delete_tags(TagRange::all()).await?,
            Defect::PartialLost => self.lose_partial_blobs().await?,
            _ => {}
        }
        self.inner.shutdown().await
    }
}

impl<S: Store> Broken<S> {
    /// A failure as this store tells it.
    pub(super) fn told_as<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if self.is(Defect::KindsLost) => Err(std::io::Error::other(error.to_string()).into()),
            other => other,
        }
    }

    /// Forgets all partial blobs.
    pub(super) async fn lose_partial_blobs(&self) -> Result<()> {
        let partial = collect(self.inner.partial_blobs().await?).await?;
        self.inner.delete(partial).await
    }

    pub(super) fn at_shutdown(self, act: impl FnOnce(Vec<HashAndFormat>) + Send + 'static) -> Self {
        *lock(&self.notes.at_shutdown) = Some(Box::new(act));
        self
    }

    pub(super) fn latest_import(&self) -> Arc<Mutex<Option<Hash>>> {
        self.notes.latest_import.clone()
    }

    pub(super) fn has_shut_down(&self) -> bool {
        self.notes.has_shut_down.load(Ordering::Relaxed)
    }

    /// What the store's tags are, for defects of listings.
    pub(super) async fn all_tags(&self) -> Result<Vec<(Tag, HashAndFormat)>> {
        collect(self.inner.tags(TagRange::all()).await?).await
    }
}

impl<S> fmt::Debug for Broken<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broken").field("defect", &self.defect).finish_non_exhaustive()
    }
}
