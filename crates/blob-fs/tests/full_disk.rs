//! A full disk (E61): what is deleted can be recorded, its room comes back, and nothing that stays is lost.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use blob_fs::{
    CompactOptions, Compaction, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, FileRef, Op, Ops, RealVfs, Repeat, Vfs},
};
use blob_traits::{
    BlobFormat, Error, Hash, ImportSource, Progress, SweepBatch, TagRange, collect, prelude::*,
};
use support::{content, files::check_files, has, hash, import, open, temp_dir};

const EIO: i32 = 5;
const MIB: u64 = 1 << 20;
const DISK: u64 = 96 * MIB;
/// Several to a segment, many to the disk.
const SMALL: usize = 30_000;
const LARGE: usize = 1_500_000;

/// The disk, and a store that brings nothing into its index by itself.
fn options(dir: &Path, vfs: Arc<dyn Vfs>) -> Options {
    Options {
        segment_size: 2 * MIB,
        overlay_rows: 1 << 20,
        overlay_age: Duration::from_hours(1),
        vfs,
        ..Options::new(dir)
    }
}

/// What was put into a store until its disk was full.
#[derive(Debug, Default)]
struct Contents {
    kept: Vec<(u64, usize)>,
    dropped: Vec<(u64, usize)>,
}

/// Two blobs of five are kept, the others go with their tags.
async fn add(store: &FsStore, contents: &mut Contents, seed: u64, len: usize) -> Result<(), Error> {
    let is_kept = seed % 5 < 2;
    let tag = format!("{}/{seed}-{len}", if is_kept { "kept" } else { "dropped" });
    let source = ImportSource::Bytes(content(seed, len));
    store.import_tagged(source, BlobFormat::Raw, tag.as_str().into(), Progress::none()).await?;
    if is_kept { &mut contents.kept } else { &mut contents.dropped }.push((seed, len));
    Ok(())
}

/// Imports until nothing fits any more, also no short blob. Half way, when there is enough for a reserve, the index is
/// committed.
async fn fill(store: &FsStore, lens: &[usize]) -> Contents {
    let mut contents = Contents::default();
    let mut n_bytes = 0;
    let mut seeds = 0..;
    for len in lens {
        for seed in seeds.by_ref() {
            match add(store, &mut contents, seed, *len).await {
                Ok(()) => {}
                Err(Error::NoSpace { .. }) => break,
                Err(e) => panic!("{e:?}"),
            }
            let before = n_bytes;
            n_bytes += *len as u64;
            if before < DISK / 2 && n_bytes >= DISK / 2 {
                store.compact(CompactOptions::default()).await.unwrap();
            }
        }
    }
    contents
}

/// Drops the tags and collects what they kept.
async fn collect_garbage(store: &FsStore, contents: &Contents) {
    store.delete_tags(TagRange::prefix("dropped/")).await.unwrap();
    let round = store.begin_sweep().await.unwrap();
    let hashes: Vec<Hash> = contents.dropped.iter().map(|(seed, len)| hash(*seed, *len)).collect();
    let SweepBatch::Swept(swept) = round.sweep(hashes).await.unwrap() else { panic!("nothing was reached") };
    assert_eq!(swept.n_complete, contents.dropped.len() as u64);
}

async fn check(store: &FsStore, contents: &Contents) {
    for (seed, len) in &contents.kept {
        assert!(has(store, *seed, *len).await, "{seed} of {len} bytes is lost");
    }
    for (seed, len) in &contents.dropped {
        assert!(!has(store, *seed, *len).await, "{seed} of {len} bytes is back");
    }
    let tags = collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap();
    assert_eq!(tags.len(), contents.kept.len());
}

/// The store sees by itself that there is room again.
async fn import_at_last(store: &FsStore, seed: u64, len: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match store.import_bytes(content(seed, len), BlobFormat::Raw).await {
            Ok(_) => return,
            Err(Error::NoSpace { .. }) if Instant::now() < deadline => tokio::task::yield_now().await,
            Err(e) => panic!("{e:?}"),
        }
    }
}

/// Fills the disk, deletes most, and sees everything come back.
async fn fill_and_collect(dir: &Path, vfs: Arc<dyn Vfs>, lens: &[usize]) {
    let store = open(options(dir, vfs.clone())).await;
    let contents = fill(&store, lens).await;
    assert!(store.space().await.unwrap().reserve_bytes >= 4 * MIB);
    assert!(contents.kept.len() > 5);
    collect_garbage(&store, &contents).await;
    store.compact(CompactOptions::default()).await.unwrap();
    import_at_last(&store, 1_000_000, 5_000_000).await;
    check(&store, &contents).await;
    assert!(vfs.available(dir).unwrap() > DISK / 3, "{:?}", store.space().await);
    let reserve = store.space().await.unwrap().reserve_bytes;
    assert!(reserve > 0);
    assert_eq!(fs::metadata(dir.join("reserve")).unwrap().len(), reserve);
    store.shutdown().await.unwrap();
    drop(store);
    for lost in [false, true] {
        if lost {
            vfs.remove_file(&dir.join("index.redb")).unwrap();
        }
        let store = open(options(dir, vfs.clone())).await;
        assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
        check(&store, &contents).await;
        assert!(has(&store, 1_000_000, 5_000_000).await);
        store.shutdown().await.unwrap();
    }
}

fn small_disk() -> Arc<dyn Vfs> {
    Arc::new(FaultVfs::on_a_disk_of(DISK, Arc::new(RealVfs::default())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_of_small_blobs_comes_back_on_a_full_disk() {
    let dir = temp_dir();
    fill_and_collect(dir.path(), small_disk(), &[SMALL, 1000, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_of_large_blobs_comes_back_on_a_full_disk() {
    let dir = temp_dir();
    fill_and_collect(dir.path(), small_disk(), &[LARGE, 70_000, 1000, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_of_very_many_blobs_comes_back_on_a_full_disk() {
    let dir = temp_dir();
    fill_and_collect(dir.path(), small_disk(), &[5000, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disk_takes_removals_and_nothing_else_also_when_opened_again() {
    let (dir, vfs) = (temp_dir(), small_disk());
    let store = open(options(dir.path(), vfs.clone())).await;
    let contents = fill(&store, &[SMALL, 1000, 1]).await;
    drop(store);
    let mut deleted = Vec::new();
    let mut gone = contents.dropped.iter().copied();
    for _ in 0..3 {
        let store =
            open(Options { compaction: Compaction::Manual, ..options(dir.path(), vfs.clone()) }).await;
        for (seed, len) in gone.by_ref().take(400) {
            store.delete(vec![hash(seed, len)]).await.unwrap();
            deleted.push((seed, len));
        }
        assert_eq!(store.space().await.unwrap().reserve_bytes, 0);
        let refused = store.import_bytes(content(1, 5000), BlobFormat::Raw).await;
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        let refused = store.import_bytes(content(1, 500_000), BlobFormat::Raw).await;
        assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
        // What is there is not written again.
        let (seed, len) = contents.kept[0];
        assert!(store.import_bytes(content(seed, len), BlobFormat::Raw).await.is_ok());
        for (seed, len) in &deleted {
            assert!(!has(&store, *seed, *len).await);
        }
    }
    assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), 0);
    // Without one, the rest of the disk is there for all.
    let store = open(Options { reserve: 0, ..options(dir.path(), vfs) }).await;
    store.import_bytes(content(1, 5000), BlobFormat::Raw).await.unwrap();
    assert!(!dir.path().join("reserve").exists());
}

/// Leaves so much of the disk free.
fn take_all_but(dir: &Path, vfs: &FaultVfs, n_bytes: u64) -> FileRef {
    let other = vfs.create_new(&dir.join("other")).unwrap();
    other.allocate(vfs.available(dir).unwrap() - n_bytes).unwrap();
    other
}

/// A store that has the least of reserves, and its disk.
async fn with_a_reserve(dir: &Path, segment_size: u64) -> (FaultVfs, Options, FsStore) {
    let vfs = FaultVfs::on_a_disk_of(DISK, Arc::new(RealVfs::default()));
    let options =
        Options { compaction: Compaction::Manual, segment_size, ..options(dir, Arc::new(vfs.clone())) };
    let store = open(options.clone()).await;
    import(&store, 0, 34_000_000).await;
    store.compact(CompactOptions::default()).await.unwrap();
    assert!(store.space().await.unwrap().reserve_bytes > 4 * MIB);
    (vfs, options, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_is_committed_on_a_full_disk() {
    let dir = temp_dir();
    let (vfs, _, store) = with_a_reserve(dir.path(), 2 * MIB).await;
    for seed in 0..700 {
        import(&store, seed, 10).await;
    }
    let other = take_all_but(dir.path(), &vfs, 0);
    // Nothing is to be compacted.
    store.compact(CompactOptions::default()).await.unwrap();
    assert_eq!(store.space().await.unwrap().reserve_bytes, 0);
    other.set_len(0).unwrap();
    import_at_last(&store, 1_000_000, 10).await;
    assert!(store.space().await.unwrap().reserve_bytes > 4 * MIB);
}

/// All pages of the index change, and are more than what is left of the reserve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_that_is_larger_than_the_reserve_is_committed_on_a_full_disk() {
    const BLOBS: u64 = 60_000;
    let dir = temp_dir();
    let (vfs, _, store) = with_a_reserve(dir.path(), 64 * MIB).await;
    for seed in 0..BLOBS {
        import(&store, seed, 100).await;
    }
    store.compact(CompactOptions::default()).await.unwrap();
    let before = store.space().await.unwrap();
    assert!(before.index_bytes > before.reserve_bytes, "{before:?}");
    let _other = take_all_but(dir.path(), &vfs, 0);
    let hashes = (0..BLOBS).filter(|seed| seed % 2 == 0).map(|seed| hash(seed, 100)).collect();
    store.delete(hashes).await.unwrap();
    store.compact(CompactOptions { max_dead_percent: 100, ..CompactOptions::default() }).await.unwrap();
    let after = store.space().await.unwrap();
    assert!(after.live_log_bytes < before.live_log_bytes * 6 / 10, "{after:?}");
    assert!(has(&store, 1, 100).await && !has(&store, 2, 100).await);
}

/// Segments of which more and more is dead; all of that is in the index.
async fn with_dead_segments(dir: &Path) -> (FaultVfs, Options) {
    let (vfs, options, store) = with_a_reserve(dir, MIB).await;
    for segment in 0..10 {
        for blob in 0..40 {
            import(&store, 100 * segment + blob, 26_000).await;
        }
        let dead = (0..40).filter(|blob| *blob < 20 + 2 * segment);
        store.delete(dead.map(|blob| hash(100 * segment + blob, 26_000)).collect()).await.unwrap();
    }
    for seed in 1000..1039 {
        import(&store, seed, 26_000).await;
    }
    store.shutdown().await.unwrap();
    (vfs, options)
}

async fn compact_all(store: &FsStore) {
    let before = store.space().await.unwrap().log_bytes;
    store.compact(CompactOptions::default()).await.unwrap();
    let after = store.space().await.unwrap().log_bytes;
    assert!(before - after > 6_000_000, "{before} {after}");
    for segment in 0..10 {
        for blob in 0..40 {
            assert_eq!(has(store, 100 * segment + blob, 26_000).await, blob >= 20 + 2 * segment);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_begins_with_the_reserve_where_there_is_no_room_at_all() {
    let dir = temp_dir();
    let (vfs, options) = with_dead_segments(dir.path()).await;
    let _other = take_all_but(dir.path(), &vfs, 0);
    let store = open(options).await;
    compact_all(&store).await;
    import_at_last(&store, 1_000_000, 1000).await;
    assert!(store.space().await.unwrap().reserve_bytes > 4 * MIB);
}

/// The emptiest segments fit, and what they give back is room for the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_begins_with_the_emptiest_segments_where_there_is_little_room() {
    let dir = temp_dir();
    let (vfs, options) = with_dead_segments(dir.path()).await;
    let store = open(Options { reserve: 0, ..options }).await;
    let _other = take_all_but(dir.path(), &vfs, 500 << 10);
    compact_all(&store).await;
}

/// Some rows are in the index whose records lie behind its checkpoint. Replayed as if they were not, an earlier record of
/// a blob that was imported twice took the files of the later one for useless.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_of_the_index_that_ends_half_way_on_a_full_disk_loses_nothing() {
    for at in 1..12 {
        let dir = temp_dir();
        let (vfs, options, store) = with_a_reserve(dir.path(), 2 * MIB).await;
        let twice: Vec<_> = (0..8).map(|seed| (seed, 70_000)).collect();
        for (seed, len) in twice.iter().copied() {
            import(&store, seed, len).await;
            store.delete(vec![hash(seed, len)]).await.unwrap();
            import(&store, seed, len).await;
        }
        for seed in 0..700 {
            import(&store, seed, 10).await;
        }
        let _other = take_all_but(dir.path(), &vfs, 0);
        // As many as do not fit in the block that the log ends in.
        store.delete((0..400).map(|seed| hash(seed, 10)).collect()).await.unwrap();
        let only = Ops::Just(Op::SyncData);
        vfs.arm(Fault { at, repeat: Repeat::Sticky, kind: FaultKind::Error(EIO), only });
        let committed = store.compact(CompactOptions::default()).await;
        vfs.disarm();
        assert_eq!(committed.is_err(), vfs.fired().is_some(), "{committed:?}");
        drop(store);
        let store = open(options).await;
        assert_eq!(store.space().await.unwrap().reserve_bytes, 0);
        for (seed, len) in twice {
            assert!(has(&store, seed, len).await, "{seed}, {at}");
        }
        for seed in 0..700 {
            assert_eq!(has(&store, seed, 10).await, seed >= 400, "{seed}, {at}");
        }
        store.shutdown().await.unwrap();
        check_files(dir.path());
    }
}

/// A small file system of this machine's, where this process may mount one.
struct Mounted(PathBuf, #[expect(dead_code, reason = "it is removed at the end")] tempfile::TempDir);

impl Mounted {
    fn new() -> Option<Self> {
        let dir = temp_dir();
        let path = dir.path().join("disk");
        fs::create_dir(&path).unwrap();
        let size = format!("size={DISK}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path, dir)),
            other => {
                println!("skipped: no file system can be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        println!("unmounted: {unmounted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn room_comes_back_on_a_real_disk_that_is_full() {
    let Some(disk) = Mounted::new() else { return };
    fill_and_collect(&disk.0.join("store"), Arc::new(RealVfs::default()), &[SMALL, LARGE, 1000, 1]).await;
}
