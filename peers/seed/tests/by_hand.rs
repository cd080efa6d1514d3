//! What the suite finds on the seed, seen without our adapter: each test uses iroh-blobs 0.35 alone, and asserts what it does.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::{io, path::Path, time::Duration};

use blob_seed::{fs, mem};
use bytes::Bytes;
use futures_lite::StreamExt;
use iroh_blobs::{
    BlobFormat, Hash, HashAndFormat, Tag,
    store::{
        BaoBatchWriter, BaoBlobSize, EntryStatus, ExportMode, ImportMode, Map, MapEntry, MapEntryMut, MapMut,
        ReadableStore, Store,
        bao_tree::io::{Leaf, fsm::BaoContentItem},
    },
    util::progress::IgnoreProgressSender,
};
use iroh_io::AsyncSliceReader;
use tempfile::TempDir;
use tokio::time::timeout;

fn sample(size: usize) -> Bytes {
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0];
    (0..size).map(byte).collect()
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn files(dir: &Path) -> fs::Store {
    fs::Store::load(dir).await.unwrap()
}

fn leaf(offset: u64, data: Bytes) -> Vec<BaoContentItem> {
    vec![Leaf { offset, data }.into()]
}

async fn write(store: &impl Store, hash: Hash, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
    let entry = store.get_or_create(hash, size).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(size, batch).await?;
    writer.sync().await
}

async fn export(store: &impl Store, hash: Hash, target: &Path, mode: ExportMode) -> io::Result<()> {
    store.export(hash, target.into(), mode, Box::new(|_| Ok(()))).await
}

async fn refer(store: &impl Store, path: &Path) -> io::Result<Hash> {
    let progress = IgnoreProgressSender::default();
    let (pin, _) =
        store.import_file(path.into(), ImportMode::TryReference, BlobFormat::Raw, progress).await?;
    Ok(*pin.hash())
}

async fn read(store: &impl Store, hash: Hash) -> Bytes {
    let entry = store.get(&hash).await.unwrap().unwrap();
    entry.data_reader().await.unwrap().read_at(0, usize::MAX >> 1).await.unwrap()
}

/// Whether the store still answers.
async fn is_alive(store: &impl Store) -> bool {
    matches!(timeout(Duration::from_secs(5), store.entry_status(&Hash::new("any"))).await, Ok(Ok(_)))
}

#[tokio::test]
async fn export_of_a_missing_blob_ends_the_file_store() {
    let dir = dir();
    let store = files(dir.path()).await;
    assert!(is_alive(&store).await);
    export(&store, Hash::new("missing"), &dir.path().join("target"), ExportMode::Copy).await.unwrap_err();
    assert!(!is_alive(&store).await);
}

#[tokio::test]
async fn export_of_a_partial_blob_ends_the_file_store() {
    let dir = dir();
    let store = files(dir.path()).await;
    let data = sample(100_000);
    write(&store, Hash::new(&data), 100_000, leaf(0, data.slice(..32768))).await.unwrap();
    export(&store, Hash::new(&data), &dir.path().join("target"), ExportMode::Copy).await.unwrap_err();
    assert!(!is_alive(&store).await);
}

#[tokio::test]
async fn promotion_of_a_large_blob_without_its_outboard_ends_the_file_store() {
    let dir = dir();
    let store = files(dir.path()).await;
    let data = sample(100_000);
    write(&store, Hash::new(&data), 100_000, leaf(0, data.clone())).await.unwrap();
    let entry = store.get_mut(&Hash::new(&data)).await.unwrap().unwrap();
    store.insert_complete(entry).await.unwrap();
    assert!(!is_alive(&store).await);
}

#[tokio::test]
async fn calls_after_a_shutdown_of_the_file_store_have_no_kind_of_their_own_or_no_end() {
    let dir = dir();
    let store = files(dir.path()).await;
    store.shutdown().await;
    match timeout(Duration::from_secs(2), store.entry_status(&Hash::EMPTY)).await {
        Ok(answer) => assert_eq!(answer.unwrap_err().kind(), io::ErrorKind::Other),
        Err(_hangs) => {}
    }
}

#[tokio::test]
async fn memory_store_works_on_after_a_shutdown() {
    let store = mem::Store::new();
    store.shutdown().await;
    store.import_bytes(sample(10), BlobFormat::Raw).await.unwrap();
}

#[tokio::test]
async fn incomplete_blob_is_promoted_as_asked() {
    let store = mem::Store::new();
    let hash = Hash::new(sample(100_000));
    let entry = store.get_or_create(hash, 100_000).await.unwrap();
    store.insert_complete(entry).await.unwrap();
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
    assert_eq!(read(&store, hash).await, "");
}

#[tokio::test]
async fn small_partial_blob_of_the_file_store_is_not_found_and_not_kept() {
    let dir = dir();
    let store = files(dir.path()).await;
    let data = sample(1000);
    let hash = Hash::new(&data);
    write(&store, hash, 1000, leaf(0, data)).await.unwrap();
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::NotFound);
    assert_eq!(store.partial_blobs().await.unwrap().count(), 0);
}

#[tokio::test]
async fn memory_store_has_no_partial_blobs() {
    let store = mem::Store::new();
    let data = sample(100_000);
    write(&store, Hash::new(&data), 100_000, leaf(0, data.slice(..32768))).await.unwrap();
    assert!(store.get(&Hash::new(&data)).await.unwrap().is_none());
    assert_eq!(store.partial_blobs().await.unwrap().count(), 0);
}

#[tokio::test]
async fn claimed_size_is_forgotten_until_something_is_written() {
    let dir = dir();
    let store = files(dir.path()).await;
    let entry = store.get_or_create(Hash::new("any"), 1234).await.unwrap();
    assert_eq!(entry.size(), BaoBlobSize::Unverified(0));
}

#[tokio::test]
async fn delete_leaves_what_has_a_temporary_tag() {
    let store = mem::Store::new();
    let pin = store.import_bytes(sample(1000), BlobFormat::Raw).await.unwrap();
    store.delete(vec![*pin.hash()]).await.unwrap();
    assert_eq!(store.entry_status(pin.hash()).await.unwrap(), EntryStatus::Complete);
}

#[tokio::test]
async fn empty_blob_is_not_there_by_itself() {
    assert!(mem::Store::new().get(&Hash::EMPTY).await.unwrap().is_none());
}

#[tokio::test]
async fn writer_takes_what_lies_outside_the_claimed_size() {
    for offset in [1_000_000, 100] {
        write(&mem::Store::new(), Hash::new("any"), 1000, leaf(offset, sample(1024))).await.unwrap();
    }
}

#[tokio::test]
#[should_panic(expected = "u64 overflow for leaf end")]
async fn writer_panics_over_an_offset_that_overflows() {
    let dir = dir();
    let store = files(dir.path()).await;
    let _ = write(&store, Hash::new("any"), u64::MAX, leaf(u64::MAX - 100, sample(1024))).await;
}

#[tokio::test]
async fn reading_what_is_missing_gives_zeros() {
    let dir = dir();
    let store = files(dir.path()).await;
    let data = sample(100_000);
    let hash = Hash::new(&data);
    write(&store, hash, 100_000, leaf(49152, data.slice(49152..65536))).await.unwrap();
    assert_eq!(read(&store, hash).await.slice(..49152), vec![0; 49152]);
}

#[tokio::test]
async fn file_that_changes_after_a_reference_is_served_changed() {
    let dir = dir();
    let store = files(dir.path()).await;
    let path = dir.path().join("users");
    std::fs::write(&path, sample(100_000)).unwrap();
    let hash = refer(&store, &path).await.unwrap();
    std::fs::write(&path, vec![7; 100_000]).unwrap();
    assert_eq!(read(&store, hash).await, vec![7; 100_000]);
}

#[tokio::test]
async fn import_of_a_missing_file_and_of_a_directory_is_one_kind_of_error() {
    let dir = dir();
    let store = files(dir.path()).await;
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        assert_eq!(refer(&store, &path).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[tokio::test]
async fn memory_store_imports_a_relative_path() {
    refer(&mem::Store::new(), Path::new("Cargo.toml")).await.unwrap();
}

#[tokio::test]
async fn export_refused_by_its_callback_leaves_half_a_file() {
    let (store, dir) = (mem::Store::new(), dir());
    let pin = store.import_bytes(sample(3 << 20), BlobFormat::Raw).await.unwrap();
    let target = dir.path().join("target");
    let refuse = Box::new(|_| Err(io::Error::other("refused")));
    store.export(*pin.hash(), target.clone(), ExportMode::Copy, refuse).await.unwrap_err();
    assert_eq!(target.metadata().unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn export_follows_a_link_makes_directories_and_replaces() {
    let (store, dir) = (mem::Store::new(), dir());
    let pin = store.import_bytes(sample(1000), BlobFormat::Raw).await.unwrap();
    let (link, users) = (dir.path().join("link"), dir.path().join("users"));
    std::fs::write(&users, "precious").unwrap();
    std::os::unix::fs::symlink(&users, &link).unwrap();
    export(&store, *pin.hash(), &link, ExportMode::Copy).await.unwrap();
    assert_eq!(std::fs::read(&users).unwrap(), sample(1000));
    export(&store, *pin.hash(), &dir.path().join("new/target"), ExportMode::Copy).await.unwrap();
}

#[tokio::test]
async fn export_of_a_large_blob_does_not_replace_and_of_a_small_one_does() {
    let dir = dir();
    let store = files(dir.path()).await;
    let target = dir.path().join("target");
    std::fs::write(&target, "precious").unwrap();
    for (size, is_replaced) in [(100_000, false), (1000, true)] {
        let pin = store.import_bytes(sample(size), BlobFormat::Raw).await.unwrap();
        let exported = export(&store, *pin.hash(), &target, ExportMode::Copy).await;
        assert_eq!(exported.is_ok(), is_replaced);
    }
}

#[tokio::test]
async fn acknowledged_tag_is_not_in_the_database_yet() {
    let dir = dir();
    let store = files(dir.path()).await;
    store.sync().await.unwrap();
    store.set_tag(Tag::from("tag"), HashAndFormat::raw(Hash::EMPTY)).await.unwrap();
    // What a process that is killed now leaves behind.
    let copy = self::dir();
    std::fs::copy(dir.path().join("blobs.db"), copy.path().join("blobs.db")).unwrap();
    let copied = files(copy.path()).await;
    assert_eq!(copied.tags(None, None).await.unwrap().count(), 0);
}

#[tokio::test]
async fn database_is_made_through_a_link() {
    let (dir, users) = (dir(), dir());
    std::os::unix::fs::symlink(users.path().join("nothing"), dir.path().join("blobs.db")).unwrap();
    drop(files(dir.path()).await);
    assert!(users.path().join("nothing").is_file());
}

#[tokio::test]
async fn dropped_import_of_a_stream_leaves_its_temporary_file() {
    let dir = dir();
    let store = files(dir.path()).await;
    let endless = futures_lite::stream::iter([Ok(sample(1 << 20))]).chain(futures_lite::stream::pending());
    let import = store.import_stream(endless, BlobFormat::Raw, IgnoreProgressSender::default());
    assert!(timeout(Duration::from_millis(300), import).await.is_err());
    assert_eq!(std::fs::read_dir(dir.path().join("temp")).unwrap().count(), 1);
}

#[tokio::test]
async fn tag_of_any_length_is_taken() {
    let tag = Tag::from(vec![b'x'; 1 << 20].as_slice());
    mem::Store::new().set_tag(tag, HashAndFormat::raw(Hash::EMPTY)).await.unwrap();
}
