use std::{io, time::Duration};

use blob_mem::{MemOptions, MemStore};
use blob_traits::{
    BlobFormat, Collection, EntryStatus, Error, Hash, HashAndFormat, ImportMode, ImportSource, MAX_TAG_LEN,
    Progress, Tag, collect, prelude::*,
};
use bytes::Bytes;
use futures_lite::stream;

use crate::sample::{BOUNDARY_SIZES, Sample, chunks, status, write};

fn pieces(data: &Bytes, len: usize) -> Vec<io::Result<Bytes>> {
    data.chunks(len).map(|piece| Ok(data.slice_ref(piece))).collect()
}

#[tokio::test]
async fn every_way_in_gives_the_blake3_hash_and_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    for size in BOUNDARY_SIZES {
        let sample = Sample::new(size);
        let path = directory.path().join(size.to_string());
        std::fs::write(&path, &sample.data).unwrap();
        for way in 0..5 {
            let store = MemStore::new();
            let none = Progress::none;
            let (tag, n_bytes) = match way {
                0 => (store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap(), sample.size()),
                1 => {
                    let stream = stream::iter(pieces(&sample.data, 1000));
                    store.import_stream(stream, BlobFormat::Raw, none()).await.unwrap()
                }
                2 => {
                    let reader = io::Cursor::new(sample.data.clone());
                    store.import_reader(reader, BlobFormat::Raw, none()).await.unwrap()
                }
                3 => {
                    store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, none()).await.unwrap()
                }
                _ => store
                    .import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, none())
                    .await
                    .unwrap(),
            };
            assert_eq!(tag.hash(), blake3::hash(&sample.data).into());
            assert_eq!((tag.hash(), n_bytes), (sample.hash, sample.size()));
            assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
            assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
            assert_eq!(store.temp_tags().collect::<Vec<_>>(), [HashAndFormat::raw(sample.hash)]);
            assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [sample.hash]);
        }
    }
}

#[tokio::test]
async fn import_of_a_present_blob_still_pins_it() {
    let store = MemStore::new();
    let first = store.import_bytes("same".into(), BlobFormat::Raw).await.unwrap();
    let second = store.import_bytes("same".into(), BlobFormat::HashSeq).await.unwrap();
    let pinned: Vec<_> = store.temp_tags().collect();
    assert_eq!(pinned, [HashAndFormat::raw(first.hash()), HashAndFormat::hash_seq(second.hash())]);
    drop(first);
    assert_eq!(store.temp_tags().count(), 1);
}

#[tokio::test]
async fn import_of_a_partial_blob_makes_it_complete_for_all_handles() {
    let sample = Sample::new(200_000);
    let store = MemStore::new();
    let entry = store.get_or_create(sample.hash, 150_000).await.unwrap();
    let mut writer = blob_traits::MapEntryMut::batch_writer(&entry).await.unwrap();
    let mut reader = entry.data_reader().await.unwrap();
    store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.unwrap();
    assert!(entry.is_complete());
    assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
    writer.write_batch(150_000, sample.items_as(150_000, &chunks(0..16))).await.unwrap();
    store.insert_complete(entry.clone()).await.unwrap();
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    assert!(collect(store.partial_blobs().await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn blob_and_tag_come_in_one_step() {
    let store = MemStore::new();
    let source = || ImportSource::Bytes("tagged".into());
    let (pin, _) =
        store.import_tagged(source(), BlobFormat::HashSeq, "name".into(), Progress::none()).await.unwrap();
    assert_eq!(store.get_tag(&"name".into()).await.unwrap(), Some(HashAndFormat::hash_seq(pin.hash())));

    let long = Tag::from("x".repeat(MAX_TAG_LEN + 1));
    let store = MemStore::new();
    let error = store.import_tagged(source(), BlobFormat::Raw, long, Progress::none()).await.unwrap_err();
    assert!(matches!(error, Error::TagTooLong { len: 4097, limit: 4096 }));
    assert_eq!(status(&store, pin.hash()), EntryStatus::NotFound);
}

#[tokio::test]
async fn error_in_the_stream_leaves_nothing() {
    let store = MemStore::new();
    let broken = io::Error::new(io::ErrorKind::ConnectionReset, "broken");
    let stream = stream::iter([Ok(Bytes::from_static(b"begin")), Err(broken)]);
    let error = store.import_stream(stream, BlobFormat::Raw, Progress::none()).await.unwrap_err();
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionReset);
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
    assert_eq!(store.temp_tags().count(), 0);
}

#[tokio::test]
async fn boundaries_of_the_stream_do_not_matter() {
    let sample = Sample::new(40_000);
    for len in [1, 1000, 16_384, 40_000] {
        let store = MemStore::new();
        let mut pieces = pieces(&sample.data, len);
        pieces.insert(0, Ok(Bytes::new()));
        pieces.push(Ok(Bytes::new()));
        let (tag, size) =
            store.import_stream(stream::iter(pieces), BlobFormat::Raw, Progress::none()).await.unwrap();
        assert_eq!((tag.hash(), size), (sample.hash, 40_000));
    }
}

#[tokio::test]
async fn limit_holds_for_every_way_in() {
    let store = MemStore::with_options(MemOptions { max_blob_size: 1000 });
    let too_large = |error: Error| matches!(error, Error::TooLarge { limit: 1000, .. });
    let data = Bytes::from(vec![0; 1001]);
    assert!(store.import_bytes(data.slice(1..), BlobFormat::Raw).await.is_ok());
    assert!(too_large(store.import_bytes(data.clone(), BlobFormat::Raw).await.unwrap_err()));
    let endless = stream::repeat(()).map_endless(data.slice(..100));
    assert!(too_large(store.import_stream(endless, BlobFormat::Raw, Progress::none()).await.unwrap_err()));
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 40).unwrap();
    let path = file.path().to_owned();
    let error =
        store.import_file(path, ImportMode::Copy, BlobFormat::Raw, Progress::none()).await.unwrap_err();
    assert!(too_large(error));
    assert!(too_large(store.get_or_create(Hash::new(b"x"), 1001).await.unwrap_err()));
    assert_eq!(status(&store, Hash::new(b"x")), EntryStatus::NotFound);
}

trait MapEndless {
    fn map_endless(
        self,
        piece: Bytes,
    ) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static;
}

impl MapEndless for stream::Repeat<()> {
    fn map_endless(
        self,
        piece: Bytes,
    ) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
        futures_lite::StreamExt::map(self, move |()| Ok(piece.clone()))
    }
}

#[tokio::test]
async fn fabricated_size_is_refused_by_default() {
    let store = MemStore::new();
    let error = store.get_or_create(Hash::new(b"x"), 1 << 60).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { size, .. } if size == 1 << 60));
}

#[tokio::test]
async fn stream_that_is_dropped_midway_leaves_nothing() {
    let store = MemStore::new();
    let begun = stream::once_future(std::future::ready(Ok(Bytes::from_static(b"a"))));
    let stalled = Box::pin(futures_lite::StreamExt::chain(begun, stream::pending()));
    let import = store.import_stream(stalled, BlobFormat::Raw, Progress::none());
    assert!(tokio::time::timeout(Duration::from_millis(1), import).await.is_err());
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
    assert_eq!(store.temp_tags().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_from_many_tasks_is_one_blob() {
    let store = MemStore::new();
    let sample = Sample::new(300_000);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let (store, data) = (store.clone(), sample.data.clone());
            tokio::spawn(async move { store.import_bytes(data, BlobFormat::Raw).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().hash(), sample.hash);
    }
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [sample.hash]);
    assert_eq!(store.temp_tags().count(), 0);
}

#[tokio::test]
async fn collection_is_stored_and_loaded() {
    let store = MemStore::new();
    let mut collection = Collection::default();
    for name in ["a", "dir/b", ""] {
        let tag = store.import_bytes(name.into(), BlobFormat::Raw).await.unwrap();
        collection.push(name.to_owned(), tag.hash());
    }
    let root = collection.store(&store).await.unwrap();
    assert_eq!(root.format(), BlobFormat::HashSeq);
    assert_eq!(store.temp_tags().collect::<Vec<_>>(), [root.hash_and_format()]);
    assert_eq!(Collection::load(root.hash(), &store).await.unwrap(), collection);

    let [metadata, _] = collection.to_blobs();
    let limit = metadata.len() as u64;
    assert!(Collection::load_with_limit(root.hash(), &store, limit).await.is_ok());
    let error = Collection::load_with_limit(root.hash(), &store, limit - 1).await.unwrap_err();
    assert!(matches!(error, Error::NotACollection { hash, .. } if hash == root.hash()));
}

#[tokio::test]
async fn what_is_no_collection_is_not_loaded() {
    let store = MemStore::new();
    let [metadata, root] = [("a", Hash::EMPTY)].into_iter().collect::<Collection>().to_blobs();
    let more = [&root[..], Hash::EMPTY.as_bytes()].concat();
    for blob in [Bytes::new(), metadata.clone(), root.slice(..33), more.into()] {
        let tag = store.import_bytes(blob, BlobFormat::HashSeq).await.unwrap();
        store.import_bytes(metadata.clone(), BlobFormat::Raw).await.unwrap();
        let error = Collection::load(tag.hash(), &store).await.unwrap_err();
        assert!(matches!(error, Error::NotACollection { hash, .. } if hash == tag.hash()), "{error}");
    }
    let tag = store.import_bytes(root, BlobFormat::HashSeq).await.unwrap();
    store.delete(vec![Hash::new(&metadata)]).await.unwrap();
    let error = Collection::load(tag.hash(), &store).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { hash } if hash == Hash::new(&metadata)));
}

/// A claim costs a stranger nothing: the root of a collection may be partial, and lie about its size.
#[tokio::test]
async fn collection_with_a_fabricated_size_reserves_nothing() {
    let store = MemStore::new();
    let hash = Hash::new(b"root");
    write(&store, hash, 1 << 40, Vec::new()).await.unwrap();
    let error = Collection::load(hash, &store).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }));
}
