//! Fault sweeps (RELIABILITY L1): operation 1, 2, 3, ... of each workload fails, once and for good. Whoever called
//! learns of it or the operation took place; what was acknowledged before stays; and nothing is poisoned.

mod support;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use blob_fs::{
    Durability, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{Error, Result, prelude::*};
use support::{
    DURABILITIES, copy_dir,
    files::check_files,
    open,
    steps::{
        self,
        Step::{
            self, Bao, CopyFile, CreateTag, Delete, DropTags, Export, Import, List, MoveOut, Read, Refer,
            Rename, SetTag, Stream, Sync, Tagged, Write,
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
        copy_dir(&self.dir.path().join("store"), &dir.path().join("store"));
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

    /// It is opened as a kill left it, and after a shutdown.
    async fn check_reopened(mut self, steps: &[Step]) {
        let store = open(self.options()).await;
        let recovery = store.recovery();
        assert!(recovery.damaged.is_empty() && recovery.damaged_blobs.is_empty(), "{recovery:?}");
        self.world.settle(&store).await;
        run_all(steps, &store, &mut self.world, &self.user).await.unwrap();
        self.world.check(&store).await;
        store.shutdown().await.unwrap();
        drop(store);
        let store = open(self.options()).await;
        self.world.settle(&store).await;
        store.shutdown().await.unwrap();
        check_files(&self.store_dir());
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
            Err(_) if Instant::now() < deadline => tokio::task::yield_now().await,
            other => return other,
        }
    }
}

/// Fails operation after operation of the steps, until the fault no longer fires.
async fn sweep(steps: &[Step], in_place: InPlace) {
    let scene = Scene::new().await;
    let mut points = 0;
    for (i, plan) in PLANS.iter().enumerate() {
        for durability in DURABILITIES {
            let mut at = 1 + i as u64 % plan.stride;
            while hurry((plan, durability, at), fail_one(&scene, steps, *plan, durability, at, in_place))
                .await
            {
                at += plan.stride;
                points += 1;
            }
        }
    }
    println!("{points} fault points in {steps:?}");
    assert!(points > 50, "{points} is not much");
}

async fn hurry<T>(name: impl std::fmt::Debug, round: impl Future<Output = T>) -> T {
    let context = format!("{name:?}");
    let guard = Context(&context);
    let done = tokio::time::timeout(Duration::from_secs(60), round).await.expect("it hangs");
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

/// Whether the store is used further before it is opened again.
#[derive(Clone, Copy, Debug, PartialEq)]
enum InPlace {
    Used,
    Dropped,
}

/// Whether the fault fired.
async fn fail_one(
    scene: &Scene,
    steps: &[Step],
    Plan { kind, only, repeat, .. }: Plan,
    durability: Durability,
    at: u64,
    in_place: InPlace,
) -> bool {
    let mut round = scene.round(durability);
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(round.faulty(&vfs)).await;
    vfs.arm(Fault { at, repeat, kind, only });
    let done = run_all(steps, &store, &mut round.world, &round.user).await;
    vfs.disarm();
    let fired = vfs.fired();
    assert!(fired.is_some() || done.is_ok(), "{done:?} without a fault");
    if in_place == InPlace::Used {
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
            sweep(&$steps, InPlace::Used).await;
            sweep(&$steps, InPlace::Dropped).await;
        }
    )*};
}

sweeps! {
    failed_import_of_bytes_is_whole_or_nothing: [Import(10, 200), Import(11, 30_000), Import(12, 80_000)],
}
