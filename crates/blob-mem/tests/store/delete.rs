use blob_mem::MemStore;
use blob_traits::{BlobFormat, EntryStatus, Error, Hash, MapEntryMut, collect, prelude::*};

use crate::sample::{Sample, chunks, error_of, present, status, write};

#[tokio::test]
async fn delete_removes_whatever_tags_say() {
    let store = MemStore::new();
    let pin = store.import_bytes("a".into(), BlobFormat::Raw).await.unwrap();
    let kept = store.import_bytes("b".into(), BlobFormat::Raw).await.unwrap();
    store.set_tag("tag".into(), Some(pin.hash_and_format())).await.unwrap();
    store.delete(vec![pin.hash(), Hash::new(b"missing"), pin.hash()]).await.unwrap();
    assert_eq!(status(&store, pin.hash()), EntryStatus::NotFound);
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [kept.hash()]);
    assert_eq!(store.get_tag(&"tag".into()).await.unwrap(), Some(pin.hash_and_format()));
}

#[tokio::test]
async fn open_entry_reads_on_after_delete() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap();
    let entry = store.existing(sample.hash).await.unwrap();
    store.delete(vec![sample.hash]).await.unwrap();
    assert!(store.get(&sample.hash).await.unwrap().is_none());
    let mut reader = entry.data_reader().await.unwrap();
    assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
}

/// A download that goes on after its blob was deleted must not end in a blob without bytes.
#[tokio::test]
async fn writer_of_a_deleted_blob_fails_and_completes_nothing() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    writer.write_batch(sample.size(), sample.items(&chunks(0..32))).await.unwrap();
    store.delete(vec![sample.hash]).await.unwrap();
    let error = error_of(writer.write_batch(sample.size(), sample.all_items()).await);
    assert!(matches!(error, Error::NotFound { hash } if hash == sample.hash));
    let error = store.insert_complete(entry.clone()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    // what it had is still readable
    let mut reader = entry.data_reader().await.unwrap();
    assert_eq!(reader.read_range(0, 32 * 1024).await.unwrap(), sample.data.slice(..32 * 1024));
}

#[tokio::test]
async fn blob_begun_again_after_delete_is_another_entry() {
    let store = MemStore::new();
    let sample = Sample::new(100_000);
    let old = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    store.delete(vec![sample.hash]).await.unwrap();
    write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
    assert!(matches!(store.insert_complete(old.clone()).await, Err(Error::NotFound { .. })));
    assert_eq!(present(&store, sample.hash).await, chunks(0..16));
    store.import_bytes(sample.data, BlobFormat::Raw).await.unwrap();
    store.insert_complete(old).await.unwrap();
    assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
}

#[tokio::test]
async fn empty_blob_is_there_even_after_delete() {
    let store = MemStore::new();
    store.import_bytes("".into(), BlobFormat::Raw).await.unwrap();
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [Hash::EMPTY]);
    store.delete(vec![Hash::EMPTY]).await.unwrap();
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
    assert_eq!(status(&store, Hash::EMPTY), EntryStatus::Complete);
}
