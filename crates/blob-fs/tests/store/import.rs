use std::{io, time::Duration};

use blob_traits::{
    BlobFormat, Collection, EntryStatus, Error, Hash, HashAndFormat, ImportMode, ImportSource, MAX_TAG_LEN,
    MapEntryMut, Progress, Tag, collect, prelude::*,
};
use bytes::Bytes;
use futures_lite::stream;

use crate::{
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, chunks, import, status, write},
};

fn pieces(data: &Bytes, len: usize) -> Vec<io::Result<Bytes>> {
    data.chunks(len).map(|piece| Ok(data.slice_ref(piece))).collect()
}

/// The ways in which a blob can come into a store.
fn sources(home: &Home, sample: &Sample) -> [ImportSource; 5] {
    let path = home.user_file("source", &sample.data);
    let reader = tokio_stream_of(io::Cursor::new(sample.data.clone()));
    [
        ImportSource::Bytes(sample.data.clone()),
        ImportSource::Stream(Box::pin(stream::iter(pieces(&sample.data, 1000)))),
        ImportSource::Stream(reader),
        ImportSource::File { path: path.clone(), mode: ImportMode::Copy },
        ImportSource::File { path, mode: ImportMode::TryReference },
    ]
}

type BoxedBytes = std::pin::Pin<Box<dyn stream::Stream<Item = io::Result<Bytes>> + Send>>;

/// A stream of short pieces with pauses in between.
fn tokio_stream_of(mut reader: impl io::Read + Send + 'static) -> BoxedBytes {
    let next = move || {
        let mut piece = vec![0; 7777];
        let n = reader.read(&mut piece).ok().filter(|n| *n > 0)?;
        piece.truncate(n);
        Some(Ok(Bytes::from(piece)))
    };
    Box::pin(stream::unfold(next, |mut next| async move {
        tokio::task::yield_now().await;
        next().map(|piece| (piece, next))
    }))
}

#[tokio::test]
async fn every_way_in_gives_the_blake3_hash_and_the_same_bytes() {
    for setup in SETUPS {
        let home = Home::new(setup);
        let store = home.open().await;
        for sample in setup.sizes().into_iter().map(Sample::new) {
            for (way, source) in sources(&home, &sample).into_iter().enumerate() {
                store.delete(vec![sample.hash]).await.unwrap();
                let (tag, size) =
                    store.import(source, BlobFormat::Raw.into(), Progress::none()).await.unwrap();
                assert_eq!(tag.hash(), blake3::hash(&sample.data).into());
                assert_eq!((tag.hash(), size), (sample.hash, sample.size()));
                assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
                assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
                let verified = store.read_verified(sample.hash, 0..u64::MAX).await.unwrap();
                assert_eq!(verified, sample.data, "{setup:?} way {way} {size}");
                assert_eq!(store.temp_tags().collect::<Vec<_>>(), [HashAndFormat::raw(sample.hash)]);
                assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [sample.hash]);
            }
            store.delete(vec![sample.hash]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn import_of_a_present_blob_still_pins_it() {
    for size in [10, 100_000] {
        let (_home, store) = open(Setup::Default).await;
        let sample = Sample::new(size);
        let first = import(&store, &sample).await;
        let second = store.import_bytes(sample.data.clone(), BlobFormat::HashSeq).await.unwrap();
        let pinned: Vec<_> = store.temp_tags().collect();
        assert_eq!(pinned, [HashAndFormat::raw(first.hash()), HashAndFormat::hash_seq(second.hash())]);
        drop(first);
        assert_eq!(store.temp_tags().count(), 1);
    }
}

#[tokio::test]
async fn import_of_a_partial_blob_makes_it_complete_for_all_handles() {
    for (setup, on_disk) in [(Setup::Default, false), (Setup::Default, true), (Setup::AllInlined, true)] {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(200_000);
        let entry = store.get_or_create(sample.hash, 150_000).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        let mut reader = entry.data_reader().await.unwrap();
        if on_disk {
            store.sync().await.unwrap();
        }
        import(&store, &sample).await;
        assert!(entry.is_complete());
        assert_eq!(entry.size(), blob_traits::BaoBlobSize::Verified(200_000));
        assert_eq!(iroh_io::AsyncSliceReader::size(&mut reader).await.unwrap(), 200_000);
        assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
        writer.write_batch(150_000, sample.items_as(150_000, &chunks(0..16))).await.unwrap();
        writer.sync().await.unwrap();
        store.insert_complete(entry.clone()).await.unwrap();
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        assert!(collect(store.partial_blobs().await.unwrap()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn blob_and_tag_come_in_one_step() {
    for size in [10, 100_000] {
        let (home, store) = open(Setup::Default).await;
        let sample = Sample::new(size);
        for (i, source) in sources(&home, &sample).into_iter().enumerate() {
            let name = Tag::from(i.to_string());
            let format = BlobFormat::HashSeq;
            let (pin, _) = store.import_tagged(source, format, name.clone(), Progress::none()).await.unwrap();
            assert_eq!(store.get_tag(&name).await.unwrap(), Some(HashAndFormat::hash_seq(pin.hash())));
            if i % 2 == 1 {
                store.delete(vec![sample.hash]).await.unwrap();
            }
        }
        let store = home.reopen(store).await;
        assert_eq!(collect(store.tags(..).await.unwrap()).await.unwrap().len(), 5);
    }
}

#[tokio::test]
async fn import_with_a_tag_that_is_too_long_does_nothing() {
    let (_home, store) = open(Setup::Default).await;
    let long = Tag::from("x".repeat(MAX_TAG_LEN + 1));
    let source = ImportSource::Bytes("tagged".into());
    let error = store.import_tagged(source, BlobFormat::Raw, long, Progress::none()).await.unwrap_err();
    assert!(matches!(error, Error::TagTooLong { len: 4097, limit: 4096 }));
    assert_eq!(status(&store, Hash::new(b"tagged")), EntryStatus::NotFound);
}

#[tokio::test]
async fn error_in_the_stream_leaves_nothing() {
    for setup in SETUPS {
        for n_before in [0, 1, 3000] {
            let (home, store) = open(setup).await;
            let broken = io::Error::new(io::ErrorKind::ConnectionReset, "broken");
            let mut pieces = pieces(&Sample::new(n_before * 1000).data, 1000);
            pieces.push(Err(broken));
            let import = store.import_stream(stream::iter(pieces), BlobFormat::Raw, Progress::none());
            let error = import.await.unwrap_err();
            assert_eq!(io::Error::from(error).kind(), io::ErrorKind::ConnectionReset);
            assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
            assert_eq!((store.temp_tags().count(), home.n_temporary()), (0, 0));
        }
    }
}

#[tokio::test]
async fn boundaries_of_the_stream_do_not_matter() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        for (i, len) in [1, 1000, 16_384, 39_999, 40_000, 40_001].into_iter().enumerate() {
            let sample = Sample::numbered(40_000, i);
            let mut pieces = pieces(&sample.data, len);
            pieces.insert(0, Ok(Bytes::new()));
            pieces.push(Ok(Bytes::new()));
            let (tag, size) =
                store.import_stream(stream::iter(pieces), BlobFormat::Raw, Progress::none()).await.unwrap();
            assert_eq!((tag.hash(), size), (sample.hash, 40_000));
        }
    }
}

#[tokio::test]
async fn limit_holds_for_every_way_in() {
    for inline_max in [0, 500, 8 << 20] {
        let home = Home::with(|options| {
            options.max_blob_size = 1000;
            options.inline_max = inline_max;
        });
        let store = home.open().await;
        let too_large = |error: Error| matches!(error, Error::TooLarge { limit: 1000, .. });
        let sample = Sample::new(1001);
        assert!(store.import_bytes(sample.data.slice(1..), BlobFormat::Raw).await.is_ok());
        let before = home.files();
        for source in sources(&home, &sample) {
            let import = store.import(source, BlobFormat::Raw.into(), Progress::none());
            assert!(too_large(import.await.unwrap_err()));
        }
        let endless = Box::pin(stream::repeat_with(|| Ok(Bytes::from_static(&[7; 100]))));
        let error = store.import_stream(endless, BlobFormat::Raw, Progress::none()).await.unwrap_err();
        assert!(too_large(error));
        let sparse = home.user("sparse");
        std::fs::File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
        for mode in [ImportMode::Copy, ImportMode::TryReference] {
            let import = store.import_file(sparse.clone(), mode, BlobFormat::Raw, Progress::none());
            assert!(too_large(import.await.unwrap_err()));
        }
        assert!(too_large(store.get_or_create(sample.hash, 1001).await.unwrap_err()));
        let all = bao_tree::ChunkRanges::all();
        let import = store.import_bao(sample.hash, 1001, all.clone(), sample.encode(&all));
        assert!(too_large(import.await.unwrap_err()));
        assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
        assert_eq!(home.files(), before);
    }
}

#[tokio::test]
async fn fabricated_size_is_refused_before_any_file_is_touched() {
    let (home, store) = open(Setup::NothingInlined).await;
    let before = home.files();
    for size in [(1 << 44) + 1, 1 << 60, u64::MAX] {
        let error = store.get_or_create(Hash::new(b"x"), size).await.unwrap_err();
        assert!(matches!(error, Error::TooLarge { size: refused, .. } if refused == size));
    }
    assert_eq!(home.files(), before);
}

#[tokio::test]
async fn stream_that_is_dropped_midway_leaves_nothing() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let begun = stream::iter(pieces(&Sample::new(3_000_000).data, 100_000));
        let stalled = Box::pin(futures_lite::StreamExt::chain(begun, stream::pending()));
        let import = store.import_stream(stalled, BlobFormat::Raw, Progress::none());
        assert!(tokio::time::timeout(Duration::from_millis(50), import).await.is_err());
        crate::drive::eventually(|| home.n_temporary() == 0);
        assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
        assert_eq!(store.temp_tags().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn same_content_from_many_tasks_is_one_blob() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(100_000);
        let tasks: Vec<_> = (0..200)
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
        let store = home.reopen(store).await;
        assert_eq!(home.n_files("data"), usize::from(setup != Setup::AllInlined));
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn collection_is_stored_and_loaded() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let mut collection = Collection::default();
        for name in ["a", "dir/b", ""] {
            let tag = store.import_bytes(name.into(), BlobFormat::Raw).await.unwrap();
            collection.push(name.to_owned(), tag.hash());
        }
        let root = collection.store(&store).await.unwrap();
        assert_eq!(root.format(), BlobFormat::HashSeq);
        assert_eq!(store.temp_tags().collect::<Vec<_>>(), [root.hash_and_format()]);
        assert_eq!(Collection::load(root.hash(), &store).await.unwrap(), collection);
    }
}

/// A claim costs a stranger nothing: the root of a collection may be partial, and lie about its size.
#[tokio::test]
async fn collection_with_a_fabricated_size_reserves_nothing() {
    let (_home, store) = open(Setup::Default).await;
    let hash = Hash::new(b"root");
    write(&store, hash, 1 << 40, Vec::new()).await.unwrap();
    let error = Collection::load(hash, &store).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { .. }));
}
