//! An index in which a few bytes are not what was written: redb takes most of such pages for right, and rows are missing, or
//! say something else. The log has all of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{fs, path::Path, sync::Arc};

use blob_fs::{
    CompactOptions, FsStore, Options,
    vfs::{FaultVfs, RealVfs},
};
use blob_traits::{
    CheckMode, ConsistencyCheckProgress as Event, Error, Progress, ReportLevel, SweepBatch, prelude::*,
};
use support::{
    accepting, copy_dir, files::last_segment, has, hash, import, lazy, log::change, open, temp_dir, tiny,
};

const BLOBS: std::ops::Range<u64> = 0..60;
const LEN: usize = 300;
/// One that has files, which must not be taken for nobody's.
const LARGE: (u64, usize) = (100, 200_000);

async fn base() -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(lazy(dir.path())).await;
    for seed in BLOBS {
        import(&store, seed, LEN).await;
    }
    import(&store, LARGE.0, LARGE.1).await;
    store.shutdown().await.unwrap();
    dir
}

/// The places in the index at which something is: some in each page.
fn places(dir: &Path) -> Vec<usize> {
    let bytes = fs::read(dir.join("index.redb")).unwrap();
    let pages = bytes.chunks(4096).enumerate();
    let offsets = pages.flat_map(|(n, page)| {
        let used = page.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| n * 4096 + at);
        let used: Vec<_> = used.collect();
        let step = (used.len() / 8).max(1);
        used.into_iter().step_by(step).collect::<Vec<_>>()
    });
    offsets.collect()
}

/// A copy of a store in whose index two bytes are zeros.
fn with_zeros(dir: &Path, at: usize) -> tempfile::TempDir {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    change(&copy.path().join("index.redb"), |bytes| {
        bytes.iter_mut().skip(at).take(2).for_each(|byte| *byte = 0);
    });
    copy
}

async fn finds_damage(store: &FsStore, mode: CheckMode) -> bool {
    let found = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let to = found.clone();
    let progress = Progress::from_fn(move |event| {
        if matches!(event, Event::Update { level: ReportLevel::Error, .. }) {
            to.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    });
    store.consistency_check(mode, progress).await.unwrap();
    found.load(std::sync::atomic::Ordering::Relaxed)
}

/// Sweeps nothing, and says whether it could have.
async fn collects(store: &FsStore) -> bool {
    match store.begin_sweep().await {
        Ok(_) => true,
        Err(Error::DamagedStore { .. }) => false,
        Err(e) => panic!("{e:?}"),
    }
}

async fn assert_all_there(store: &FsStore, context: &str) {
    for seed in BLOBS {
        assert!(has(store, seed, LEN).await, "{context}: {seed} is missing");
    }
    assert!(has(store, LARGE.0, LARGE.1).await, "{context}: the large one is missing");
    assert!(store.quarantined().await.unwrap().iter().all(|file| file.hash.is_none()), "{context}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_byte_of_the_index_can_change_unnoticed() {
    let base = base().await;
    let places = places(base.path());
    assert!(places.len() > 50);
    let mut n_found = 0;
    for at in places {
        let copy = with_zeros(base.path(), at);
        let context = format!("offset {at}");
        let store = match FsStore::open(tiny(copy.path())).await {
            Ok(store) => store,
            // What is of another version is left to that. Where the index says that the log goes on, it may have been right.
            Err(Error::UnsupportedFormat { .. } | Error::DamagedStore { .. }) => continue,
            Err(e) => panic!("{context}: {e:?}"),
        };
        let finds = finds_damage(&store, CheckMode::Repair).await;
        // Rows that have gone make nothing dead once that is known.
        assert_eq!(collects(&store).await, !finds, "{context}");
        assert_eq!(store.compact(CompactOptions::default()).await.is_ok(), !finds, "{context}");
        store.shutdown().await.unwrap();
        let store = open(tiny(copy.path())).await;
        n_found += u32::from(finds);
        assert_all_there(&store, &context).await;
        assert!(!finds_damage(&store, CheckMode::Report).await, "{context}");
        store.shutdown().await.unwrap();
    }
    assert!(n_found > 10, "{n_found}");
}

/// A round that has begun before it was known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_the_index_ends_a_round_of_collection() {
    let base = base().await;
    let mut n_found = 0;
    for at in places(base.path()).into_iter().step_by(5) {
        let copy = with_zeros(base.path(), at);
        let Ok(store) = FsStore::open(tiny(copy.path())).await else { continue };
        let Ok(round) = store.begin_sweep().await else { continue };
        let finds = finds_damage(&store, CheckMode::Report).await;
        let swept = round.sweep(vec![hash(0, LEN)]).await;
        match (finds, swept) {
            (false, Ok(SweepBatch::Swept(swept))) => assert_eq!(swept.n_complete, 1),
            (true, Err(Error::DamagedStore { .. })) => n_found += 1,
            (_, swept) => panic!("offset {at}: {finds} {swept:?}"),
        }
        drop(round);
        store.shutdown().await.unwrap();
    }
    assert!(n_found > 1, "{n_found}");
}

/// Every page by itself cannot be read. Opening says so until it may build another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn index_with_a_bad_sector_is_built_anew_where_that_is_accepted() {
    let base = base().await;
    let len = fs::metadata(base.path().join("index.redb")).unwrap().len();
    let mut n_rebuilt = 0;
    for page in (0..len).step_by(4096) {
        let copy = temp_dir();
        copy_dir(base.path(), copy.path());
        let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
        vfs.spoil_sectors(copy.path().join("index.redb"), page..page + 4096);
        let options = Options { vfs: Arc::new(vfs), ..accepting(tiny(copy.path())) };
        let store = open(options).await;
        n_rebuilt += u32::from(store.recovery().rebuilt_index);
        assert!(store.recovery().losses.is_empty());
        assert_all_there(&store, &format!("page at {page}")).await;
        store.shutdown().await.unwrap();
    }
    assert!(n_rebuilt > 2, "{n_rebuilt}");
}

/// The log has damage as well: an index that is put aside would leave nobody who knows what was there.
#[tokio::test]
async fn damaged_index_over_a_damaged_log_stays() {
    let dir = base().await;
    let segment = last_segment(dir.path());
    change(&segment, |bytes| bytes[5000] ^= 1);
    let mut n_found = 0;
    for at in places(dir.path()).into_iter().step_by(7) {
        let copy = with_zeros(dir.path(), at);
        let Ok(store) = FsStore::open(tiny(copy.path())).await else { continue };
        if store.recovery().rebuilt_index || !collects(&store).await {
            continue;
        }
        finds_damage(&store, CheckMode::Repair).await;
        let is_known = collects(&store).await;
        store.shutdown().await.unwrap();
        if !is_known {
            n_found += 1;
            assert!(copy.path().join("index.redb").exists(), "offset {at}");
        }
    }
    assert!(n_found > 1, "{n_found}");
}

/// A check that only looks changes nothing, and what it looks at is not the worse for it.
#[tokio::test]
async fn a_check_proves_the_index_without_writing_to_it() {
    let base = base().await;
    let store = open(lazy(base.path())).await;
    let before = fs::read(base.path().join("index.redb")).unwrap();
    assert!(!finds_damage(&store, CheckMode::Report).await);
    assert!(fs::read(base.path().join("index.redb")).unwrap() == before);
    import(&store, 1000, LEN).await;
    assert!(!finds_damage(&store, CheckMode::Report).await);
    store.shutdown().await.unwrap();
    let store = open(accepting(tiny(base.path()))).await;
    assert!(!store.recovery().rebuilt_index);
    assert_all_there(&store, "").await;
    store.shutdown().await.unwrap();
}
