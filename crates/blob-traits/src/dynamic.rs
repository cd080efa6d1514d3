//! One type for all stores, for programs that choose a backend at run time.

mod entry;
mod erased;
mod reader;
mod round;
mod writer;

use std::{path::PathBuf, sync::Arc};

use bao_tree::ChunkRanges;

use self::erased::ErasedStore;
use crate::{
    BlobStatus, BoxStream, CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Damage, Delete, Demote,
    EntryStatus, Export, ExportOptions, ExportProgress, FullStore, Hash, HashAndFormat, Import,
    ImportOptions, ImportProgress, ImportSource, Lifecycle, ListBlobs, Map, MapMut, Progress, ReadTags,
    Result, Scan, ScanBlobs, ScanOf, Sweep, Tag, TagRange, TempTag, TempTags, WriteTags,
};

pub use entry::{DynEntry, DynEntryMut};
pub use reader::{DynOutboard, DynReader};
pub use round::DynRound;
pub use writer::DynBatchWriter;

/// A store of any type.
///
/// Every call goes to the store inside, with all that it promises: errors, durability, and what dropping the future
/// does. A call costs one allocation more than the store's own, for its future, and one more where it returns an
/// entry, a reader, an outboard or a writer. A clone is another handle to the same store.
///
/// One thing can go wrong that the compiler would have refused otherwise:
/// [`insert_complete`](MapMut::insert_complete) and [`demote`](Demote::demote) fail with [`Error::ForeignEntry`](crate::Error::ForeignEntry) when the
/// entry comes from a `DynStore` over another type of store.
///
/// # Example
///
/// ```
/// use blob_traits::{BlobFormat, Hash, Result, dynamic::DynStore, prelude::*};
///
/// fn choose(in_memory: bool, memory: impl FullStore, disk: impl FullStore) -> DynStore {
///     if in_memory { DynStore::new(memory) } else { DynStore::new(disk) }
/// }
///
/// /// Compiled once, for all stores.
/// async fn keep(store: &DynStore, text: &'static str) -> Result<Hash> {
///     let pinned = store.import_bytes(text.into(), BlobFormat::Raw).await?;
///     store.set_tag("greeting".into(), Some(pinned.hash_and_format())).await?;
///     Ok(pinned.hash())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct DynStore(Arc<dyn ErasedStore>);

impl DynStore {
    /// Hides the type of a store.
    pub fn new(store: impl FullStore) -> Self {
        Self(Arc::new(store))
    }
}

impl Map for DynStore {
    type Entry = DynEntry;

    async fn get(&self, hash: &Hash) -> Result<Option<DynEntry>> {
        self.0.get(*hash).await
    }
}

impl MapMut for DynStore {
    type EntryMut = DynEntryMut;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<DynEntryMut>> {
        self.0.get_mut(*hash).await
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<DynEntryMut> {
        self.0.get_or_create(hash, size).await
    }

    async fn insert_complete(&self, entry: DynEntryMut) -> Result<()> {
        self.0.insert_complete(entry).await
    }
}

impl BlobStatus for DynStore {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        self.0.entry_status(*hash).await
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        self.0.entry_status_sync(*hash)
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        self.0.present_ranges(*hash).await
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        self.0.was_demoted(*hash).await
    }
}

impl ScanBlobs for DynStore {
    async fn scan(&self, which: ScanOf) -> Result<Scan<DynEntry>> {
        self.0.scan(which).await
    }
}

impl Demote for DynStore {
    async fn demote(&self, entry: DynEntry, damage: Damage) -> Result<Option<DynEntryMut>> {
        self.0.demote(entry, damage).await
    }
}

impl ConsistencyCheck for DynStore {
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        self.0.consistency_check(mode, progress).await
    }
}

impl ListBlobs for DynStore {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        self.0.blobs().await
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.0.partial_blobs().await
    }
}

impl ReadTags for DynStore {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        self.0.tags(range.into()).await
    }
}

impl WriteTags for DynStore {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        self.0.set_tag(tag, content).await
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        self.0.create_tag(content).await
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        self.0.delete_tags(range.into()).await
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        self.0.rename_tag(from, to).await
    }
}

impl TempTags for DynStore {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.0.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        self.0.temp_tags()
    }
}

impl Sweep for DynStore {
    type Round = DynRound;

    async fn begin_sweep(&self) -> Result<DynRound> {
        self.0.begin_sweep().await
    }
}

impl Import for DynStore {
    async fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> Result<(TempTag, u64)> {
        self.0.import(source, options, progress).await
    }
}

impl Export for DynStore {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        self.0.export(hash, target, options.into(), progress).await
    }
}

impl Delete for DynStore {
    async fn delete(&self, hashes: Vec<Hash>) -> Result<()> {
        self.0.delete(hashes).await
    }
}

impl Lifecycle for DynStore {
    async fn sync(&self) -> Result<()> {
        self.0.sync().await
    }

    async fn shutdown(&self) -> Result<()> {
        self.0.shutdown().await
    }
}
