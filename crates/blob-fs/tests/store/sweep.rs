use std::path::Path;

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, Hash, ImportMode, MapEntry, MapEntryMut, Progress, SweepBatch, Swept, prelude::*,
};

use crate::{
    home::{Home, Setup, open},
    sample::{Sample, chunks, import, write},
};

async fn sweep(store: &FsStore, hash: Hash) -> Swept {
    let round = store.begin_sweep().await.unwrap();
    let SweepBatch::Swept(swept) = round.sweep(vec![hash]).await.unwrap() else {
        panic!("nothing was reached")
    };
    swept
}

/// The files of one blob, whatever they are.
fn n_files(home: &Home, hash: Hash) -> usize {
    home.files().keys().filter(|name| name.contains(&hash.to_string())).count()
}

#[tokio::test]
async fn room_of_files_that_nobody_reads_is_free_when_they_are_swept() {
    let (home, mut store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    for moved in [false, true] {
        drop(import(&store, &sample).await);
        if moved {
            store = home.reopen(store).await;
        }
        let swept = sweep(&store, sample.hash).await;
        assert_eq!(n_files(&home, sample.hash), 0);
        assert_eq!((swept.n_complete, swept.logical_bytes), (1, 100_000));
        assert_eq!((swept.freed_bytes, swept.pending_bytes), (100_000 + 6 * 64, 0));
    }
}

#[tokio::test]
async fn room_of_files_that_somebody_reads_is_pending() {
    let (home, store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    drop(import(&store, &sample).await);
    let entry = store.existing(sample.hash).await.unwrap();
    let swept = sweep(&store, sample.hash).await;
    assert_eq!((swept.freed_bytes, swept.pending_bytes), (0, 100_000 + 6 * 64));
    assert_eq!((n_files(&home, sample.hash), entry.size().value()), (2, 100_000));
}

#[tokio::test]
async fn room_of_small_blobs_is_pending_until_the_log_is_compacted() {
    let (_home, store) = open(Setup::Default).await;
    let sample = Sample::new(20_000);
    drop(import(&store, &sample).await);
    let swept = sweep(&store, sample.hash).await;
    assert_eq!((swept.freed_bytes, swept.pending_bytes), (0, 80 + 20_000 + 64));
}

#[tokio::test]
async fn file_of_the_users_is_no_room_of_the_stores() {
    let (home, store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    let path = home.user_file("file", &sample.data);
    let referring =
        store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none());
    drop(referring.await.unwrap());
    let swept = sweep(&store, sample.hash).await;
    assert_eq!((swept.logical_bytes, swept.freed_bytes, swept.pending_bytes), (100_000, 6 * 64, 0));
    assert!(Path::new(&path).exists());
}

#[tokio::test]
async fn room_of_a_partial_blob_is_what_was_there_of_it() {
    let (home, store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    let part = || sample.items(&chunks(0..16));
    // In memory it takes nothing of the disk.
    write(&store, sample.hash, sample.size(), part()).await.unwrap();
    let swept = sweep(&store, sample.hash).await;
    assert_eq!((swept.n_partial, swept.logical_bytes), (1, 16_384));
    assert_eq!((swept.freed_bytes, swept.pending_bytes), (0, 0));
    for held in [false, true] {
        write(&store, sample.hash, sample.size(), part()).await.unwrap();
        store.sync().await.unwrap();
        let entry = store.existing(sample.hash).await.unwrap();
        let writer = if held { Some(entry.batch_writer().await.unwrap()) } else { None };
        drop(entry);
        let swept = sweep(&store, sample.hash).await;
        assert_eq!((swept.n_partial, swept.logical_bytes), (1, 16_384));
        let (freed, pending) = if held { (0, 16_384) } else { (16_384, 0) };
        assert_eq!((swept.freed_bytes, swept.pending_bytes), (freed, pending));
        assert_eq!(n_files(&home, sample.hash) > 0, held);
        drop(writer);
    }
}
