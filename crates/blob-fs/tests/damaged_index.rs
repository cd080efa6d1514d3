//! An index in which a few bytes are not what was written: redb takes most of such pages for right, and rows are missing, or
//! say something else. The log has all of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{fs, path::Path};

use blob_fs::FsStore;
use blob_traits::{CheckMode, ConsistencyCheckProgress as Event, Progress, ReportLevel, prelude::*};
use support::{accepting, copy_dir, has, import, lazy, log::change, open, temp_dir, tiny};

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
        let copy = temp_dir();
        copy_dir(base.path(), copy.path());
        change(&copy.path().join("index.redb"), |bytes| {
            bytes.iter_mut().skip(at).take(2).for_each(|byte| *byte = 0);
        });
        let context = format!("offset {at}");
        // What is of another version is left to that.
        let Ok(store) = FsStore::open(tiny(copy.path())).await else { continue };
        let finds = finds_damage(&store, CheckMode::Repair).await;
        store.shutdown().await.unwrap();
        let store = open(tiny(copy.path())).await;
        n_found += u32::from(finds);
        assert_all_there(&store, &context).await;
        assert!(!finds_damage(&store, CheckMode::Report).await, "{context}");
        store.shutdown().await.unwrap();
    }
    assert!(n_found > 10, "{n_found}");
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
