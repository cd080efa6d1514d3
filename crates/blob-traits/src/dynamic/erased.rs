//! The capabilities of a store in a form that can be `dyn`.

use std::{fmt::Debug, future::Future, path::PathBuf, pin::Pin};

use bao_tree::ChunkRanges;

use super::{DynEntry, DynEntryMut, DynRound};
use crate::{
    BlobStatus, BoxStream, CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Damage, Delete, Demote,
    EntryStatus, Export, ExportOptions, ExportProgress, FullStore, Hash, HashAndFormat, Import,
    ImportOptions, ImportProgress, ImportSource, Lifecycle, ListBlobs, Map, MapMut, Progress, ReadTags,
    Result, Scan, ScanBlobs, ScanOf, Sweep, Tag, TagRange, TempTag, TempTags, WriteTags,
};

/// A boxed future that can be sent.
pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All of [`FullStore`]. Methods have the names that they have there; arguments are what the generic ones convert into.
pub(super) trait ErasedStore: Debug + Send + Sync {
    fn get(&self, hash: Hash) -> BoxFuture<'_, Result<Option<DynEntry>>>;
    fn get_mut(&self, hash: Hash) -> BoxFuture<'_, Result<Option<DynEntryMut>>>;
    fn get_or_create(&self, hash: Hash, size: u64) -> BoxFuture<'_, Result<DynEntryMut>>;
    fn insert_complete(&self, entry: DynEntryMut) -> BoxFuture<'_, Result<()>>;
    fn entry_status(&self, hash: Hash) -> BoxFuture<'_, Result<EntryStatus>>;
    fn entry_status_sync(&self, hash: Hash) -> Result<EntryStatus>;
    fn present_ranges(&self, hash: Hash) -> BoxFuture<'_, Result<Option<ChunkRanges>>>;
    fn was_demoted(&self, hash: Hash) -> BoxFuture<'_, Result<bool>>;
    fn scan(&self, which: ScanOf) -> BoxFuture<'_, Result<Scan<DynEntry>>>;
    fn demote(&self, entry: DynEntry, damage: Damage) -> BoxFuture<'_, Result<Option<DynEntryMut>>>;
    fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> BoxFuture<'_, Result<()>>;
    fn blobs(&self) -> BoxFuture<'_, Result<BoxStream<Hash>>>;
    fn partial_blobs(&self) -> BoxFuture<'_, Result<BoxStream<Hash>>>;
    fn tags(&self, range: TagRange) -> BoxFuture<'_, Result<BoxStream<(Tag, HashAndFormat)>>>;
    fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> BoxFuture<'_, Result<()>>;
    fn create_tag(&self, content: HashAndFormat) -> BoxFuture<'_, Result<Tag>>;
    fn delete_tags(&self, range: TagRange) -> BoxFuture<'_, Result<()>>;
    fn rename_tag(&self, from: Tag, to: Tag) -> BoxFuture<'_, Result<()>>;
    fn temp_tag(&self, content: HashAndFormat) -> TempTag;
    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static>;
    fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> BoxFuture<'_, Result<(TempTag, u64)>>;
    fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: ExportOptions,
        progress: Progress<ExportProgress>,
    ) -> BoxFuture<'_, Result<()>>;
    fn delete(&self, hashes: Vec<Hash>) -> BoxFuture<'_, Result<()>>;
    fn begin_sweep(&self) -> BoxFuture<'_, Result<DynRound>>;
    fn sync(&self) -> BoxFuture<'_, Result<()>>;
    fn shutdown(&self) -> BoxFuture<'_, Result<()>>;
}

impl<S: FullStore> ErasedStore for S {
    fn get(&self, hash: Hash) -> BoxFuture<'_, Result<Option<DynEntry>>> {
        Box::pin(async move { Ok(Map::get(self, &hash).await?.map(DynEntry::new)) })
    }

    fn get_mut(&self, hash: Hash) -> BoxFuture<'_, Result<Option<DynEntryMut>>> {
        Box::pin(async move { Ok(MapMut::get_mut(self, &hash).await?.map(DynEntryMut::new)) })
    }

    fn get_or_create(&self, hash: Hash, size: u64) -> BoxFuture<'_, Result<DynEntryMut>> {
        Box::pin(async move { Ok(DynEntryMut::new(MapMut::get_or_create(self, hash, size).await?)) })
    }

    fn insert_complete(&self, entry: DynEntryMut) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move { MapMut::insert_complete(self, entry.into_inner()?).await })
    }

    fn entry_status(&self, hash: Hash) -> BoxFuture<'_, Result<EntryStatus>> {
        Box::pin(async move { BlobStatus::entry_status(self, &hash).await })
    }

    fn entry_status_sync(&self, hash: Hash) -> Result<EntryStatus> {
        BlobStatus::entry_status_sync(self, &hash)
    }

    fn present_ranges(&self, hash: Hash) -> BoxFuture<'_, Result<Option<ChunkRanges>>> {
        Box::pin(async move { BlobStatus::present_ranges(self, &hash).await })
    }

    fn was_demoted(&self, hash: Hash) -> BoxFuture<'_, Result<bool>> {
        Box::pin(async move { BlobStatus::was_demoted(self, &hash).await })
    }

    fn scan(&self, which: ScanOf) -> BoxFuture<'_, Result<Scan<DynEntry>>> {
        Box::pin(async move { Ok(ScanBlobs::scan(self, which).await?.map(DynEntry::new)) })
    }

    fn demote(&self, entry: DynEntry, damage: Damage) -> BoxFuture<'_, Result<Option<DynEntryMut>>> {
        Box::pin(
            async move { Ok(Demote::demote(self, entry.into_inner()?, damage).await?.map(DynEntryMut::new)) },
        )
    }

    fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(ConsistencyCheck::consistency_check(self, mode, progress))
    }

    fn blobs(&self) -> BoxFuture<'_, Result<BoxStream<Hash>>> {
        Box::pin(ListBlobs::blobs(self))
    }

    fn partial_blobs(&self) -> BoxFuture<'_, Result<BoxStream<Hash>>> {
        Box::pin(ListBlobs::partial_blobs(self))
    }

    fn tags(&self, range: TagRange) -> BoxFuture<'_, Result<BoxStream<(Tag, HashAndFormat)>>> {
        Box::pin(ReadTags::tags(self, range))
    }

    fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> BoxFuture<'_, Result<()>> {
        Box::pin(WriteTags::set_tag(self, tag, content))
    }

    fn create_tag(&self, content: HashAndFormat) -> BoxFuture<'_, Result<Tag>> {
        Box::pin(WriteTags::create_tag(self, content))
    }

    fn delete_tags(&self, range: TagRange) -> BoxFuture<'_, Result<()>> {
        Box::pin(WriteTags::delete_tags(self, range))
    }

    fn rename_tag(&self, from: Tag, to: Tag) -> BoxFuture<'_, Result<()>> {
        Box::pin(WriteTags::rename_tag(self, from, to))
    }

    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        TempTags::temp_tag(self, content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        TempTags::temp_tags(self)
    }

    fn import(
        &self,
        source: ImportSource,
        options: ImportOptions,
        progress: Progress<ImportProgress>,
    ) -> BoxFuture<'_, Result<(TempTag, u64)>> {
        Box::pin(Import::import(self, source, options, progress))
    }

    fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: ExportOptions,
        progress: Progress<ExportProgress>,
    ) -> BoxFuture<'_, Result<()>> {
        Box::pin(Export::export(self, hash, target, options, progress))
    }

    fn begin_sweep(&self) -> BoxFuture<'_, Result<DynRound>> {
        Box::pin(async move { Ok(DynRound::new(Sweep::begin_sweep(self).await?)) })
    }

    fn delete(&self, hashes: Vec<Hash>) -> BoxFuture<'_, Result<()>> {
        Box::pin(Delete::delete(self, hashes))
    }

    fn sync(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Lifecycle::sync(self))
    }

    fn shutdown(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(Lifecycle::shutdown(self))
    }
}
