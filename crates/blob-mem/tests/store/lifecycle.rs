use blob_mem::MemStore;
use blob_traits::{
    BlobFormat, Error, ExportMode, HashAndFormat, ImportSource, MapEntryMut, Progress, prelude::*,
};

use crate::sample::{Sample, error_of};

fn closed<T>(result: Result<T, Error>) {
    assert!(result.is_err_and(|error| matches!(error, Error::Closed)));
}

#[tokio::test]
async fn every_call_after_shutdown_says_closed() {
    let store = MemStore::new();
    let clone = store.clone();
    let tag = store.import_bytes("a".into(), BlobFormat::Raw).await.unwrap();
    let (hash, content) = (tag.hash(), tag.hash_and_format());
    let entry = store.get_or_create(Sample::new(50_000).hash, 50_000).await.unwrap();
    store.sync().await.unwrap();
    store.shutdown().await.unwrap();
    store.shutdown().await.unwrap();

    closed(clone.get(&hash).await);
    closed(clone.get_mut(&hash).await);
    closed(clone.get_or_create(hash, 1).await);
    closed(clone.insert_complete(entry).await);
    closed(clone.entry_status(&hash).await);
    closed(clone.entry_status_sync(&hash));
    closed(clone.present_ranges(&hash).await);
    closed(clone.blobs().await.map(drop));
    closed(clone.partial_blobs().await.map(drop));
    closed(clone.tags(..).await.map(drop));
    closed(clone.set_tag("a".into(), Some(content)).await);
    closed(clone.create_tag(content).await);
    closed(clone.delete_tags(..).await);
    closed(clone.rename_tag("a".into(), "b".into()).await);
    closed(clone.import(ImportSource::Bytes("a".into()), BlobFormat::Raw.into(), Progress::none()).await);
    closed(clone.export(hash, "/tmp/never".into(), ExportMode::Copy, Progress::none()).await);
    closed(clone.delete(vec![hash]).await);
    closed(clone.sync().await);
}

#[tokio::test]
async fn handles_open_nothing_after_shutdown() {
    let store = MemStore::new();
    let sample = Sample::new(50_000);
    let entry = store.get_or_create(sample.hash, 50_000).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    store.shutdown().await.unwrap();
    assert!(matches!(error_of(entry.data_reader().await), Error::Closed));
    assert!(matches!(error_of(entry.outboard().await.map(drop)), Error::Closed));
    assert!(matches!(error_of(entry.batch_writer().await.map(drop)), Error::Closed));
    assert!(matches!(error_of(writer.write_batch(50_000, sample.all_items()).await), Error::Closed));
    assert!(matches!(error_of(writer.sync().await), Error::Closed));
}

#[tokio::test]
async fn reader_that_is_open_reads_on_after_shutdown() {
    let store = MemStore::new();
    let tag = store.import_bytes("still here".into(), BlobFormat::Raw).await.unwrap();
    let mut reader = store.existing(tag.hash()).await.unwrap().data_reader().await.unwrap();
    store.shutdown().await.unwrap();
    assert_eq!(reader.read_range(0, 5).await.unwrap(), "still");
}

#[tokio::test]
async fn temporary_tags_do_no_harm_after_shutdown() {
    let store = MemStore::new();
    store.shutdown().await.unwrap();
    let tag = store.temp_tag(HashAndFormat::raw(Sample::new(1).hash));
    drop(tag.clone());
    assert_eq!(format!("{store:?}"), "MemStore { n_blobs: 0, n_tags: 0, .. }");
}
