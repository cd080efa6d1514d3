//! Fault sweeps over compaction: operation 1, 2, 3, ... fails. Whatever happens to the compaction, all that was there is
//! there: in place, after a crash, without the index; and the space comes back later.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{fs, path::Path, sync::Arc};

use blob_fs::{
    CompactOptions, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{HashAndFormat, prelude::*};
use support::{
    copy_dir,
    files::{check_files, segments},
    has, hash, import, open, temp_dir, tiny,
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const BLOBS: u64 = 40;
const LEN: usize = 9_000;

/// A fault, and how many points are left out between two that are tried.
const PLANS: [(FaultKind, Ops, Repeat, usize); 8] = [
    (FaultKind::Error(EIO), Ops::Any, Repeat::Once, 1),
    (FaultKind::Error(ENOSPC), Ops::Writes, Repeat::Once, 1),
    (FaultKind::Error(EIO), Ops::Any, Repeat::Sticky, 3),
    (FaultKind::Error(EIO), Ops::Syncs, Repeat::Once, 1),
    (FaultKind::DoneError(EIO), Ops::Writes, Repeat::Once, 1),
    (FaultKind::DoneError(EIO), Ops::Syncs, Repeat::Once, 1),
    (FaultKind::ShortWrite, Ops::Any, Repeat::Sticky, 2),
    (FaultKind::TornWrite(ENOSPC), Ops::Any, Repeat::Once, 1),
];

fn stays(blob: u64) -> bool {
    blob.is_multiple_of(3)
}

/// A store of which much is dead; the first segments have been compacted before.
async fn prepare(dir: &Path) {
    let store = open(tiny(dir)).await;
    for half in [0..BLOBS / 2, BLOBS / 2..BLOBS] {
        for blob in half.clone() {
            let target = HashAndFormat::raw(import(&store, blob, LEN).await);
            store.set_tag("last".into(), Some(target)).await.unwrap();
        }
        for blob in half.clone().filter(|blob| !stays(*blob)) {
            store.delete(vec![hash(blob, LEN)]).await.unwrap();
        }
        if half.start == 0 {
            let how = CompactOptions { max_dead_percent: 60, ..CompactOptions::default() };
            store.compact(how).await.unwrap();
        }
    }
    store.shutdown().await.unwrap();
}

async fn check(store: &FsStore) {
    assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
    for blob in 0..BLOBS {
        assert_eq!(has(store, blob, LEN).await, stays(blob), "{blob}");
    }
    let target = store.get_tag(&"last".into()).await.unwrap();
    assert_eq!(target, Some(HashAndFormat::raw(hash(BLOBS - 1, LEN))));
}

fn log_bytes(dir: &Path) -> u64 {
    segments(dir).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

/// Whether the fault fired.
async fn round(base: &Path, fault: Fault, go_on: bool) -> bool {
    let dir = temp_dir();
    copy_dir(base, dir.path());
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(Options { vfs: Arc::new(vfs.clone()), ..tiny(dir.path()) }).await;
    vfs.arm(fault);
    let compacted = store.compact(CompactOptions::default()).await;
    vfs.disarm();
    let fired = vfs.fired();
    assert!(fired.is_some() || compacted.is_ok(), "{compacted:?}");
    if go_on {
        check(&store).await;
        import(&store, 1000, LEN).await;
        store.delete(vec![hash(1000, LEN)]).await.unwrap();
        store.compact(CompactOptions::default()).await.unwrap();
        store.compact(CompactOptions::default()).await.unwrap();
        check(&store).await;
        assert!(log_bytes(dir.path()) < 14 * 9_400 * 12 / 10 + 30_000, "{}", log_bytes(dir.path()));
    }
    drop(store);
    let store = open(tiny(dir.path())).await;
    check(&store).await;
    store.compact(CompactOptions::default()).await.unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    check_files(dir.path());
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let store = open(tiny(dir.path())).await;
    check(&store).await;
    fired.is_some()
}

async fn sweep(plans: &[(FaultKind, Ops, Repeat, usize)]) {
    let base = temp_dir();
    prepare(base.path()).await;
    let mut points = 0;
    for (kind, only, repeat, stride) in plans.iter().copied() {
        for at in (1_u64..).step_by(stride) {
            let fault = Fault { at, repeat, kind, only };
            println!("{fault:?}");
            if !round(base.path(), fault, at % 2 == 1).await {
                break;
            }
            points += 1;
        }
    }
    println!("{points} fault points");
    assert!(points > 30, "{points} is not much");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_that_fails_once_anywhere_loses_nothing() {
    let [first, ..] = PLANS;
    sweep(&[first]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_that_fails_in_other_ways_loses_nothing() {
    let [_, rest @ ..] = PLANS;
    sweep(&rest).await;
}
