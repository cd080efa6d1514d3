//! Compaction (E54 to E60): the space of what is gone comes back, and nothing else changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use blob_fs::{
    CompactOptions, CompactReport, Compaction, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Op, Ops, RealVfs, Repeat},
};
use blob_traits::{Error, HashAndFormat, MapEntry as _, ReadBlob as _, TagRange, collect, prelude::*};
use redb::{Database, TableDefinition};
use support::{
    accepting, content, copy_dir,
    files::{all_files, check_files, segments},
    has, hash, import, lazy,
    log::{change, kind_of_segment},
    open, temp_dir, tiny,
};

const SMALL: usize = 4000;
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const SEGMENTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("segments");

async fn compact(store: &FsStore) -> CompactReport {
    store.compact(CompactOptions::default()).await.unwrap()
}

/// A store with many blobs of which every fourth stays, and tags to all that stay.
async fn thinned(options: Options) -> FsStore {
    let store = open(options).await;
    fill(&store, 0..120).await;
    store
}

fn stays(seed: u64) -> bool {
    seed.is_multiple_of(4)
}

async fn fill(store: &FsStore, seeds: std::ops::Range<u64>) {
    for seed in seeds.clone() {
        let hash = import(store, seed, SMALL).await;
        let tag = format!("tag-{}", seed / 4);
        store.set_tag(tag.as_str().into(), Some(HashAndFormat::raw(hash))).await.unwrap();
    }
    for seed in seeds.clone().filter(|seed| stays(*seed)) {
        let tag = format!("tag-{}", seed / 4);
        store.set_tag(tag.as_str().into(), Some(HashAndFormat::raw(hash(seed, SMALL)))).await.unwrap();
    }
    for seed in seeds.filter(|seed| !stays(*seed)) {
        store.delete(vec![hash(seed, SMALL)]).await.unwrap();
    }
}

async fn check(store: &FsStore, seeds: std::ops::Range<u64>) {
    for seed in seeds.clone() {
        assert_eq!(has(store, seed, SMALL).await, stays(seed), "{seed}");
    }
    let tags = collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap();
    assert_eq!(tags.len(), seeds.clone().filter(|seed| stays(*seed)).count());
    for seed in seeds.filter(|seed| stays(*seed)) {
        let tag = format!("tag-{}", seed / 4);
        let target = store.get_tag(&tag.as_str().into()).await.unwrap();
        assert_eq!(target, Some(HashAndFormat::raw(hash(seed, SMALL))));
    }
}

fn log_bytes(dir: &Path) -> u64 {
    segments(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

fn forget_index(dir: &Path) {
    fs::remove_file(dir.join("index.redb")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_comes_back_and_all_that_stays_is_there_also_without_the_index() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    let before = log_bytes(dir.path());
    let report = compact(&store).await;
    let after = log_bytes(dir.path());
    assert_eq!((report.log_bytes_before, report.log_bytes_after), (before, after));
    assert!(report.segments_removed > 3 && report.pending_segments == 0, "{report:?}");
    let live: u64 = 30 * 4096 + 30 * 96;
    assert!(after * 10 <= live * 12 + 10 * 20_000, "{before} {after} {live}");
    check(&store, 0..120).await;
    store.shutdown().await.unwrap();
    drop(store);
    for lost in [false, true] {
        if lost {
            forget_index(dir.path());
        }
        let store = open(tiny(dir.path())).await;
        assert_eq!(store.recovery().rebuilt_index, lost);
        assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
        check(&store, 0..120).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compacting_again_changes_nothing() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    compact(&store).await;
    let files = segments(dir.path());
    let again = compact(&store).await;
    assert_eq!((again.segments_written, again.segments_removed), (0, 0));
    assert_eq!(segments(dir.path()), files);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_of_which_all_was_deleted_takes_next_to_nothing() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    store.delete_tags(TagRange::all()).await.unwrap();
    store.delete((0..120).map(|seed| hash(seed, SMALL)).collect()).await.unwrap();
    compact(&store).await;
    compact(&store).await;
    assert!(log_bytes(dir.path()) < 40_000, "{}", log_bytes(dir.path()));
    drop(store);
    forget_index(dir.path());
    let store = open(tiny(dir.path())).await;
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
    assert!(collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handle_reads_on_while_its_segment_is_replaced() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    let kept = store.get(&hash(0, SMALL)).await.unwrap().unwrap();
    let mut reader = kept.data_reader().await.unwrap();
    assert_eq!(reader.read_range(0, 10).await.unwrap(), content(0, SMALL)[..10]);
    let report = compact(&store).await;
    assert_eq!(report.pending_segments, 1);
    assert_eq!(store.space().await.unwrap().pending_segments, 1);
    assert_eq!(reader.read_range(10, SMALL).await.unwrap(), content(0, SMALL)[10..]);
    assert_eq!(kept.data_reader().await.unwrap().read_range(0, SMALL).await.unwrap(), content(0, SMALL));
    drop((kept, reader));
    let report = compact(&store).await;
    assert_eq!((report.pending_segments, report.segments_removed > 0), (0, true));
    check(&store, 0..120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_compacts_by_itself() {
    let dir = temp_dir();
    let compaction = Compaction::Background { max_dead_percent: 50 };
    let store = thinned(Options { compaction, ..tiny(dir.path()) }).await;
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while store.space().await.unwrap().log_bytes > 400_000 {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.space().await);
        tokio::task::yield_now().await;
    }
    check(&store, 0..120).await;
    store.shutdown().await.unwrap();
}

/// What it copied then would be swept by the next batch (E60).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn store_does_not_compact_by_itself_during_a_round() {
    let dir = temp_dir();
    let compaction = Compaction::Background { max_dead_percent: 50 };
    let store = open(Options { compaction, ..tiny(dir.path()) }).await;
    let round = store.begin_sweep().await.unwrap();
    fill(&store, 0..120).await;
    let is_compacted = async || store.space().await.unwrap().log_bytes <= 400_000;
    // Without a round it begins within a second.
    let until = std::time::Instant::now() + Duration::from_secs(2);
    while std::time::Instant::now() < until {
        assert!(!is_compacted().await, "{:?}", store.space().await);
        tokio::task::yield_now().await;
    }
    drop(round);
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while !is_compacted().await {
        assert!(std::time::Instant::now() < deadline, "{:?}", store.space().await);
        tokio::task::yield_now().await;
    }
    check(&store, 0..120).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_rounds_of_filling_and_compacting_leave_what_stays() {
    let dir = temp_dir();
    let mut store = open(tiny(dir.path())).await;
    for round in 0..8 {
        fill(&store, round * 24..(round + 1) * 24).await;
        compact(&store).await;
        check(&store, 0..(round + 1) * 24).await;
        if round % 3 == 1 {
            drop(store);
            if round % 2 == 0 {
                forget_index(dir.path());
            }
            store = open(tiny(dir.path())).await;
        }
    }
    drop(store);
    forget_index(dir.path());
    let store = open(tiny(dir.path())).await;
    check(&store, 0..192).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn space_tells_what_is_live_and_what_is_dead() {
    let dir = temp_dir();
    let store = thinned(lazy(dir.path())).await;
    import(&store, 1000, 70_000).await;
    compact(&store).await;
    let space = store.space().await.unwrap();
    assert_eq!(space.log_bytes, log_bytes(dir.path()));
    assert_eq!(space.live_log_bytes + space.dead_log_bytes, space.log_bytes);
    assert!((30 * 4080..40 * 4200).contains(&space.live_log_bytes), "{space:?}");
    assert_eq!(space.file_bytes, 70_000 + 4 * 64);
    store.delete(vec![hash(1000, 70_000)]).await.unwrap();
    compact(&store).await;
    assert_eq!(store.space().await.unwrap().file_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_without_a_count_of_segments_is_counted_anew() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    compact(&store).await;
    store.shutdown().await.unwrap();
    let counted = store_space(dir.path()).await;
    {
        let index = Database::open(dir.path().join("index.redb")).unwrap();
        let txn = index.begin_write().unwrap();
        txn.open_table(META).unwrap().remove("segments").unwrap();
        txn.delete_table(SEGMENTS).unwrap();
        txn.commit().unwrap();
    }
    assert_eq!(store_space(dir.path()).await, counted);
}

async fn store_space(dir: &Path) -> u64 {
    let store = open(tiny(dir)).await;
    let space = store.space().await.unwrap().live_log_bytes;
    store.shutdown().await.unwrap();
    space
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packed_segment_with_a_damaged_end_is_damage_and_no_interrupted_compaction() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    compact(&store).await;
    store.shutdown().await.unwrap();
    drop(store);
    let packed: Vec<_> = segments(dir.path()).into_iter().filter(|path| kind_of_segment(path) == 2).collect();
    for path in &packed {
        change(path, |bytes| *bytes.last_mut().unwrap() ^= 1);
        change(path, |bytes| {
            let end = bytes.len() - 96;
            bytes[end + 10] ^= 1;
        });
    }
    forget_index(dir.path());
    let refused = FsStore::open(tiny(dir.path())).await;
    assert!(matches!(refused, Err(Error::DamagedStore { .. })), "{refused:?}");
    let store = open(accepting(tiny(dir.path()))).await;
    assert_eq!(store.recovery().damaged.len(), packed.len());
    check(&store, 0..120).await;
    assert!(packed.iter().all(|path| path.exists()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_with_a_damaged_blob_is_left_as_it_is() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    let first = segments(dir.path())[0].clone();
    change(&first, |bytes| {
        let at = bytes.windows(16).position(|window| *window == content(0, SMALL)[..16]).unwrap();
        bytes[at] ^= 1;
    });
    let report = compact(&store).await;
    assert!(report.damaged_segments.iter().eq([&first]));
    assert!(report.segments_removed > 0 && first.exists());
    assert!(has(&store, 4, SMALL).await && !has(&store, 1, SMALL).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_goes_with_the_store() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    let slow = CompactOptions { bytes_per_second: Some(1), ..CompactOptions::default() };
    let compaction = tokio::spawn({
        let store = store.clone();
        async move { store.compact(slow).await }
    });
    while !all_files(&dir.path().join("temp")).iter().any(|path| path.extension().is_some_and(|e| e == "seg"))
    {
        tokio::task::yield_now().await;
    }
    store.shutdown().await.unwrap();
    assert!(matches!(compaction.await.unwrap(), Err(Error::Closed)));
    drop(store);
    let store = open(tiny(dir.path())).await;
    check(&store, 0..120).await;
    assert!(all_files(&dir.path().join("temp")).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn torn_end_is_cut_off_before_the_segment_that_says_where_it_is_goes() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in 0..10 {
        import(&store, 4 * seed, SMALL).await;
    }
    drop(store);
    let torn = segments(dir.path()).pop().unwrap();
    let whole = fs::metadata(&torn).unwrap().len();
    change(&torn, |bytes| bytes.extend(b"BREC and no more"));
    let store = open(tiny(dir.path())).await;
    for seed in 100..140 {
        import(&store, seed, SMALL).await;
    }
    store.delete((100..140).map(|seed| hash(seed, SMALL)).collect()).await.unwrap();
    compact(&store).await;
    assert_eq!(fs::metadata(&torn).unwrap().len(), whole);
    drop(store);
    forget_index(dir.path());
    let store = open(tiny(dir.path())).await;
    assert!(store.recovery().damaged.is_empty(), "{:?}", store.recovery());
    assert!(has(&store, 36, SMALL).await && !has(&store, 100, SMALL).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_that_is_missing_and_not_replaced_is_refused() {
    let dir = temp_dir();
    let store = thinned(tiny(dir.path())).await;
    compact(&store).await;
    store.shutdown().await.unwrap();
    drop(store);
    let packed = segments(dir.path()).into_iter().find(|path| kind_of_segment(path) == 2).unwrap();
    fs::remove_file(packed).unwrap();
    for lost in [false, true] {
        if lost {
            forget_index(dir.path());
        }
        let refused = FsStore::open(tiny(dir.path())).await;
        assert!(matches!(refused, Err(Error::DamagedStore { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_from_before_a_compaction_is_put_aside_and_built_anew() {
    let dir = temp_dir();
    let store = thinned(lazy(dir.path())).await;
    store.shutdown().await.unwrap();
    drop(store);
    let old = fs::read(dir.path().join("index.redb")).unwrap();
    let store = open(tiny(dir.path())).await;
    fill(&store, 120..160).await;
    compact(&store).await;
    store.shutdown().await.unwrap();
    drop(store);
    fs::write(dir.path().join("index.redb"), old).unwrap();
    let store = open(tiny(dir.path())).await;
    assert!(store.recovery().rebuilt_because.is_some() && store.recovery().losses.is_empty());
    check(&store, 0..160).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disk_use_after_deleting_most_comes_close_to_what_is_left() {
    let dir = temp_dir();
    let store = open(Options { compaction: Compaction::Manual, ..Options::new(dir.path()) }).await;
    let n = 20_000;
    for seed in 0..n {
        import(&store, seed, 1_000).await;
    }
    import(&store, 0, 5_000_000).await;
    import(&store, 1, 5_000_000).await;
    // All rows have been in the index.
    compact(&store).await;
    store.delete((0..n).filter(|seed| seed % 10 != 0).map(|seed| hash(seed, 1_000)).collect()).await.unwrap();
    store.delete(vec![hash(1, 5_000_000)]).await.unwrap();
    compact(&store).await;
    println!("{:?}", store.space().await.unwrap());
    store.shutdown().await.unwrap();
    let used: u64 = all_files(dir.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    let live = n / 10 * 1_080 + 5_000_000 + 5_000_000 / 256;
    println!("{used} bytes for {live}");
    assert!(used * 10 <= live * 12, "{used} bytes for {live}");
    drop(store);
    let store = open(Options::new(dir.path())).await;
    assert!(
        store.recovery().removed_files == 0 && has(&store, 0, 1_000).await && !has(&store, 1, 1_000).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_stays_so_though_the_removal_was_compacted() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in 0..40 {
        import(&store, seed, SMALL).await;
    }
    let first = segments(dir.path())[0].clone();
    // Of the first segment one blob is dead, of the others all.
    store.delete(vec![hash(1, SMALL)]).await.unwrap();
    store.set_tag("a".into(), Some(HashAndFormat::raw(hash(2, SMALL)))).await.unwrap();
    store.delete((20..40).map(|seed| hash(seed, SMALL)).collect()).await.unwrap();
    for seed in 40..60 {
        import(&store, seed, SMALL).await;
    }
    store.delete((40..60).map(|seed| hash(seed, SMALL)).collect()).await.unwrap();
    store.compact(CompactOptions { max_dead_percent: 60, ..CompactOptions::default() }).await.unwrap();
    assert!(first.exists());
    drop(store);
    forget_index(dir.path());
    let store = open(tiny(dir.path())).await;
    assert!(has(&store, 0, SMALL).await && !has(&store, 1, SMALL).await);
}

/// A crash has left both, and the copy went bad: nobody had read it before what it replaces was removed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_copy_does_not_take_the_place_of_what_it_was_made_of() {
    let crashed = temp_dir();
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = thinned(Options { vfs: Arc::new(vfs.clone()), ..tiny(crashed.path()) }).await;
    // The copy has come into the log, and nothing was done about it.
    let only = Ops::Just(Op::Rename);
    vfs.arm(Fault { at: 1, repeat: Repeat::Once, kind: FaultKind::DoneError(5), only });
    store.compact(CompactOptions::default()).await.unwrap_err();
    drop(store);
    let place = |seed: u64, path: &Path| {
        let beginning = content(seed, 16);
        fs::read(path).unwrap().windows(16).position(|window| *window == beginning)
    };
    let with =
        |seed: u64| segments(crashed.path()).into_iter().filter(move |path| place(seed, path).is_some());
    let (seed, both) = (0..120)
        .map(|seed| (seed, with(seed).collect::<Vec<_>>()))
        .find(|(_, both)| both.len() == 2)
        .unwrap();
    assert!(both.iter().map(|path| kind_of_segment(path)).eq([1, 2]), "{both:?}");
    let at = place(seed, &both[1]).unwrap();
    change(&both[1], |bytes| bytes[at] ^= 1);
    for lost in [false, true] {
        let dir = temp_dir();
        copy_dir(crashed.path(), dir.path());
        if lost {
            forget_index(dir.path());
        }
        let store = open(tiny(dir.path())).await;
        assert_eq!(store.recovery().damaged.len(), 1, "{:?}", store.recovery());
        check(&store, 0..120).await;
        let is_there = |path: &PathBuf| dir.path().join("log").join(path.file_name().unwrap()).exists();
        assert!(both.iter().all(is_there));
    }
}
