//! That the adapter itself is right: what works in the seed works through it.

#![expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::{path::Path, time::Duration};

use blob_mem::MemStore;
use blob_seed::{InlineOptions, Promotion, Seed, fs, mem};
use blob_traits::{
    BaoBlobSize, BlobFormat, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, ExportProgress,
    Hash, HashAndFormat, ImportMode, ImportProgress, ImportSource, PartialTree, Progress, Tag, TagRange,
    bao_tree::{
        ChunkNum, ChunkRanges,
        io::{BaoContentItem, Leaf, fsm::Outboard},
    },
    collect,
    prelude::*,
};
use bytes::Bytes;
use futures_lite::{
    future::{or, poll_once},
    stream,
};
use tempfile::TempDir;

const SIZES: [usize; 13] =
    [0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 32768, 32769, 1 << 20, (1 << 20) + 1, (4 << 20) + 777];

fn sample(size: usize) -> Bytes {
    let byte = |i: usize| (i.wrapping_mul(2_654_435_761) >> 11).to_le_bytes()[0];
    (0..size).map(byte).collect()
}

async fn file_store(dir: &Path, inline: InlineOptions) -> Seed<fs::Store> {
    Seed::open(dir, inline, Promotion::AsAsked).await.unwrap()
}

/// Runs a test on the memory store, the file store, and the file store that keeps nothing in its database.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => { $(mod $name {
        #[tokio::test]
        async fn memory() {
            let dir = tempfile::tempdir().unwrap();
            super::$name(super::Seed::memory(super::Promotion::AsAsked), dir).await;
        }

        #[tokio::test]
        async fn files() {
            let dir = tempfile::tempdir().unwrap();
            super::$name(super::file_store(dir.path(), super::InlineOptions::default()).await, dir).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn files_only() {
            let dir = tempfile::tempdir().unwrap();
            super::$name(super::file_store(dir.path(), super::InlineOptions::NO_INLINE).await, dir).await;
        }
    })* };
}

on_every_store! {
    imported_bytes_are_read_back_and_verify,
    every_kind_of_import_gives_the_same_blob,
    outboard_is_the_one_of_another_store,
    stream_goes_in_and_out,
    partial_blob_is_refused_when_the_adapter_is_asked_to_look,
    tags_are_set_listed_renamed_and_deleted,
    temporary_tags_are_held_as_long_as_ours,
    export_copies_and_refuses_what_exists,
    export_reports_its_progress,
    import_reports_its_progress_and_can_be_refused,
    listings_ascend_and_deleted_blobs_are_gone,
    paths_and_tags_that_are_wrong_have_their_errors,
}

async fn imported_bytes_are_read_back_and_verify(store: impl Store, _dir: TempDir) {
    for size in SIZES {
        let data = sample(size);
        let pin = store.import_bytes(data.clone(), BlobFormat::Raw).await.unwrap();
        let hash = pin.hash();
        assert_eq!(hash, Hash::new(&data));
        assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
        assert_eq!(store.entry_status_sync(&hash).unwrap(), EntryStatus::Complete);
        assert_eq!(store.existing(hash).await.unwrap().size(), BaoBlobSize::Verified(size as u64));
        assert_eq!(store.read_to_bytes(hash).await.unwrap(), data);
        assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), data);
        let middle = size / 3..size / 2;
        let found = store.read_verified(hash, middle.start as u64..middle.end as u64).await.unwrap();
        assert_eq!(found, data.slice(middle));
        let present = store.present_ranges(&hash).await.unwrap().unwrap();
        assert_eq!(present, PartialTree::all_ranges(size as u64));
    }
    let absent = Hash::new("absent");
    assert!(store.get(&absent).await.unwrap().is_none() && store.get_mut(&absent).await.unwrap().is_none());
    assert_eq!(store.entry_status_sync(&absent).unwrap(), EntryStatus::NotFound);
    assert!(store.present_ranges(&absent).await.unwrap().is_none());
}

async fn every_kind_of_import_gives_the_same_blob(store: impl Store, dir: TempDir) {
    for size in [0, 100, 16384, 100_000] {
        let data = sample(size);
        let hash = Hash::new(&data);
        let path = dir.path().join("source");
        std::fs::write(&path, &data).unwrap();
        let parts: Vec<_> = data.chunks(1000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        let sources = [
            ImportSource::File { path: path.clone(), mode: ImportMode::Copy },
            ImportSource::File { path, mode: ImportMode::TryReference },
            ImportSource::Stream(Box::pin(stream::iter(parts))),
        ];
        for source in sources {
            let tag = Tag::from("tag");
            let imported = store.import_tagged(source, BlobFormat::HashSeq, tag.clone(), Progress::none());
            let (pin, n) = imported.await.unwrap();
            assert_eq!((pin.hash_and_format(), n), (HashAndFormat::hash_seq(hash), size as u64));
            assert_eq!(store.get_tag(&tag).await.unwrap(), Some(HashAndFormat::hash_seq(hash)));
            assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), data);
        }
    }
}

async fn outboard_is_the_one_of_another_store(store: impl Store, _dir: TempDir) {
    for size in SIZES {
        let other = MemStore::new();
        let data = sample(size);
        let pins = (
            store.import_bytes(data.clone(), BlobFormat::Raw).await.unwrap(),
            other.import_bytes(data, BlobFormat::Raw).await.unwrap(),
        );
        let mut found = store.existing(pins.0.hash()).await.unwrap().outboard().await.unwrap();
        let mut expected = other.existing(pins.1.hash()).await.unwrap().outboard().await.unwrap();
        assert_eq!((found.root(), found.tree()), (expected.root(), expected.tree()));
        for node in expected.tree().pre_order_nodes_iter() {
            assert_eq!(found.load(node).await.unwrap(), expected.load(node).await.unwrap());
        }
    }
}

/// From our memory store into the seed, piece by piece, and back.
async fn stream_goes_in_and_out(store: impl Store, _dir: TempDir) {
    for size in SIZES.into_iter().filter(|size| *size > 0) {
        let (from, to) = (MemStore::new(), MemStore::new());
        let data = sample(size);
        let pin = from.import_bytes(data.clone(), BlobFormat::Raw).await.unwrap();
        let (hash, size, all) = (pin.hash(), size as u64, ChunkRanges::all());
        let encoded = Bytes::from(from.export_bao(hash, all.clone(), Vec::new()).await.unwrap());
        store.import_bao(hash, size, all.clone(), encoded.clone()).await.unwrap();
        assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
        assert_eq!(store.read_to_bytes(hash).await.unwrap(), data);
        let again = Bytes::from(store.export_bao(hash, all.clone(), Vec::new()).await.unwrap());
        assert_eq!(again, encoded);
        to.import_bao(hash, size, all, again).await.unwrap();
        assert_eq!(to.read_to_bytes(hash).await.unwrap(), data);
    }
}

async fn partial_blob_is_refused_when_the_adapter_is_asked_to_look(_: impl Store, dir: TempDir) {
    refuses_holes(Seed::memory(Promotion::WhenValid)).await;
    let dir = dir.path().join("another");
    refuses_holes(Seed::open(&dir, InlineOptions::default(), Promotion::WhenValid).await.unwrap()).await;
}

async fn refuses_holes(store: impl Store) {
    let from = MemStore::new();
    let data = sample(100_000);
    let hash = from.import_bytes(data.clone(), BlobFormat::Raw).await.unwrap().hash();
    let half = ChunkRanges::from(ChunkNum(0)..ChunkNum(48));
    let encoded = Bytes::from(from.export_bao(hash, half.clone(), Vec::new()).await.unwrap());
    // a handle that lives keeps what is in the memory of the file store
    let entry = store.get_or_create(hash, 100_000).await.unwrap();
    store.import_bao(hash, 100_000, half.clone(), encoded).await.unwrap();
    assert!(!entry.is_complete());
    let refused = store.insert_complete(entry).await.unwrap_err();
    assert!(matches!(refused, Error::Incomplete { .. }), "{refused}");
    assert_ne!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
}

#[tokio::test]
async fn partial_blob_of_the_file_store_shows_what_is_valid_and_goes_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Seed::open(dir.path(), InlineOptions::default(), Promotion::WhenValid);
    let from = MemStore::new();
    let hash = from.import_bytes(sample(100_000), BlobFormat::Raw).await.unwrap().hash();
    let half = ChunkRanges::from(ChunkNum(0)..ChunkNum(48));
    for ranges in [half.clone(), !half.clone()] {
        let store = open().await.unwrap();
        let encoded = Bytes::from(from.export_bao(hash, ranges.clone(), Vec::new()).await.unwrap());
        store.import_bao(hash, 100_000, ranges.clone(), encoded).await.unwrap();
        store.shutdown().await.unwrap();
        let store = open().await.unwrap();
        let present = store.present_ranges(&hash).await.unwrap().unwrap();
        let expected = if ranges == half { half.clone() } else { PartialTree::all_ranges(100_000) };
        assert_eq!(present, expected);
        store.shutdown().await.unwrap();
    }
    let store = open().await.unwrap();
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
    assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), sample(100_000));
}

async fn names(store: &impl Store, range: impl Into<TagRange> + Send) -> Vec<String> {
    let tags = collect(store.tags(range).await.unwrap()).await.unwrap();
    tags.into_iter().map(|(tag, _)| tag.to_string()).collect()
}

async fn tags_are_set_listed_renamed_and_deleted(store: impl Store, _dir: TempDir) {
    let content = HashAndFormat::hash_seq(Hash::new("a"));
    for name in ["c", "a", "ab", "b"] {
        store.set_tag(name.into(), Some(content)).await.unwrap();
    }
    assert_eq!(names(&store, ..).await, ["a", "ab", "b", "c"]);
    assert_eq!(names(&store, TagRange::prefix("a")).await, ["a", "ab"]);
    assert_eq!(names(&store, Tag::from("a")..=Tag::from("b")).await, ["a", "ab", "b"]);
    let after = (std::ops::Bound::Excluded(Tag::from("a")), std::ops::Bound::Excluded(Tag::from("b")));
    assert_eq!(names(&store, after).await, ["ab"]);
    store.rename_tag("b".into(), "d".into()).await.unwrap();
    store.set_tag("c".into(), None).await.unwrap();
    store.delete_tags(Tag::from("z")..Tag::from("a")).await.unwrap();
    assert_eq!(names(&store, ..).await, ["a", "ab", "d"]);
    store.delete_tags(Tag::from("a")..Tag::from("b")).await.unwrap();
    assert_eq!(store.get_tag(&"d".into()).await.unwrap(), Some(content));
    let made = store.create_tag(content).await.unwrap();
    assert!(made.0.starts_with(b"auto-"));
    assert_eq!(names(&store, ..).await.len(), 2);
}

async fn temporary_tags_are_held_as_long_as_ours(store: impl Store, _dir: TempDir) {
    let held = || store.temp_tags().collect::<Vec<_>>();
    let first = store.import_bytes(sample(10), BlobFormat::Raw).await.unwrap();
    let (raw, seq) = (HashAndFormat::raw(first.hash()), HashAndFormat::hash_seq(first.hash()));
    let (second, third, other) = (first.clone(), store.temp_tag(raw), store.temp_tag(seq));
    assert_eq!(held(), [raw, seq]);
    drop((first, second));
    assert_eq!(held(), [raw, seq]);
    drop(third);
    assert_eq!(held(), [seq]);
    other.leak();
    drop(store.temp_tag(seq));
    assert_eq!(held(), [seq]);
}

async fn export_copies_and_refuses_what_exists(store: impl Store, dir: TempDir) {
    let target = dir.path().join("target");
    for size in SIZES {
        let pin = store.import_bytes(sample(size), BlobFormat::Raw).await.unwrap();
        std::fs::remove_file(&target).unwrap_or_default(); // the first time there is none
        store.export(pin.hash(), target.clone(), ExportMode::Copy, Progress::none()).await.unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), sample(size));
        let refused = store.export(pin.hash(), target.clone(), ExportMode::Copy, Progress::none()).await;
        assert!(matches!(refused, Err(Error::TargetExists { path }) if path == target));
    }
    let pin = store.import_bytes(sample(100_000), BlobFormat::Raw).await.unwrap();
    // What becomes of a file that is there is up to the seed, if it is not to be refused.
    let replacing = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };
    let _ = store.export(pin.hash(), target.clone(), replacing, Progress::none()).await;
    assert!(target.exists());
    let moved = dir.path().join("moved");
    store.export(pin.hash(), moved.clone(), ExportMode::TryReference, Progress::none()).await.unwrap();
    assert_eq!(std::fs::read(moved).unwrap(), sample(100_000));
    let refused =
        store.export(pin.hash(), dir.path().into(), ExportMode::Copy, Progress::none()).await.unwrap_err();
    assert!(matches!(refused, Error::IsADirectory { .. }));
}

async fn export_reports_its_progress(store: impl Store, dir: TempDir) {
    let pin = store.import_bytes(sample(3 << 20), BlobFormat::Raw).await.unwrap();
    let (progress, mut events) = Progress::channel(1000);
    let target = dir.path().join("target");
    store.export(pin.hash(), target.clone(), ExportMode::Copy, progress).await.unwrap();
    let start = events.recv().await.unwrap();
    assert!(
        matches!(&start, ExportProgress::Start { hash, path, .. } if *hash == pin.hash() && *path == target)
    );
    let mut last = start.clone();
    while let Some(event) = events.recv().await {
        last = event;
    }
    assert!(matches!(last, ExportProgress::Done { .. }));
}

async fn import_reports_its_progress_and_can_be_refused(store: impl Store, dir: TempDir) {
    let path = dir.path().join("source");
    std::fs::write(&path, sample(100_000)).unwrap();
    let (progress, mut events) = Progress::channel(1000);
    let raw = BlobFormat::Raw;
    let pin = store.import_file(path.clone(), ImportMode::Copy, raw, progress).await.unwrap().0;
    let mut seen = Vec::new();
    while let Some(event) = events.recv().await {
        seen.push(event);
    }
    assert!(matches!(&seen[0], ImportProgress::Found { name, .. } if *name == path.to_string_lossy()));
    assert!(seen.iter().any(|event| matches!(event, ImportProgress::Size { size: 100_000, .. })));
    let last = &seen[seen.len() - 1];
    assert!(matches!(last, ImportProgress::OutboardDone { hash, .. } if *hash == pin.hash()));
    let (progress, events) = Progress::channel(1);
    drop(events);
    let refused = store.import_file(path, ImportMode::Copy, raw, progress).await.unwrap_err();
    assert!(matches!(refused, Error::Cancelled));
}

async fn listings_ascend_and_deleted_blobs_are_gone(store: impl Store, _dir: TempDir) {
    let mut hashes = Vec::new();
    for size in [10, 20_000, 30, 100_000] {
        hashes.push(store.import_bytes(sample(size), BlobFormat::Raw).await.unwrap().hash());
    }
    hashes.sort();
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), hashes);
    assert!(collect(store.partial_blobs().await.unwrap()).await.unwrap().is_empty());
    store.delete(vec![hashes[0], hashes[2]]).await.unwrap();
    assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [hashes[1], hashes[3]]);
    assert_eq!(store.entry_status(&hashes[0]).await.unwrap(), EntryStatus::NotFound);
    store.sync().await.unwrap();
}

async fn paths_and_tags_that_are_wrong_have_their_errors(store: impl Store, _dir: TempDir) {
    let missing = store.rename_tag("a".into(), "b".into()).await.unwrap_err();
    assert!(matches!(missing, Error::TagNotFound { tag } if tag == "a".into()));
    let pin = store.import_bytes(sample(10), BlobFormat::Raw).await.unwrap();
    let relative =
        store.export(pin.hash(), "target".into(), ExportMode::Copy, Progress::none()).await.unwrap_err();
    assert!(matches!(relative, Error::RelativePath { .. }), "{relative:?}");
    let broken = stream::iter([Ok(sample(5)), Err(std::io::ErrorKind::ConnectionReset.into())]);
    let error = store.import_stream(broken, BlobFormat::Raw, Progress::none()).await.unwrap_err();
    assert!(
        matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::ConnectionReset)
    );
}

#[tokio::test]
async fn missing_blob_is_told_by_type_where_the_seed_tells_it() {
    let (store, dir) = (Seed::memory(Promotion::AsAsked), tempfile::tempdir().unwrap());
    let target = dir.path().join("target");
    let error = store.export(Hash::EMPTY, target, ExportMode::Copy, Progress::none()).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { hash: Hash::EMPTY }));
}

#[tokio::test]
async fn file_store_is_locked_while_open_and_closed_after_shutdown() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_store(dir.path(), InlineOptions::default()).await;
    let second = Seed::open(dir.path(), InlineOptions::default(), Promotion::AsAsked).await.unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second:?}");
    let pin = store.import_bytes(sample(100_000), BlobFormat::Raw).await.unwrap();
    store.shutdown().await.unwrap();
    let hash = pin.hash();
    let again = file_store(dir.path(), InlineOptions::default()).await;
    assert_eq!(again.read_to_bytes(hash).await.unwrap(), sample(100_000));
    // Only now, as a call right after the shutdown may find the seed between having answered and being gone.
    assert!(matches!(store.get(&hash).await.unwrap_err(), Error::Closed));
    assert!(matches!(store.entry_status_sync(&hash).unwrap_err(), Error::Closed));
}

/// The thread behind a reader must not keep its file open longer than the seed's reader would.
#[tokio::test]
async fn dropped_reader_has_let_go_of_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_store(dir.path(), InlineOptions::NO_INLINE).await;
    let pin = store.import_bytes(sample(100_000), BlobFormat::Raw).await.unwrap();
    for _ in 0..100 {
        let entry = store.existing(pin.hash()).await.unwrap();
        let mut reader = entry.data_reader().await.unwrap();
        assert_eq!(reader.read_range(0, 10).await.unwrap(), sample(10));
        assert!(open_files(dir.path()) > 0);
        drop((entry, reader));
        assert_eq!(open_files(dir.path()), 0);
    }
}

/// How many data files of a store are open.
fn open_files(dir: &Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let paths = descriptors.filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    paths.filter(|path| path.starts_with(dir.join("data"))).count()
}

/// A panic of the seed is one of the call that caused it, not an error and no hang.
#[tokio::test]
async fn panic_of_the_seed_comes_out_of_the_call() {
    let dir = tempfile::tempdir().unwrap();
    let store = file_store(dir.path(), InlineOptions::default()).await;
    let entry = store.get_or_create(Hash::new("a"), 100_000).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    let beyond = Leaf { offset: u64::MAX - 1023, data: sample(2048) };
    let writing = tokio::spawn(async move { writer.write_batch(100_000, vec![beyond.into()]).await });
    assert!(writing.await.unwrap_err().is_panic());
}

#[tokio::test]
async fn leaf_that_no_memory_holds_is_refused() {
    let store: Seed<mem::Store> = Seed::memory(Promotion::AsAsked);
    let entry = store.get_or_create(Hash::new("a"), 1 << 40).await.unwrap();
    let mut writer = entry.batch_writer().await.unwrap();
    let far = BaoContentItem::from(Leaf { offset: 1 << 39, data: sample(1024) });
    assert!(writer.write_batch(1 << 40, vec![far]).await.is_err());
}

/// A writer of the seed does not survive a dropped call, and the adapter does not open another in its place.
#[test]
fn dropped_call_leaves_the_writer_as_the_seed_leaves_it() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let store = file_store(dir.path(), InlineOptions::default()).await;
        let entry = store.get_or_create(Hash::new("a"), 100_000).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        // What the seed wants to do on the one blocking thread has to wait.
        let (release, released) = std::sync::mpsc::channel::<()>();
        let blocker = tokio::task::spawn_blocking(move || released.recv());
        let leaf = Leaf { offset: 0, data: sample(1024) };
        drop(poll_once(writer.write_batch(100_000, vec![leaf.into()])).await);
        let busy = async { Some(writer.sync().await.is_err()) };
        let waits = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            None
        };
        let answered = or(busy, waits).await;
        drop(release);
        let _ = blocker.await;
        assert_eq!(answered, Some(true));
    });
}
