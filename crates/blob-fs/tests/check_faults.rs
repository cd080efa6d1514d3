//! Repair that fails at any operation can be repeated, and nothing is lost by that.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use blob_fs::{
    FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{CheckMode, ConsistencyCheckProgress as Event, Progress, ReportLevel, Result, prelude::*};
use support::{
    copy_dir,
    files::{all_files, segments},
    has, hash, import,
    log::{change, records},
    open, temp_dir, tiny,
};

/// A store with damage of several kinds: a record, an outboard, a file without a record.
async fn damaged() -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in 0..7 {
        import(&store, seed, 20_000).await;
    }
    import(&store, 10, 100_000).await;
    import(&store, 7, 20_000).await;
    store.shutdown().await.unwrap();
    let segment = segments(dir.path()).remove(0);
    let at = records(&segment).remove(1).range.start;
    change(&segment, |bytes| bytes.iter_mut().skip(at + 10).take(1).for_each(|byte| *byte ^= 1));
    let is_outboard =
        |path: &&std::path::PathBuf| path.extension().is_some_and(|extension| extension == "obao4");
    fs::remove_file(all_files(dir.path()).iter().find(is_outboard).unwrap()).unwrap();
    let stray = dir.path().join(format!("data/{}", &hash(99, 1).to_string()[..2]));
    fs::create_dir_all(&stray).unwrap();
    fs::write(stray.join(format!("{}-00000000000000ab.data", hash(99, 1))), b"x").unwrap();
    dir
}

async fn check(store: &FsStore, mode: CheckMode) -> Result<usize> {
    let wrong = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = wrong.clone();
    let progress = Progress::from_fn(move |event| {
        let is_wrong = matches!(event, Event::Update { level, .. } if level >= ReportLevel::Warn);
        seen.fetch_add(usize::from(is_wrong), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    });
    store.consistency_check(mode, progress).await?;
    Ok(wrong.load(std::sync::atomic::Ordering::Relaxed))
}

/// What a repair says is wrong, or why it ended early.
async fn repair(store: &FsStore) -> Result<Vec<String>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let seen = said.clone();
    let progress = Progress::from_fn(move |event| {
        if let Event::Update { level: ReportLevel::Error, message, .. } = event {
            seen.lock().unwrap().push(message);
        }
        Ok(())
    });
    store.consistency_check(CheckMode::Repair, progress).await?;
    let said = said.lock().unwrap().clone();
    Ok(said)
}

async fn assert_mended(dir: &Path) {
    let store = open(tiny(dir)).await;
    check(&store, CheckMode::Repair).await.unwrap();
    assert_eq!(check(&store, CheckMode::Report).await.unwrap(), 0);
    for seed in 0..8 {
        assert!(has(&store, seed, 20_000).await, "{seed}");
    }
    assert!(has(&store, 10, 100_000).await);
    store.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repair_can_fail_at_any_operation_and_be_repeated() {
    let base = damaged().await;
    for (kind, only) in [(FaultKind::Error(5), Ops::Any), (FaultKind::Error(28), Ops::Writes)] {
        let mut at = 1;
        loop {
            let copy = temp_dir();
            copy_dir(base.path(), copy.path());
            let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
            let store = open(Options { vfs: Arc::new(vfs.clone()), ..tiny(copy.path()) }).await;
            vfs.arm(Fault { at, repeat: Repeat::Once, kind, only });
            let _ = check(&store, CheckMode::Repair).await;
            let fired = vfs.fired().is_some();
            vfs.disarm();
            drop(store);
            assert_mended(copy.path()).await;
            if !fired {
                break;
            }
            at += 7;
        }
        println!("{only:?}: up to {at}");
    }
}

/// A read that fails says nothing about what is there: a blob is given up for what was read alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_is_not_given_up() {
    const EIO: FaultKind = FaultKind::Error(5);
    let base = damaged().await;
    for repeat in [Repeat::Once, Repeat::Sticky] {
        let (mut at, mut left) = (1, 0);
        loop {
            let copy = temp_dir();
            copy_dir(base.path(), copy.path());
            let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
            let store = open(Options { vfs: Arc::new(vfs.clone()), ..tiny(copy.path()) }).await;
            vfs.arm(Fault { at, repeat, kind: EIO, only: Ops::Reads });
            let said = repair(&store).await.unwrap_or_default();
            left += usize::from(said.iter().any(|what| what.contains("was left as it is")));
            let fired = vfs.fired().is_some();
            vfs.disarm();
            drop(store);
            assert_mended(copy.path()).await;
            if !fired {
                break;
            }
            at += 1;
        }
        println!("{repeat:?}: up to {at}");
        // What fails once is done again.
        assert!(repeat == Repeat::Sticky || left == 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segment_with_bad_sectors_is_left_as_it_is_and_all_else_is_mended() {
    let dir = damaged().await;
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(Options { vfs: Arc::new(vfs.clone()), ..tiny(dir.path()) }).await;
    let segment = segments(dir.path()).remove(1);
    let bytes = fs::read(&segment).unwrap();
    let record = records(&segment).remove(1).range;
    let start = u64::try_from(record.start).unwrap();
    vfs.spoil_sectors(&segment, start + 4096..start + 8192);
    for _ in 0..2 {
        let said = repair(&store).await.unwrap();
        let is_it = |what: &&String| what.contains("was left as it is") && what.contains("may be sound");
        assert_eq!(said.iter().filter(is_it).count(), 1, "{said:?}");
        assert!(fs::read(&segment).unwrap() == bytes);
    }
    // What is damaged elsewhere was mended, and of what cannot be read nothing was given up.
    assert!(has(&store, 1, 20_000).await && has(&store, 10, 100_000).await);
    assert!(store.read_to_bytes(hash(4, 20_000)).await.is_err());
    vfs.heal_sectors();
    assert_eq!(check(&store, CheckMode::Report).await.unwrap(), 0);
    drop(store);
    assert_mended(dir.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_with_zeros_for_bad_sectors_is_repaired_as_damage() {
    let dir = damaged().await;
    let segment = segments(dir.path()).remove(1);
    let record = records(&segment).remove(1).range;
    change(&segment, |bytes| bytes[record.start + 4096..record.start + 8192].fill(0));
    let store = open(tiny(dir.path())).await;
    assert!(check(&store, CheckMode::Repair).await.unwrap() > 0);
    assert_eq!(check(&store, CheckMode::Report).await.unwrap(), 0);
    let present = store.present_ranges(&hash(4, 20_000)).await.unwrap().unwrap();
    assert_eq!(present, support::chunks(16..20));
    store.shutdown().await.unwrap();
}
