//! One store, one owner (E72), seen from outside.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use blob_fs::{
    Create, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Op, Ops, RealVfs, Repeat},
};
use blob_traits::{BlobFormat, Error, prelude::*};
use support::{content, has, import, open, temp_dir, tiny};

const STORE: &str = "BLOB_FS_TEST_LOCKED_STORE";
const ENOENT: i32 = 2;

/// Not a test of its own: the other process, which keeps a store open until it is killed or told to end.
#[tokio::test]
async fn child_holds_a_store_open() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let store = open(tiny(dir)).await;
    import(&store, 1, 100).await;
    std::io::stdout().write_all(b"\nOPEN\n").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Starts a process and waits until it has the store open.
fn holder(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_holds_a_store_open", "--exact", "--nocapture"]).env(STORE, dir);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "OPEN"));
    child
}

#[tokio::test]
async fn second_open_in_the_process_is_refused_whatever_the_path() {
    let dir = temp_dir();
    let (path, link) = (dir.path().join("store"), dir.path().join("link"));
    symlink("store", &link).unwrap();
    let store = open(tiny(&path)).await;
    for path in [path.clone(), link, dir.path().join("./store/../store")] {
        let refused = FsStore::open(tiny(path)).await;
        assert!(matches!(refused, Err(Error::Locked { holder: Some(_), .. })), "{refused:?}");
    }
    import(&store, 1, 100).await;
    assert!(has(&store, 1, 100).await);
}

#[tokio::test]
async fn store_is_free_after_shutdown_and_after_the_last_handle_is_dropped() {
    let dir = temp_dir();
    for round in 0..4 {
        let store = open(tiny(dir.path())).await;
        let clone = store.clone();
        if round % 2 == 0 {
            store.shutdown().await.unwrap();
            let again = open(tiny(dir.path())).await;
            assert!(matches!(store.import_bytes(content(1, 1), BlobFormat::Raw).await, Err(Error::Closed)));
            drop(again);
        }
        drop(store);
        if round % 2 == 1 {
            assert!(matches!(FsStore::open(tiny(dir.path())).await, Err(Error::Locked { .. })));
        }
        drop(clone);
    }
}

#[tokio::test]
async fn handles_that_outlive_the_store_do_not_keep_it_locked() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    let large = import(&store, 1, 100_000).await;
    let entry = store.existing(large).await.unwrap();
    let partial = store.get_or_create(support::hash(2, 200_000), 200_000).await.unwrap();
    let pin = store.temp_tag(blob_traits::HashAndFormat::raw(large));
    drop(store);
    let store = open(tiny(dir.path())).await;
    assert!(has(&store, 1, 100_000).await);
    drop((entry, partial, pin));
}

#[tokio::test]
async fn other_process_is_named_and_a_kill_releases_the_store() {
    let dir = temp_dir();
    let mut child = holder(dir.path());
    let refused = FsStore::open(tiny(dir.path())).await;
    let Err(Error::Locked { holder: Some(holder), .. }) = refused else { panic!("{refused:?}") };
    assert!(holder.starts_with(&format!("pid {} ", child.id())), "{holder}");
    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(tiny(dir.path())).await;
    assert!(has(&store, 1, 100).await);
}

#[tokio::test]
async fn refused_open_touches_nothing() {
    let dir = temp_dir();
    let mut child = holder(dir.path());
    let files = [
        "temp/0123456789abcdef.data".to_owned(),
        format!("partial/{}-0123456789abcdef.data", support::hash(9, 9)),
    ];
    for file in &files {
        fs::write(dir.path().join(file), "somebody is writing this").unwrap();
    }
    let before = support::files::snapshot(dir.path());
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let options = Options { vfs: Arc::new(vfs.clone()), ..tiny(dir.path()) };
    assert!(matches!(FsStore::open(options).await, Err(Error::Locked { .. })));
    support::files::assert_same(&before, &support::files::snapshot(dir.path()));
    let looked_inside =
        |op: &Op| matches!(op, Op::ReadDir | Op::RemoveFile | Op::SyncDir | Op::Rename | Op::SetLen);
    assert!(!vfs.operations().iter().any(|operation| looked_inside(&operation.op)));
    child.kill().unwrap();
    child.wait().unwrap();
    let store = open(tiny(dir.path())).await;
    assert!(store.recovery().removed_files >= 2);
    assert!(files.iter().all(|file| !dir.path().join(file).exists()));
}

/// An import that was dropped with its store removed its temporary file while the store was being opened again, between
/// the look at that file and its removal: the opening failed.
#[tokio::test]
async fn temporary_file_that_goes_while_the_store_is_opened_does_not_matter() {
    let dir = temp_dir();
    drop(open(tiny(dir.path())).await);
    fs::write(dir.path().join("temp/0123456789abcdef.data"), "somebody is about to remove this").unwrap();
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    vfs.arm(Fault {
        at: 1,
        repeat: Repeat::Once,
        kind: FaultKind::Error(ENOENT),
        only: Ops::Just(Op::RemoveFile),
    });
    let store = open(Options { vfs: Arc::new(vfs.clone()), ..tiny(dir.path()) }).await;
    assert!(vfs.fired().is_some());
    assert!(store.recovery().damaged.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drop_while_operations_run_neither_hangs_nor_loses_what_was_acknowledged() {
    for round in 0..20 {
        let dir = temp_dir();
        let store = open(tiny(dir.path())).await;
        let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(imports(store.clone(), task * 1000))).collect();
        if round % 2 == 0 {
            import(&store, 1 << 40, 70_000).await;
        }
        drop(store);
        let done = tokio::time::timeout(Duration::from_secs(20), async {
            let mut done = Vec::new();
            for (i, task) in tasks.into_iter().enumerate() {
                if i % 2 == 0 {
                    task.abort();
                }
                done.extend(task.await.ok());
            }
            done
        });
        let done = done.await.expect("it hangs");
        // Aborted imports may still be at work on the blocking pool; they hold no handle of the store.
        let store = open(tiny(dir.path())).await;
        for seed in done.into_iter().flatten() {
            assert!(has(&store, seed, size(seed)).await, "{seed} is lost");
        }
    }
}

fn size(seed: u64) -> usize {
    if seed.is_multiple_of(3) { 100_000 } else { 3_000 }
}

async fn imports(store: FsStore, first: u64) -> Vec<u64> {
    for seed in first..first + 5 {
        import(&store, seed, size(seed)).await;
    }
    (first..first + 5).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_while_operations_run_neither_hangs_nor_loses_what_was_acknowledged() {
    for _ in 0..20 {
        let dir = temp_dir();
        let store = open(tiny(dir.path())).await;
        let tasks: Vec<_> =
            (0..8).map(|task| tokio::spawn(until_closed(store.clone(), task * 1000))).collect();
        import(&store, 1 << 40, 3_000).await;
        let ended = async {
            store.shutdown().await.unwrap();
            let mut done = Vec::new();
            for task in tasks {
                done.extend(task.await.unwrap());
            }
            done
        };
        let done = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it hangs");
        let store = open(tiny(dir.path())).await;
        for seed in done {
            assert!(has(&store, seed, size(seed)).await, "{seed} is lost");
        }
    }
}

async fn until_closed(store: FsStore, first: u64) -> Vec<u64> {
    let mut done = Vec::new();
    for seed in first.. {
        match store.import_bytes(content(seed, size(seed)), BlobFormat::Raw).await {
            Ok(_) => done.push(seed),
            Err(Error::Closed) => break,
            Err(e) => panic!("{e:?}"),
        }
    }
    done
}

#[tokio::test]
async fn store_that_is_not_there_is_not_created_against_the_will_of_the_caller() {
    let dir = temp_dir();
    for path in [dir.path().to_owned(), dir.path().join("none/at/all")] {
        let options = Options { create: Create::Never, ..tiny(&path) };
        assert!(matches!(FsStore::open(options).await, Err(Error::FileNotFound { .. })));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
