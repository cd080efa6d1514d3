//! A store whose blobs read as if what is stored of them had been harmed.

mod entry;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bao_tree::{BaoTree, ChunkRanges, io::Parent};
use blob_traits::{
    BLOCK_SIZE, Batch, BlobStatus, BoxStream, Damage, Demote, EntryStatus, Hash, HashAndFormat, ListBlobs,
    Map, MapMut, ReadTags, Result, Scan, ScanBlobs, ScanOf, Scanned, Tag, TagRange, TempTag, TempTags,
};
use bytes::Bytes;
use futures_lite::{StreamExt, future::block_on};

use crate::{
    Sample,
    harm::{Harmful, Part},
};

pub(crate) use entry::HarmedEntry;

/// Any store, with harm to some of its blobs. What is taken back by [`Demote`], or mended, is harmed no more.
#[derive(Clone)]
pub(crate) struct Harmed<S> {
    inner: S,
    harmed: Arc<Mutex<BTreeMap<Hash, Arc<Stored>>>>,
}

/// What reads as stored of a blob.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    sample: Sample,
    data: Option<Bytes>,
    tree: Option<Bytes>,
    /// Chunks that the system fails to read.
    unreadable: ChunkRanges,
    /// Whether it fails to read the tree.
    tree_is_readable: bool,
}

impl Stored {
    fn sound(sample: &Sample) -> Self {
        Self {
            sample: sample.clone(),
            data: Some(sample.data.clone()),
            tree: Some(sample.outboard.data.clone().into()),
            unreadable: ChunkRanges::empty(),
            tree_is_readable: true,
        }
    }

    fn is_sound(&self) -> bool {
        self.data.as_ref() == Some(&self.sample.data)
            && self.tree.as_deref() == Some(&self.sample.outboard.data)
            && self.is_readable()
    }

    fn is_readable(&self) -> bool {
        self.unreadable.is_empty() && self.tree_is_readable
    }

    /// What is there once some chunks are not said to be present any more, and some pairs have been mended.
    fn healed(&self, present: &ChunkRanges, mended: &[Parent]) -> Self {
        let tree = BaoTree::new(self.sample.size(), BLOCK_SIZE);
        let mut data = self.sample.data.to_vec();
        for group in 0..self.sample.n_groups() {
            let range = self.sample.bytes_of_group(group);
            let kept = self.data.as_ref().and_then(|kept| kept.get(range.clone()));
            if let Some(kept) = kept.filter(|_| self.sample.group_range(group).is_subset(present))
                && let Some(to) = data.get_mut(range)
            {
                to.copy_from_slice(kept);
            }
        }
        let mut pairs = self.sample.outboard.data.clone();
        for node in tree.pre_order_nodes_iter() {
            let is_needed = !ChunkRanges::from(node.chunk_range()).is_disjoint(present);
            let is_mended = mended.iter().any(|parent| parent.node == node);
            let at = tree.pre_order_offset(node).and_then(|at| usize::try_from(at * 64).ok());
            let Some(range) = at.map(|at| at..at + 64).filter(|_| is_needed && !is_mended) else { continue };
            if let Some(to) = pairs.get_mut(range.clone()) {
                match self.tree.as_ref().and_then(|tree| tree.get(range)) {
                    Some(kept) => to.copy_from_slice(kept),
                    None => to.fill(0),
                }
            }
        }
        Self { data: Some(data.into()), tree: Some(pairs.into()), ..Self::sound(&self.sample) }
    }
}

impl<S> Harmed<S> {
    /// A store without any harm.
    pub(crate) fn new(inner: S) -> Self {
        Self { inner, harmed: Arc::default() }
    }

    /// The store as it is.
    pub(crate) fn inner(&self) -> &S {
        &self.inner
    }

    pub(crate) fn into_inner(self) -> S {
        self.inner
    }

    fn harmed(&self) -> MutexGuard<'_, BTreeMap<Hash, Arc<Stored>>> {
        self.harmed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, sample: &Sample, change: impl FnOnce(&mut Stored)) {
        let mut harmed = self.harmed();
        let stored = harmed.entry(sample.hash).or_insert_with(|| Arc::new(Stored::sound(sample)));
        change(Arc::make_mut(stored));
    }

    /// Does harm to what is read of a blob.
    pub(crate) fn harm(&self, Harmful { sample, part, harm }: &Harmful) {
        let after = |bytes: Option<&Bytes>| Some(harm.applied(bytes?)?.into());
        self.change(sample, |stored| match part {
            Part::Data => stored.data = after(stored.data.as_ref()),
            Part::Tree => stored.tree = after(stored.tree.as_ref()),
        });
    }

    /// Makes reads of some chunks fail, as those of a bad disk.
    pub(crate) fn make_unreadable(&self, sample: &Sample, chunks: &ChunkRanges) {
        self.change(sample, |stored| stored.unreadable |= chunks.clone());
    }

    /// Makes reads of a tree fail.
    pub(crate) fn make_tree_unreadable(&self, sample: &Sample) {
        self.change(sample, |stored| stored.tree_is_readable = false);
    }

    /// Undoes all harm to what is read.
    pub(crate) fn heal(&self) {
        self.harmed().clear();
    }

    fn stored(&self, hash: &Hash) -> Option<Arc<Stored>> {
        self.harmed().get(hash).cloned()
    }
}

impl<S: Map> Map for Harmed<S> {
    type Entry = HarmedEntry<S::Entry>;

    async fn get(&self, hash: &Hash) -> Result<Option<Self::Entry>> {
        let stored = self.stored(hash);
        Ok(self.inner.get(hash).await?.map(|entry| HarmedEntry::new(entry, stored)))
    }
}

impl<S: BlobStatus> BlobStatus for Harmed<S> {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        self.inner.entry_status(hash).await
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

impl<S: ListBlobs> ListBlobs for Harmed<S> {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        self.inner.blobs().await
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.inner.partial_blobs().await
    }
}

impl<S: ReadTags> ReadTags for Harmed<S> {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        self.inner.tags(range).await
    }
}

impl<S: TempTags> TempTags for Harmed<S> {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.inner.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        self.inner.temp_tags()
    }
}

impl<S: ScanBlobs> ScanBlobs for Harmed<S> {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Self::Entry>> {
        let Scan { n_blobs, batches } = self.inner.scan(which).await?;
        let store = self.clone();
        let batches = batches.map(move |batch| {
            let (batch, store) = (batch?, store.clone());
            let harm = move |blob: Result<_>| match blob {
                Ok(blob) => block_on(store.scanned(blob)).transpose(),
                Err(e) => Some(Err(e)),
            };
            Ok(Batch::new(batch.filter_map(harm)))
        });
        Ok(Scan { n_blobs, batches: batches.boxed() })
    }
}

impl<S: Map> Harmed<S> {
    /// The same with the harm. What cannot be read is handed out as an entry, whose reader says why.
    async fn scanned(&self, scanned: Scanned<S::Entry>) -> Result<Option<Scanned<HarmedEntry<S::Entry>>>> {
        let stored = self.stored(&scanned.hash());
        Ok(Some(match (scanned, stored) {
            (Scanned::Entry { entry, path }, stored) => {
                Scanned::Entry { entry: HarmedEntry::new(entry, stored), path }
            }
            (whole @ Scanned::Whole { .. }, None) => whole.map(|entry| HarmedEntry::new(entry, None)),
            (Scanned::Whole { hash, path, .. }, Some(stored)) => match (&stored.data, &stored.tree) {
                (Some(data), Some(tree)) if stored.is_readable() => {
                    Scanned::Whole { hash, data: data.clone(), outboard: tree.clone(), path }
                }
                _ => match self.get(&hash).await? {
                    Some(entry) => Scanned::Entry { entry, path: None },
                    None => return Ok(None),
                },
            },
        }))
    }
}

impl<S: MapMut> MapMut for Harmed<S> {
    type EntryMut = HarmedEntry<S::EntryMut>;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<Self::EntryMut>> {
        let stored = self.stored(hash);
        Ok(self.inner.get_mut(hash).await?.map(|entry| HarmedEntry::new(entry, stored)))
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<Self::EntryMut> {
        let stored = self.stored(&hash);
        Ok(HarmedEntry::new(self.inner.get_or_create(hash, size).await?, stored))
    }

    async fn insert_complete(&self, entry: Self::EntryMut) -> Result<()> {
        self.inner.insert_complete(entry.into_inner()).await
    }
}

impl<S: Demote + BlobStatus> Demote for Harmed<S> {
    async fn demote(&self, entry: Self::Entry, damage: Damage) -> Result<Option<Self::EntryMut>> {
        let hash = blob_traits::MapEntry::hash(&entry);
        let before = self.inner.present_ranges(&hash).await?.unwrap_or_else(ChunkRanges::empty);
        let present = before - damage.lost.clone();
        let mended: Vec<_> =
            damage.mended.iter().map(|parent| Parent { node: parent.node, pair: parent.pair }).collect();
        let Some(entry) = self.inner.demote(entry.into_inner(), damage).await? else { return Ok(None) };
        let healed = self.stored(&hash).map(|stored| stored.healed(&present, &mended));
        match healed.filter(|healed| !healed.is_sound()) {
            Some(healed) => self.harmed().insert(hash, Arc::new(healed)),
            None => self.harmed().remove(&hash),
        };
        Ok(Some(HarmedEntry::new(entry, self.stored(&hash))))
    }
}

impl<S> fmt::Debug for Harmed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Harmed").field("n", &self.harmed().len()).finish_non_exhaustive()
    }
}
