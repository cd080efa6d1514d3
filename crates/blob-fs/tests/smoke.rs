//! The main paths, once each.

use blob_fs::{FsStore, Options};
use blob_traits::{BlobFormat, EntryStatus, Hash, bao_tree::ChunkRanges, prelude::*};
use bytes::Bytes;

fn data(len: usize) -> Bytes {
    (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect::<Vec<_>>().into()
}

#[tokio::test]
async fn what_was_imported_is_read_after_shutdown_and_after_a_drop() {
    let dir = tempfile::tempdir().unwrap();
    let sizes = [0, 1, 1024, 16384, 16385, 65536, 65537, 1 << 20, (4 << 20) + 777];
    let store = FsStore::open(Options::new(dir.path())).await.unwrap();
    for len in sizes {
        let tag = store.import_bytes(data(len), BlobFormat::Raw).await.unwrap();
        assert_eq!(tag.hash(), Hash::new(data(len)), "{len}");
    }
    for round in 0..3 {
        for len in sizes {
            let hash = Hash::new(data(len));
            assert_eq!(store.read_to_bytes(hash).await.unwrap(), data(len), "{len} in round {round}");
            assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), data(len), "{len}");
            assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
        }
        let listed = blob_traits::collect(store.blobs().await.unwrap()).await.unwrap();
        assert_eq!(listed.len(), sizes.len());
        if round == 0 {
            store.shutdown().await.unwrap();
        }
        drop(std::mem::replace(&mut { store.clone() }, store.clone()));
        if round < 2 {
            break;
        }
    }
    drop(store);
    for round in 0..3 {
        let store = FsStore::open(Options::new(dir.path())).await.unwrap();
        for len in sizes {
            let hash = Hash::new(data(len));
            assert_eq!(
                store.read_verified(hash, 0..u64::MAX).await.unwrap(),
                data(len),
                "{len} in round {round}"
            );
        }
        let more = Bytes::from(format!("more {round}"));
        store.import_bytes(more, BlobFormat::Raw).await.unwrap();
        if round == 1 {
            store.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_verified_stream_goes_from_store_to_store() {
    let (from_dir, to_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let from = FsStore::open(Options::new(from_dir.path())).await.unwrap();
    let to = FsStore::open(Options::new(to_dir.path())).await.unwrap();
    for len in [1, 20_000, 65_537, (4 << 20) + 777] {
        let hash = from.import_bytes(data(len), BlobFormat::Raw).await.unwrap().hash();
        let all = ChunkRanges::all();
        let stream = from.export_bao(hash, all.clone(), Vec::new()).await.unwrap();
        to.import_bao(hash, len as u64, all, Bytes::from(stream)).await.unwrap();
        assert_eq!(to.read_verified(hash, 0..u64::MAX).await.unwrap(), data(len), "{len}");
    }
    to.shutdown().await.unwrap();
    let to = FsStore::open(Options::new(to_dir.path())).await.unwrap();
    assert_eq!(to.read_verified(Hash::new(data(20_000)), 5..19_000).await.unwrap(), data(20_000)[5..19_000]);
}
