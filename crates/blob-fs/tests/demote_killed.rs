//! Kills during demotion (E48): a process demotes blobs of every state, and completes them again, until it is killed, at
//! some moment or at some file operation of a demotion. Afterwards each blob is complete, or partial with exactly what was
//! kept, which proves itself, and no file is left over.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write as _},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use blob_fs::{
    Durability, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{BlobFormat, EntryStatus, Hash, ImportMode, ImportSource, Progress, prelude::*};
use bytes::Bytes;
use support::{
    DURABILITIES, Dice, bao, chunks, content,
    demoted::{LARGE, SMALL, demote, lost, store_dir},
    files::check_files,
    import, open, temp_dir, tiny,
    world::Has,
};

const DIR: &str = "BLOB_FS_DEMOTE_DIR";
const RELAXED: &str = "BLOB_FS_DEMOTE_RELAXED";
const SEED: &str = "BLOB_FS_DEMOTE_SEED";
/// From which acknowledgement on, and at which operation, the process is to kill itself.
const AFTER: &str = "BLOB_FS_DEMOTE_AFTER";
const AT: &str = "BLOB_FS_DEMOTE_AT";
/// A demotion has fewer operations.
const OPERATIONS: u64 = 30;
/// Each task has blobs of its own: small, large, referenced.
const TASKS: u64 = 2;
const BLOBS: u64 = 6;

fn options(dir: &Path, durability: Durability) -> Options {
    Options { durability, overlay_rows: 8, ..tiny(store_dir(dir)) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Blob(u64);

impl Blob {
    fn data(self) -> Bytes {
        content(self.0, if self.0.is_multiple_of(3) { SMALL } else { LARGE })
    }

    fn hash(self) -> Hash {
        Hash::new(self.data())
    }

    fn n_chunks(self) -> u64 {
        (self.data().len() as u64).div_ceil(1024)
    }

    /// The file of the user's that it is, if it is one.
    fn file(self, dir: &Path) -> Option<PathBuf> {
        (self.0 % 3 == 2).then(|| dir.join(format!("file-{}", self.0)))
    }

    async fn complete(self, store: &FsStore, dir: &Path) {
        let Some(path) = self.file(dir) else {
            import(store, self.0, self.data().len()).await;
            return;
        };
        let source = ImportSource::File { path, mode: ImportMode::TryReference };
        store.import(source, BlobFormat::Raw.into(), Progress::none()).await.unwrap();
    }

    /// What is there, all of which is right.
    async fn see(self, store: &FsStore) -> Has {
        let hash = self.hash();
        match store.entry_status(&hash).await.unwrap() {
            EntryStatus::NotFound => Has::Nothing,
            EntryStatus::Complete => {
                assert!(store.read_verified(hash, 0..u64::MAX).await.unwrap() == self.data());
                Has::Complete
            }
            EntryStatus::Partial => {
                assert!(store.was_demoted(&hash).await.unwrap());
                let present = store.present_ranges(&hash).await.unwrap().unwrap();
                assert_eq!(store.verified_ranges(hash).await.unwrap().as_ref(), Some(&present));
                let stream = store.export_bao(hash, present.clone(), Vec::new()).await.unwrap();
                assert!(stream == bao(&self.data(), &present));
                Has::Partial(present)
            }
        }
    }
}

/// Not a test of its own: what the processes that are killed run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_demotes_until_it_is_killed() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let relaxed = std::env::var_os(RELAXED).is_some();
    let durability = if relaxed { Durability::Relaxed } else { Durability::Immediate };
    let number = |name| std::env::var(name).ok().map(|number: String| number.parse::<u64>().unwrap());
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let store = open(Options { vfs: Arc::new(vfs.clone()), ..options(&dir, durability) }).await;
    let seed = number(SEED).unwrap();
    let tasks = (0..TASKS).map(|task| {
        let death = number(AT).map(|at| (number(AFTER).unwrap() / TASKS, vfs.clone(), at));
        tokio::spawn(work(store.clone(), dir.clone(), task, seed, death))
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// After how many acknowledgements of a task which operation is the last.
type Death = (u64, FaultVfs, u64);

async fn work(store: FsStore, dir: PathBuf, task: u64, seed: u64, mut death: Option<Death>) {
    let mut dice = Dice(seed * TASKS + task);
    for n_done in 0.. {
        let blob = Blob(task + TASKS * dice.roll(BLOBS));
        let is_demoted = match store.entry_status(&blob.hash()).await.unwrap() {
            EntryStatus::Complete => false,
            EntryStatus::Partial if dice.roll(3) == 0 => true,
            _ => {
                acknowledge(&format!("begin {} complete", blob.0));
                blob.complete(&store, &dir).await;
                acknowledge(&format!("done {} complete", blob.0));
                continue;
            }
        };
        let first = 16 * dice.roll(blob.n_chunks() / 16);
        let end = first + 16 * (1 + dice.roll(3));
        acknowledge(&format!("begin {} {first} {end}", blob.0));
        if let Some((_, vfs, at)) = death.take_if(|(after, ..)| *after <= n_done) {
            die_at(&vfs, at);
        }
        demote(&store, blob.hash(), lost(chunks(first..end))).await;
        acknowledge(&format!("done {} {first} {end}{}", blob.0, if is_demoted { " again" } else { "" }));
    }
}

/// Has this process killed at an operation that follows.
fn die_at(vfs: &FaultVfs, at: u64) {
    std::panic::set_hook(Box::new(|_| {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    }));
    vfs.arm(Fault { at, repeat: Repeat::Sticky, kind: FaultKind::Panic, only: Ops::Any });
}

fn acknowledge(what: &str) {
    std::io::stdout().write_all(format!("\nACK {what}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// What each blob may be: what was acknowledged last, and what was begun since.
#[derive(Debug, Default)]
struct Acknowledged {
    blobs: BTreeMap<Blob, Vec<Has>>,
    n_demoted: u64,
    n_demoted_again: u64,
}

impl Acknowledged {
    fn add(&mut self, line: &str) {
        let (step, blob, what) = match line.split(' ').collect::<Vec<_>>()[..] {
            [step, blob, "complete"] => (step, blob, None),
            [step, blob, first, end] => {
                (step, blob, Some(chunks(first.parse().unwrap()..end.parse().unwrap())))
            }
            ["done", blob, first, end, "again"] => {
                self.n_demoted_again += 1;
                ("done", blob, Some(chunks(first.parse().unwrap()..end.parse().unwrap())))
            }
            _ => panic!("{line}"),
        };
        let blob = Blob(blob.parse().unwrap());
        let may_be = self.blobs.entry(blob).or_insert_with(|| vec![Has::Nothing]);
        if step == "begin" {
            assert_eq!(may_be.len(), 1);
            let new = match (what, may_be.first().unwrap()) {
                (None, _) => Has::Complete,
                (Some(lost), Has::Partial(present)) => Has::Partial(present.clone() - lost),
                (Some(lost), _) => Has::Partial(chunks(0..blob.n_chunks()) - lost),
            };
            may_be.push(new);
        } else {
            may_be.remove(0);
            self.n_demoted += u64::from(what.is_some());
        }
    }

    /// Returns how many blobs are what was begun and not acknowledged.
    async fn check(&mut self, store: &FsStore) -> u64 {
        let recovery = store.recovery();
        assert!(recovery.damaged.is_empty() && recovery.damaged_blobs.is_empty(), "{recovery:?}");
        // A segment whose creation was interrupted has nothing in it (E10).
        let is_segment = |path: &PathBuf| path.to_str().unwrap().contains(".seg-");
        assert!(recovery.quarantined.iter().all(is_segment) && recovery.losses.is_empty(), "{recovery:?}");
        let mut ahead = 0;
        for (blob, may_be) in &mut self.blobs {
            let seen = blob.see(store).await;
            assert!(may_be.contains(&seen), "{blob:?} is {seen:?}, not one of {may_be:?}");
            ahead += u64::from(may_be.first() != Some(&seen));
            *may_be = vec![seen];
        }
        ahead
    }
}

/// When a process is killed, after so many lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// Some time later.
    Later,
    /// At an operation of the next demotion.
    At(u64),
}

fn run_and_kill(dir: &Path, durability: Durability, seed: u64, dice: &mut Dice, known: &mut Acknowledged) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_demotes_until_it_is_killed", "--exact", "--nocapture"]);
    command.env(DIR, dir).env(SEED, seed.to_string()).stdout(Stdio::piped());
    if durability == Durability::Relaxed {
        command.env(RELAXED, "");
    }
    let when = if dice.roll(4) == 0 { When::Later } else { When::At(1 + dice.roll(OPERATIONS)) };
    let mut left = 1 + dice.roll(50);
    if let When::At(at) = when {
        command.env(AFTER, left.to_string()).env(AT, at.to_string());
    }
    let mut child = command.spawn().unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        let Some(what) = line.strip_prefix("ACK ") else { continue };
        known.add(what);
        left = left.saturating_sub(1);
        if left == 0 && when == When::Later {
            spin(Duration::from_micros(dice.roll(2000)));
            let _ = child.kill();
        }
    }
    assert_eq!(child.wait().unwrap().signal(), Some(9), "it ended by itself");
}

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// The files that blobs refer to; so old that they are known not to be changing.
fn write_files(dir: &Path) {
    for (path, data) in files(dir) {
        fs::write(&path, data).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
}

fn files(dir: &Path) -> impl Iterator<Item = (PathBuf, Bytes)> {
    (0..TASKS * BLOBS).map(Blob).filter_map(move |blob| Some((blob.file(dir)?, blob.data())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_killed_while_it_demotes_leaves_each_blob_as_it_was_or_as_it_was_to_be() {
    for durability in DURABILITIES {
        let dir = temp_dir();
        write_files(dir.path());
        let (mut known, mut dice, mut ahead) = (Acknowledged::default(), Dice(5), 0);
        for round in 0..40 {
            run_and_kill(dir.path(), durability, round, &mut dice, &mut known);
            if round % 6 == 5 {
                fs::remove_file(store_dir(dir.path()).join("index.redb")).unwrap();
            }
            let store = open(options(dir.path(), durability)).await;
            ahead += known.check(&store).await;
            if round % 3 == 0 {
                store.shutdown().await.unwrap();
                drop(store);
                check_files(&store_dir(dir.path()));
            }
        }
        assert!(files(dir.path()).all(|(path, data)| fs::read(path).unwrap() == data));
        println!(
            "{durability:?}: {} demoted, {} of them again, {ahead} unacknowledged",
            known.n_demoted, known.n_demoted_again
        );
        assert!(known.n_demoted > 150 && known.n_demoted_again > 20 && ahead > 0, "{known:?}");
    }
}
