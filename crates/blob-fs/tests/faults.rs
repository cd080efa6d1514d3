//! Fault sweeps (RELIABILITY L1): operation 1, 2, 3, ... of each workload fails, once and for good. Whoever called
//! learns of it or the operation took place; what was acknowledged before stays; and nothing is poisoned.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    future::Future,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blob_fs::{
    Durability, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{Error, Result, prelude::*};
use support::{
    DURABILITIES, Dice, copy_dir,
    files::{check_files, last_segment, open_files},
    hash, lazy, open,
    steps::{
        self,
        Step::{
            self, Bao, CopyFile, CreateTag, Delete, Demote, DropTags, Export, Import, List, MoveOut, Read,
            Refer, Rename, SetTag, Stream, Sync, Tagged, Write,
        },
    },
    temp_dir, tiny,
    world::World,
};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// What is made to fail, how, and which one of so many operations.
#[derive(Clone, Copy, Debug)]
struct Plan {
    kind: FaultKind,
    only: Ops,
    repeat: Repeat,
    stride: u64,
}

const fn plan(kind: FaultKind, only: Ops, repeat: Repeat, stride: u64) -> Plan {
    Plan { kind, only, repeat, stride }
}

const PLANS: [Plan; 10] = [
    plan(FaultKind::Error(EIO), Ops::Any, Repeat::Once, 1),
    plan(FaultKind::Error(ENOSPC), Ops::Writes, Repeat::Once, 2),
    plan(FaultKind::Error(ENOSPC), Ops::Writes, Repeat::Sticky, 2),
    plan(FaultKind::Error(EIO), Ops::Any, Repeat::Sticky, 5),
    plan(FaultKind::Error(EIO), Ops::Syncs, Repeat::Once, 1),
    plan(FaultKind::Error(EIO), Ops::Syncs, Repeat::Sticky, 1),
    plan(FaultKind::DoneError(EIO), Ops::Writes, Repeat::Once, 2),
    plan(FaultKind::DoneError(EIO), Ops::Syncs, Repeat::Once, 2),
    plan(FaultKind::ShortWrite, Ops::Any, Repeat::Sticky, 7),
    plan(FaultKind::TornWrite(ENOSPC), Ops::Any, Repeat::Sticky, 2),
];

/// A store that was shut down, with something of everything in it.
struct Scene {
    dir: tempfile::TempDir,
    world: World,
}

const BASE: [Step; 9] = [
    Import(1, 100),
    Import(2, 20_000),
    Import(3, 70_000),
    Tagged(4, 3_000, "a/kept"),
    SetTag("b/kept", 3, 70_000),
    Bao(5, 150_000, 0, 64),
    Bao(6, 40_000, 0, 16),
    Refer(7, 90_000),
    Import(8, 66_000),
];

impl Scene {
    async fn new() -> Self {
        let (dir, mut world) = (temp_dir(), World::default());
        std::fs::create_dir(dir.path().join("user")).unwrap();
        let store = open(tiny(dir.path().join("store"))).await;
        run_all(&BASE, &store, &mut world, &dir.path().join("user")).await.unwrap();
        store.shutdown().await.unwrap();
        Self { dir, world }
    }

    /// A copy of the store, for one round.
    fn round(&self, durability: Durability) -> Round {
        let dir = temp_dir();
        if self.dir.path().join("store").exists() {
            copy_dir(&self.dir.path().join("store"), &dir.path().join("store"));
        }
        let user = dir.path().join("user");
        std::fs::create_dir(&user).unwrap();
        Round { dir, user, durability, world: self.world.clone() }
    }
}

struct Round {
    dir: tempfile::TempDir,
    user: PathBuf,
    durability: Durability,
    world: World,
}

impl Round {
    fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn options(&self) -> Options {
        Options { durability: self.durability, ..tiny(self.store_dir()) }
    }

    fn faulty(&self, vfs: &FaultVfs) -> Options {
        Options { vfs: Arc::new(vfs.clone()), ..self.options() }
    }

    /// The store goes on in place. Only a failed sync in Relaxed may have latched it.
    async fn check_in_place(&mut self, steps: &[Step], store: &FsStore) {
        match works_again(store).await {
            Ok(()) => {
                self.world.check(store).await;
                run_all(steps, store, &mut self.world, &self.user).await.unwrap();
                self.world.check(store).await;
            }
            Err(Error::Failed { .. }) if self.durability == Durability::Relaxed => {}
            Err(e) => panic!("poisoned: {e:?}"),
        }
    }

    /// It is opened as a crash or a shutdown left it, used, and opened again.
    async fn check_reopened(mut self, steps: &[Step]) {
        assert_eq!(open_files(self.dir.path()), Vec::<PathBuf>::new());
        let store = open(self.options()).await;
        let recovery = store.recovery();
        assert!(recovery.damaged.is_empty() && recovery.damaged_blobs.is_empty(), "{recovery:?}");
        // A segment of which not even the header was written whole.
        let len = |path: &PathBuf| std::fs::metadata(path).unwrap().len();
        assert!(recovery.quarantined.iter().all(|path| len(path) <= 4096));
        self.world.settle(&store).await;
        run_all(steps, &store, &mut self.world, &self.user).await.unwrap();
        store.shutdown().await.unwrap();
        drop(store);
        let store = open(self.options()).await;
        self.world.check(&store).await;
        store.shutdown().await.unwrap();
        check_files(&self.store_dir());
        drop(store);
        assert_eq!(open_files(self.dir.path()), Vec::<PathBuf>::new());
    }
}

async fn run_all(steps: &[Step], store: &FsStore, world: &mut World, user: &Path) -> Result<()> {
    let mut all = Ok(());
    for step in steps {
        all = all.and(steps::run(*step, store, world, user).await);
    }
    all
}

/// Waits for the index to be opened again, which takes some time after repeated failures.
async fn works_again(store: &FsStore) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(3);
    loop {
        match store.set_tag("no such tag".into(), None).await {
            Ok(()) => return Ok(()),
            Err(e) if matches!(e, Error::Failed { .. }) || Instant::now() > deadline => return Err(e),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// What follows on the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The fault passes, and the store is used further.
    GoOn,
    Drop,
    /// The fault lasts.
    ShutDown,
}

/// Whether each point is taken, and all that may follow on it.
fn exhaustive() -> bool {
    std::env::var_os("BLOB_FAULTS").is_some_and(|value| value == "all")
}

/// Fails operation after operation, until the fault no longer fires. With `BLOB_FAULTS=all` none is left out.
async fn sweep<F: Future<Output = bool>>(mut round: impl FnMut(Plan, Durability, u64, Then) -> F) {
    let mut points = 0;
    for (i, plan) in (0..).zip(PLANS) {
        for (j, durability) in (0..).zip(DURABILITIES) {
            let stride = if exhaustive() { 1 } else { plan.stride * (1 + 2 * j) };
            let mut at = 1 + i % stride;
            loop {
                let thens = [Then::GoOn, Then::Drop, Then::ShutDown];
                let n = if exhaustive() { 3 } else { 1 };
                let mut fired = false;
                for then in thens.into_iter().cycle().skip((at / stride % 3) as usize).take(n) {
                    fired = hurry((plan, durability, at, then), round(plan, durability, at, then)).await;
                }
                if !fired {
                    break;
                }
                (points, at) = (points + 1, at + stride);
            }
        }
    }
    println!("{points} fault points");
    assert!(points > 30, "{points} is not much");
}

async fn hurry<T>(name: impl std::fmt::Debug, round: impl Future<Output = T>) -> T {
    let context = format!("{name:?}");
    let guard = Context(&context);
    let done = tokio::time::timeout(Duration::from_mins(1), round).await.expect("it hangs");
    std::mem::forget(guard);
    done
}

/// Says in which round a panic came.
struct Context<'a>(&'a str);

impl Drop for Context<'_> {
    fn drop(&mut self) {
        eprintln!("in the round {}", self.0);
    }
}

fn armed(Plan { kind, only, repeat, .. }: Plan, at: u64) -> Fault {
    Fault { at, repeat, kind, only }
}

/// Whether the fault fired.
async fn fail_steps(mut round: Round, steps: &[Step], fault: Fault, then: Then) -> bool {
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(round.faulty(&vfs)).await;
    vfs.arm(fault);
    let mut done = run_all(steps, &store, &mut round.world, &round.user).await;
    if then == Then::ShutDown {
        done = done.and(store.shutdown().await);
    }
    vfs.disarm();
    let fired = vfs.fired();
    assert!(fired.is_some() || done.is_ok(), "{done:?} without a fault");
    if then == Then::GoOn {
        round.check_in_place(steps, &store).await;
    }
    drop(store);
    round.check_reopened(steps).await;
    fired.is_some()
}

macro_rules! sweeps {
    ($($name:ident: $steps:expr,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let scene = Scene::new().await;
            sweep(|plan, durability, at, then| {
                fail_steps(scene.round(durability), &$steps, armed(plan, at), then)
            })
            .await;
        }
    )*};
}

sweeps! {
    failed_import_of_bytes_is_whole_or_nothing: [Import(10, 200), Import(11, 30_000), Import(12, 80_000)],
    failed_import_of_a_stream_is_whole_or_nothing: [Stream(13, 300), Stream(14, 50_000), Stream(15, 100_000)],
    failed_import_of_a_file_is_whole_or_nothing: [CopyFile(16, 40_000), CopyFile(17, 90_000)],
    failed_reference_to_a_file_is_whole_or_nothing: [Refer(18, 10_000), Refer(19, 90_000)],
    failed_import_with_a_tag_is_whole_or_nothing: [Tagged(20, 30_000, "a/new"), Tagged(21, 70_000, "a/kept")],
    failed_changes_of_tags_are_whole_or_nothing: [
        SetTag("c/1", 1, 100), CreateTag(2, 20_000), SetTag("c/2", 2, 20_000), Rename("c/2", "c/3", 2, 20_000),
        SetTag("c/4", 1, 100), Rename("c/4", "a/kept", 1, 100), DropTags("c/"),
    ],
    failed_small_partial_keeps_what_was_synced: [
        Write(22, 60_000, 0, 16), Write(22, 60_000, 16, 59), Bao(6, 40_000, 16, 40), Bao(22, 60_000, 0, 59),
    ],
    failed_large_partial_keeps_what_was_synced: [
        Write(23, 200_000, 0, 64), Bao(5, 150_000, 64, 147), Bao(23, 200_000, 0, 196),
    ],
    failed_stream_of_a_whole_blob_is_whole_or_nothing: [Bao(24, 5_000, 0, 5), Bao(25, 120_000, 0, 118)],
    failed_export_leaves_no_half_a_file: [Export(2, 20_000), Export(3, 70_000), Export(7, 90_000)],
    failed_move_out_of_the_store_loses_nothing: [Import(26, 80_000), MoveOut(3, 70_000), MoveOut(26, 80_000)],
    failed_deletion_deletes_all_or_nothing: [
        Delete(1, 100), Delete(3, 70_000), Delete(5, 150_000), Delete(7, 90_000), Import(1, 100), Import(3, 70_000),
        Bao(5, 150_000, 0, 64), Refer(7, 90_000),
    ],
    failed_demotion_leaves_the_blob_or_makes_it_partial: [
        Demote(2, 20_000, 0, 16), Demote(3, 70_000, 16, 32), Demote(5, 150_000, 0, 16), Demote(7, 90_000, 16, 88),
        Write(6, 40_000, 16, 40), Demote(6, 40_000, 16, 40),
    ],
    failed_completion_of_what_was_demoted_loses_nothing: [
        Demote(2, 20_000, 0, 16), Demote(3, 70_000, 16, 32), Bao(2, 20_000, 0, 16), Bao(3, 70_000, 16, 32),
        Demote(3, 70_000, 0, 16), Import(3, 70_000),
    ],
    failed_reading_says_so: [List, Read(2, 20_000), Read(3, 70_000), Read(7, 90_000), List, Sync],
    failed_second_import_spoils_nothing: [Import(27, 66_000), Delete(27, 66_000), Import(27, 66_000), Import(2, 20_000)],
}

/// A store as a kill leaves it: files to be moved and removed, a write that was not finished, files of nobody.
async fn killed() -> Scene {
    let mut scene = Scene::new().await;
    let (dir, user) = (scene.dir.path().join("store"), scene.dir.path().join("user"));
    let store = open(lazy(&dir)).await;
    let steps = [
        Import(30, 70_000),
        Delete(3, 70_000),
        Bao(31, 90_000, 0, 32),
        Import(31, 90_000),
        Bao(5, 150_000, 64, 147),
    ];
    run_all(&steps, &store, &mut scene.world, &user).await.unwrap();
    drop(store);
    let mut torn = std::fs::File::options().append(true).open(last_segment(&dir)).unwrap();
    torn.write_all(b"BREC and no more").unwrap();
    for name in ["temp/0123456789abcdef.data", &format!("partial/{}-0123456789abcdef.data", hash(9, 9))] {
        std::fs::write(dir.join(name), "nobody's").unwrap();
    }
    scene
}

async fn fail_open(round: Round, fault: Fault) -> bool {
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    vfs.arm(fault);
    let opened = FsStore::open(round.faulty(&vfs)).await;
    vfs.disarm();
    let fired = vfs.fired();
    let store = match opened {
        Ok(store) => store,
        Err(_) if fired.is_some() => open(round.faulty(&vfs)).await,
        Err(e) => panic!("{e:?} without a fault"),
    };
    works_again(&store).await.unwrap();
    round.world.check(&store).await;
    drop(store);
    round.check_reopened(&[Import(32, 100), Import(33, 70_000)]).await;
    fired.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_open_after_a_kill_can_be_repeated() {
    let scene = killed().await;
    sweep(|plan, durability, at, _| fail_open(scene.round(durability), armed(plan, at))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_creation_can_be_repeated() {
    let scene = Scene { dir: temp_dir(), world: World::default() };
    sweep(|plan, durability, at, _| fail_open(scene.round(durability), armed(plan, at))).await;
}

/// What one task does to keys of its own while operations fail.
fn any_step(task: usize, dice: &mut Dice) -> Step {
    const TAGS: [[&str; 3]; 4] =
        [["0/a", "0/b", "0/"], ["1/a", "1/b", "1/"], ["2/a", "2/b", "2/"], ["3/a", "3/b", "3/"]];
    let seed = 1000 * (task as u64 + 1) + dice.roll(6);
    let len = [500, 20_000, 66_000, 90_000, 40_000, 120_000][(seed % 6) as usize];
    let [a, b, both] = TAGS[task];
    let end = (len as u64).div_ceil(1024);
    match dice.roll(15) {
        0..4 => Import(seed, len),
        4 => Stream(seed, len),
        5 => Refer(seed, len),
        6 => Tagged(seed, len, a),
        7 => SetTag(b, seed, len),
        8 => DropTags(both),
        9 => Bao(seed, len, 0, end.min(16)),
        10 => Bao(seed, len, 0, end),
        11 => Sync,
        12 => Demote(seed, len, 0, end.min(16)),
        _ => Delete(seed, len),
    }
}

async fn work_under_faults(store: FsStore, task: usize, seed: u64, user: PathBuf) -> World {
    let (mut world, mut dice) = (World::default(), Dice(seed * 100 + task as u64));
    let user = user.join(task.to_string());
    std::fs::create_dir(&user).unwrap();
    for _ in 0..25 {
        let _ = steps::run(any_step(task, &mut dice), &store, &mut world, &user).await;
    }
    world
}

/// Arms one fault after the other, each some operations after the one before has fired, until told to end.
fn keep_failing(vfs: &FaultVfs, seed: u64, ended: &AtomicBool) {
    let mut dice = Dice(seed);
    while !ended.load(Ordering::Acquire) {
        let plan = dice.pick(&PLANS);
        vfs.arm(Fault { repeat: Repeat::Once, ..armed(plan, 1 + dice.roll(60)) });
        while vfs.fired().is_none() && !ended.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
    vfs.disarm();
}

async fn fail_at_random(mut round: Round, seed: u64) {
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(round.faulty(&vfs)).await;
    let ended = Arc::new(AtomicBool::new(false));
    let failing = std::thread::spawn({
        let (vfs, ended) = (vfs.clone(), ended.clone());
        move || keep_failing(&vfs, seed, &ended)
    });
    let tasks =
        (0..4).map(|task| tokio::spawn(work_under_faults(store.clone(), task, seed, round.user.clone())));
    for task in tasks.collect::<Vec<_>>() {
        round.world.merge(task.await.unwrap());
    }
    ended.store(true, Ordering::Release);
    failing.join().unwrap();
    round.check_in_place(&[Import(40, 100), Import(41, 70_000)], &store).await;
    drop(store);
    round.check_reopened(&[Import(42, 100), Import(43, 70_000)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn faults_at_random_spoil_nothing_that_was_acknowledged() {
    let scene = Scene::new().await;
    for seed in 0..if exhaustive() { 2000 } else { 40 } {
        let durability = DURABILITIES[(seed % 2) as usize];
        hurry((seed, durability), fail_at_random(scene.round(durability), seed)).await;
    }
}
