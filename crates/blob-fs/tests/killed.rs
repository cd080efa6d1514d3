//! Kills (RELIABILITY L2): a process imports, tags and syncs in several tasks until it is killed at a random moment.
//! Whatever it had acknowledged is there afterwards, whole.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use bao_tree::ChunkRanges;
use blob_fs::{Durability, FsStore, Options};
use blob_traits::{EntryStatus, HashAndFormat, TagRange, collect, prelude::*};
use support::{Dice, bao, chunks, content, files::check_files, hash, open, temp_dir, tiny};

const STORE: &str = "BLOB_FS_TEST_STORE";
const RELAXED: &str = "BLOB_FS_TEST_RELAXED";
const SEED: &str = "BLOB_FS_TEST_SEED";
const SIZES: [usize; 6] = [0, 500, 20_000, 65_536, 65_537, 300_000];

fn options(dir: &Path, durability: Durability) -> Options {
    Options { durability, overlay_rows: 8, ..tiny(dir) }
}

/// Not a test of its own: what the processes that are killed run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_works_until_it_is_killed() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let relaxed = std::env::var_os(RELAXED).is_some();
    let durability = if relaxed { Durability::Relaxed } else { Durability::Immediate };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = open(options(dir.as_ref(), durability)).await;
    acknowledge("open");
    let tasks = (0..4).map(|task| tokio::spawn(work(store.clone(), seed * 4 + task)));
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Does one thing after the other and says what is done.
async fn work(store: FsStore, task: u64) {
    let mut dice = Dice(task);
    for i in 0.. {
        let seed = (task << 32) + i;
        let len = dice.pick(&SIZES);
        match dice.roll(10) {
            0..5 => {
                support::import(&store, seed, len).await;
                acknowledge(&format!("blob {seed} {len}"));
            }
            5..7 => {
                let tag = format!("task-{task}");
                store.set_tag(tag.as_str().into(), Some(HashAndFormat::raw(hash(seed, len)))).await.unwrap();
                acknowledge(&format!("tag {tag} {seed} {len}"));
            }
            7..9 => {
                let (len, half) = (len + 20_000, chunks(0..16));
                let data = content(seed, len);
                let stream = bao(&data, &half);
                store.import_bao(hash(seed, len), len as u64, half, stream).await.unwrap();
                acknowledge(&format!("half {seed} {len}"));
                if dice.roll(2) == 0 {
                    let stream = bao(&data, &ChunkRanges::all());
                    store.import_bao(hash(seed, len), len as u64, ChunkRanges::all(), stream).await.unwrap();
                    acknowledge(&format!("blob {seed} {len}"));
                }
            }
            _ => {
                support::import(&store, seed, len).await;
                store.delete(vec![hash(seed, len)]).await.unwrap();
                acknowledge(&format!("gone {seed} {len}"));
            }
        }
    }
}

/// Says in one write, which a kill does not cut, that something is done.
fn acknowledge(what: &str) {
    std::io::stdout().write_all(format!("\nACK {what}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn start(dir: &Path, durability: Durability, seed: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_works_until_it_is_killed", "--exact", "--nocapture"]);
    command.env(STORE, dir).env(SEED, seed.to_string()).stdout(Stdio::piped());
    if durability == Durability::Relaxed {
        command.env(RELAXED, "");
    }
    command.spawn().unwrap()
}

/// Lets a process work for some time, or until it has acknowledged so much and some more; returns all that it said.
fn run_and_kill(dir: &Path, durability: Durability, seed: u64, dice: &mut Dice) -> Vec<Vec<String>> {
    let mut child = start(dir, durability, seed);
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let n = if dice.roll(4) == 0 { 0 } else { 1 + dice.roll(60) };
    if n == 0 {
        spin(Duration::from_micros(dice.roll(50_000)));
        child.kill().unwrap();
    }
    let mut acknowledged = Vec::new();
    for line in lines {
        let Ok(line) = line else { break };
        let Some(what) = line.strip_prefix("ACK ") else { continue };
        acknowledged.push(what.split(' ').map(str::to_owned).collect());
        if acknowledged.len() as u64 == n {
            spin(Duration::from_micros(dice.roll(3000)));
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acknowledged.len() as u64 >= n, "it ended by itself");
    acknowledged
}

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// All that was acknowledged: blobs and tags, and what of them is there.
#[derive(Debug, Default)]
struct Acknowledged {
    blobs: BTreeMap<(u64, usize), String>,
    tags: BTreeMap<String, Vec<(u64, usize)>>,
}

impl Acknowledged {
    fn add(&mut self, lines: Vec<Vec<String>>) {
        for line in lines {
            match line.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                [kind @ ("blob" | "half" | "gone"), seed, len] => {
                    self.blobs.insert((seed.parse().unwrap(), len.parse().unwrap()), kind.to_owned());
                }
                ["tag", tag, seed, len] => {
                    let target = (seed.parse().unwrap(), len.parse().unwrap());
                    self.tags.entry(tag.to_owned()).or_default().push(target);
                }
                _ => assert_eq!(line, ["open"]),
            }
        }
    }

    async fn check(&self, store: &FsStore) {
        assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
        for ((seed, len), kind) in &self.blobs {
            let data = content(*seed, *len);
            let whole = support::has(store, *seed, *len).await;
            match kind.as_str() {
                "blob" => assert!(whole, "{seed} of {len} bytes is lost"),
                "gone" => assert!(!whole || *len == 0, "{seed} of {len} bytes is back"),
                _ if whole => {}
                _ => {
                    let hash = hash(*seed, *len);
                    let present = store.present_ranges(&hash).await.unwrap().unwrap();
                    assert!(chunks(0..16).is_subset(&present), "half of {seed} of {len} bytes is lost");
                    let stream = store.export_bao(hash, present.clone(), Vec::new()).await.unwrap();
                    assert!(stream == bao(&data, &present));
                }
            }
        }
        for (tag, targets) in &self.tags {
            let set = store.get_tag(&tag.as_str().into()).await.unwrap();
            let last = targets.last().map(|(seed, len)| HashAndFormat::raw(hash(*seed, *len)));
            // One more may have been set that nobody acknowledged.
            assert!(
                set.is_some()
                    && (set == last
                        || !targets
                            .iter()
                            .any(|(seed, len)| Some(HashAndFormat::raw(hash(*seed, *len))) == set))
            );
        }
    }
}

/// What nobody acknowledged is there whole as well, or not at all.
async fn check_all(store: &FsStore) {
    for hash in collect(store.blobs().await.unwrap()).await.unwrap() {
        assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Complete);
        store.read_verified(hash, 0..u64::MAX).await.unwrap();
    }
    for hash in collect(store.partial_blobs().await.unwrap()).await.unwrap() {
        let present = store.present_ranges(&hash).await.unwrap().unwrap();
        store.export_bao(hash, present, Vec::new()).await.unwrap();
    }
    collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap();
}

async fn kill_and_check(durability: Durability) {
    let dir = temp_dir();
    let (mut acknowledged, mut dice) = (Acknowledged::default(), Dice(7));
    for round in 0..20 {
        acknowledged.add(run_and_kill(dir.path(), durability, round, &mut dice));
        let store = open(options(dir.path(), durability)).await;
        acknowledged.check(&store).await;
        check_all(&store).await;
        if round % 3 == 0 {
            store.shutdown().await.unwrap();
            check_files(dir.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_process_loses_nothing_it_acknowledged() {
    kill_and_check(Durability::Immediate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_relaxed_process_loses_nothing_it_acknowledged() {
    kill_and_check(Durability::Relaxed).await;
}
