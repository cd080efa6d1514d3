//! A store whose type is hidden does what the store inside does.

use std::sync::Arc;

use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{BaoContentItem, Leaf, fsm::Outboard},
};
use blob_mem::{MemOptions, MemStore};
use blob_traits::{
    BaoBlobSize, BlobFormat, EntryStatus, Error, ExportMode, Hash, HashAndFormat, ImportSource, Progress,
    Store, Tag, collect, dynamic::DynStore, prelude::*,
};
use bytes::Bytes;
use futures_lite::StreamExt;
use iroh_io::AsyncSliceReader;
use tokio::io::AsyncReadExt;

const _: fn() = {
    fn is_a_store<S: Store>() {}
    is_a_store::<DynStore>
};

/// A store and the same with its type hidden.
fn both() -> (MemStore, DynStore) {
    let store = MemStore::new();
    (store.clone(), DynStore::new(store))
}

fn bytes(len: usize) -> Bytes {
    (0..len).map(|i| (i % 251).to_le_bytes()[0]).collect()
}

/// One leaf, without parents: blobs of up to 16 KiB have none.
fn leaf(data: &Bytes, offset: usize, end: usize) -> Vec<BaoContentItem> {
    vec![Leaf { offset: offset as u64, data: data.slice(offset..end) }.into()]
}

fn error_of<T>(result: blob_traits::Result<T>) -> Error {
    result.map(drop).expect_err("the call is to fail")
}

#[tokio::test]
async fn store_is_chosen_at_run_time() {
    let choose = |limit: Option<u64>| match limit {
        Some(max_blob_size) => DynStore::new(MemStore::with_options(MemOptions { max_blob_size })),
        None => DynStore::new(MemStore::new()),
    };
    let mut imported = Vec::new();
    for store in [choose(Some(10)), choose(None)] {
        imported.push(store.import_bytes(bytes(100), BlobFormat::Raw).await);
    }
    assert!(matches!(imported[..], [Err(Error::TooLarge { size: 100, limit: 10 }), Ok(_)]));
}

#[tokio::test]
async fn clone_is_the_same_store() {
    let (_, store) = both();
    let pinned = store.clone().import_bytes(bytes(10), BlobFormat::Raw).await.unwrap();
    assert_eq!(store.read_to_bytes(pinned.hash()).await.unwrap(), bytes(10));
    assert_eq!(format!("{store:?}"), "DynStore(MemStore { n_blobs: 1, n_tags: 0, .. })");
}

#[tokio::test]
async fn import_reaches_the_store_with_progress_and_tag() {
    let (inner, store) = both();
    let (progress, mut events) = Progress::channel(64);
    let source = ImportSource::Bytes(bytes(50_000));
    let (pinned, size) = store.import_tagged(source, BlobFormat::Raw, "a".into(), progress).await.unwrap();
    assert_eq!(size, 50_000);
    assert!(events.recv().await.is_some());
    assert_eq!(inner.get_tag(&"a".into()).await.unwrap(), Some(pinned.hash_and_format()));
    assert_eq!(inner.read_to_bytes(pinned.hash()).await.unwrap(), bytes(50_000));
}

#[tokio::test]
async fn dropping_a_call_drops_the_stores_own() {
    let (_, store) = both();
    let held = Arc::new(());
    let guard = held.clone();
    let never = futures_lite::stream::pending().inspect(move |_| drop(guard.clone()));
    let import = store.import_stream(never, BlobFormat::Raw, Progress::none());
    assert!(futures_lite::future::poll_once(import).await.is_none());
    assert_eq!(Arc::strong_count(&held), 1);
}

#[tokio::test]
async fn readers_read_what_the_store_has() {
    let (inner, store) = both();
    let pinned = inner.import_bytes(bytes(50_000), BlobFormat::Raw).await.unwrap();
    let entry = store.existing(pinned.hash()).await.unwrap();
    assert_eq!(
        (entry.hash(), entry.size(), entry.is_complete()),
        (pinned.hash(), BaoBlobSize::Verified(50_000), true)
    );
    let mut reader = entry.data_reader().await.unwrap();
    assert_eq!(reader.size().await.unwrap(), 50_000);
    assert_eq!(reader.read_at(49_990, 20).await.unwrap(), bytes(50_000)[49_990..]);
    assert!(reader.read_exact_at(49_990, 20).await.is_err());
    assert_eq!(reader.read_range(7, 20).await.unwrap(), bytes(50_000)[7..27]);
    assert_eq!(
        store.read_verified(pinned.hash(), 16_000..17_000).await.unwrap(),
        bytes(50_000)[16_000..17_000]
    );
    let mut file = store.reader(pinned.hash()).await.unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, bytes(50_000));
}

#[tokio::test]
async fn outboard_is_the_stores() {
    let (inner, store) = both();
    let hash = inner.import_bytes(bytes(100_000), BlobFormat::Raw).await.unwrap().hash();
    let mut expected = inner.existing(hash).await.unwrap().outboard().await.unwrap();
    let mut outboard = store.existing(hash).await.unwrap().outboard().await.unwrap();
    assert_eq!((outboard.root(), outboard.tree()), (expected.root(), expected.tree()));
    for node in expected.tree().pre_order_nodes_iter() {
        assert_eq!(outboard.load(node).await.unwrap(), expected.load(node).await.unwrap());
    }
}

#[tokio::test]
async fn partial_blob_is_written_and_promoted() {
    let (inner, store) = both();
    let data = bytes(10_000);
    let hash = Hash::new(&data);
    let entry = store.get_or_create(hash, 10_000).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(10_000, leaf(&data, 0, 4096)).await.unwrap();
    writer.sync().await.unwrap();
    assert_eq!(inner.present_ranges(&hash).await.unwrap(), Some(ChunkRanges::from(..ChunkNum(4))));
    assert_eq!(entry.size(), BaoBlobSize::Unverified(10_000));
    assert!(matches!(error_of(store.insert_complete(entry).await), Error::SizeUnverified { .. }));

    let entry = store.get_mut(&hash).await.unwrap().unwrap();
    assert_eq!(entry.data_reader().await.unwrap().read_range(0, 10).await.unwrap(), data[..10]);
    assert_eq!(Hash::from(entry.outboard().await.unwrap().root()), hash);
    let conflict = writer.write_batch(20_000, leaf(&data, 4096, 8192)).await;
    assert!(matches!(Error::from(conflict.unwrap_err()), Error::SizeConflict { .. }));
    writer.write_batch(10_000, leaf(&data, 4096, 10_000)).await.unwrap();
    store.insert_complete(entry.clone()).await.unwrap();
    assert!(entry.is_complete());
    assert_eq!(inner.entry_status_sync(&hash).unwrap(), EntryStatus::Complete);
}

#[tokio::test]
async fn verified_stream_goes_from_store_to_store() {
    let ((_, from), (_, to)) = (both(), both());
    let hash = from.import_bytes(bytes(200_000), BlobFormat::Raw).await.unwrap().hash();
    let ranges = ChunkRanges::from(ChunkNum(20)..);
    let stream = from.export_bao(hash, ranges.clone(), Vec::new()).await.unwrap();
    to.import_bao(hash, 200_000, ranges, Bytes::from(stream)).await.unwrap();
    assert_eq!(to.entry_status(&hash).await.unwrap(), EntryStatus::Partial);
    assert_eq!(to.read_range(hash, 32_768..200_000).await.unwrap(), bytes(200_000)[32_768..]);
    assert!(matches!(error_of(to.read_to_bytes(hash).await), Error::Incomplete { .. }));
}

/// A hidden store inside of another has entries of another type than a store in memory.
#[tokio::test]
async fn entry_of_another_type_of_store_is_refused() {
    let (_, store) = both();
    let twice = DynStore::new(store.clone());
    let hash = Hash::new(bytes(10));
    let entry = store.get_or_create(hash, 10).await.unwrap();
    let error = error_of(twice.insert_complete(entry.clone()).await);
    assert!(matches!(error, Error::ForeignEntry { hash: h } if h == hash));
    let foreign = twice.get_mut(&hash).await.unwrap().unwrap();
    let error = error_of(store.insert_complete(foreign).await);
    assert!(matches!(error, Error::ForeignEntry { hash: h } if h == hash));

    entry.batch_writer().await.unwrap().write_batch(10, leaf(&bytes(10), 0, 10)).await.unwrap();
    store.insert_complete(entry).await.unwrap();
}

#[tokio::test]
async fn entry_of_another_store_of_the_type_is_for_the_store_to_judge() {
    let ((inner, store), (other_inner, other)) = (both(), both());
    let hash = Hash::new(bytes(10));
    let expected = inner.insert_complete(other_inner.get_or_create(hash, 10).await.unwrap()).await;
    let got = store.insert_complete(other.get_mut(&hash).await.unwrap().unwrap()).await;
    assert_eq!(error_of(got).code(), error_of(expected).code());
}

#[tokio::test]
async fn blobs_are_told_and_listed() {
    let (inner, store) = both();
    let whole = inner.import_bytes(bytes(10), BlobFormat::Raw).await.unwrap().hash();
    let partial = Hash::new(bytes(20));
    inner.get_or_create(partial, 20).await.unwrap();
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [whole]);
    assert_eq!(collect(store.partial_blobs().await.unwrap()).await.unwrap(), [partial]);
    assert_eq!(store.entry_status(&whole).await.unwrap(), EntryStatus::Complete);
    assert_eq!(store.entry_status_sync(&partial).unwrap(), EntryStatus::Partial);
    assert_eq!(store.present_ranges(&partial).await.unwrap(), Some(ChunkRanges::empty()));
    assert!(store.get(&Hash::new("absent")).await.unwrap().is_none());
    assert!(store.get_mut(&Hash::new("absent")).await.unwrap().is_none());
}

#[tokio::test]
async fn tags_are_the_stores() {
    let (inner, store) = both();
    let content = HashAndFormat::raw(Hash::new("a"));
    let names = async || -> Vec<Tag> {
        let tags = collect(inner.tags(..).await.unwrap()).await.unwrap();
        tags.into_iter().map(|(tag, _)| tag).collect()
    };
    store.set_tag("a".into(), Some(content)).await.unwrap();
    store.set_tag("c".into(), Some(content)).await.unwrap();
    store.rename_tag("a".into(), "b".into()).await.unwrap();
    assert_eq!(names().await, [Tag::from("b"), "c".into()]);
    assert_eq!(collect(store.tags(Tag::from("c")..).await.unwrap()).await.unwrap(), [("c".into(), content)]);
    store.delete_tags(..Tag::from("c")).await.unwrap();
    store.delete_tag("c".into()).await.unwrap();
    let made = store.create_tag(content).await.unwrap();
    assert_eq!(names().await, [made]);
    assert!(matches!(error_of(store.rename_tag("x".into(), "y".into()).await), Error::TagNotFound { .. }));
}

#[tokio::test]
async fn temporary_tags_are_the_stores() {
    let (inner, store) = both();
    let content = HashAndFormat::hash_seq(Hash::new("a"));
    let held = store.temp_tag(content);
    assert!(inner.temp_tags().eq([content]) && store.temp_tags().eq([content]));
    drop(held);
    assert!(inner.temp_tags().eq([]));
}

#[tokio::test]
async fn export_writes_the_file_and_keeps_the_options() {
    let (_, store) = both();
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    let hash = store.import_bytes(bytes(50_000), BlobFormat::Raw).await.unwrap().hash();
    store.export(hash, target.clone(), ExportMode::Copy, Progress::none()).await.unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), bytes(50_000));
    let again = store.export(hash, target, ExportMode::Copy, Progress::none()).await;
    assert!(matches!(error_of(again), Error::TargetExists { .. }));
}

#[tokio::test]
async fn delete_removes_from_the_store() {
    let (inner, store) = both();
    let hash = inner.import_bytes(bytes(10), BlobFormat::Raw).await.unwrap().hash();
    store.delete(vec![hash]).await.unwrap();
    assert_eq!(inner.entry_status_sync(&hash).unwrap(), EntryStatus::NotFound);
}

#[tokio::test]
async fn store_is_closed_after_shutdown() {
    let (inner, store) = both();
    let hash = Hash::new(bytes(10));
    let entry = store.get_or_create(hash, 10).await.unwrap();
    store.sync().await.unwrap();
    store.shutdown().await.unwrap();
    assert!(matches!(error_of(inner.blobs().await), Error::Closed));
    assert!(matches!(error_of(store.get(&hash).await), Error::Closed));
    assert!(matches!(error_of(store.sync().await), Error::Closed));
    assert!(matches!(error_of(store.insert_complete(entry.clone()).await), Error::Closed));
    assert!(matches!(Error::from(entry.batch_writer().await.unwrap_err()), Error::Closed));
    store.shutdown().await.unwrap();
}
