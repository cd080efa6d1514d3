//! A store without its writing capabilities reads as before.

use std::path::Path;

use blob_mem::{MemEntry, MemStore};
use blob_traits::{
    BlobFormat, EntryStatus, ExistingTarget, ExportMode, ExportOptions, Hash, HashAndFormat, Progress,
    ReadOnly, ReadOnlyEntry, Result, collect, prelude::*,
};

const _: fn() = {
    fn is_readable<S: ReadableStore + std::fmt::Debug>() {}
    is_readable::<ReadOnly<MemStore>>
};

/// Compiles as long as the type does not have the capability: with it, there are two `Lacks` to choose from.
macro_rules! assert_lacks {
    ($type:ty: $($capability:ident),+) => {$(
        const _: fn() = {
            trait Lacks<Marker> {
                fn it() {}
            }
            struct Has;
            impl<T> Lacks<()> for T {}
            impl<T: $capability> Lacks<Has> for T {}
            <$type as Lacks<_>>::it
        };
    )+};
}

assert_lacks!(ReadOnly<MemStore>: MapMut, Import, WriteTags, Delete, Lifecycle, Store);
assert_lacks!(ReadOnlyEntry<MemEntry>: MapEntryMut);

async fn read(store: &impl ReadableStore, hash: Hash, target: &Path) -> Result<()> {
    assert_eq!(store.read_to_bytes(hash).await?, "hello");
    assert_eq!(store.read_verified(hash, 1..3).await?, "el");
    let entry = store.existing(hash).await?;
    assert_eq!((entry.hash(), entry.size().value(), entry.is_complete()), (hash, 5, true));
    assert_eq!(store.entry_status(&hash).await?, EntryStatus::Complete);
    assert_eq!(store.entry_status_sync(&hash)?, EntryStatus::Complete);
    assert!(store.present_ranges(&hash).await?.is_some());
    assert_eq!(collect(store.blobs().await?).await?, [hash]);
    assert!(collect(store.partial_blobs().await?).await?.is_empty());
    assert_eq!(store.get_tag(&"a".into()).await?, Some(HashAndFormat::raw(hash)));
    let options = ExportOptions { mode: ExportMode::TryReference, existing: ExistingTarget::Replace };
    store.export(hash, target.into(), options, Progress::none()).await?;
    assert_eq!(std::fs::read(target)?, b"hello");
    Ok(())
}

#[tokio::test]
async fn what_reads_goes_to_the_store() {
    let store = MemStore::new();
    let pinned = store.import_bytes("hello".into(), BlobFormat::Raw).await.unwrap();
    store.set_tag("a".into(), Some(pinned.hash_and_format())).await.unwrap();
    let target = tempfile::NamedTempFile::new().unwrap();
    read(&ReadOnly::new(store), pinned.hash(), target.path()).await.unwrap();
}

#[tokio::test]
async fn temporary_tags_protect_what_is_read() {
    let store = MemStore::new();
    let readable = ReadOnly::new(store.clone());
    let content = HashAndFormat::raw(Hash::EMPTY);
    let held = readable.temp_tag(content);
    assert!(store.temp_tags().eq([content]) && readable.temp_tags().eq([content]));
    drop(held);
    assert!(store.temp_tags().eq([]));
}
