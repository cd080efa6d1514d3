//! Kills during compaction: a process imports, deletes and tags while it compacts all the time, until it is killed. All
//! that it had acknowledged is there afterwards, and nothing that it had deleted.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use blob_fs::{CompactOptions, Durability, FsStore, Options};
use blob_traits::{HashAndFormat, prelude::*};
use support::{DURABILITIES, Dice, files::check_files, has, hash, import, open, temp_dir, tiny};

const STORE: &str = "BLOB_FS_COMPACT_STORE";
const RELAXED: &str = "BLOB_FS_COMPACT_RELAXED";
const SEED: &str = "BLOB_FS_COMPACT_SEED";
const LENGTHS: [usize; 4] = [300, 5_000, 20_000, 66_000];
const TASKS: u64 = 3;
/// Each task has so many blobs of its own.
const BLOBS: u64 = 30;

fn options(dir: &Path, durability: Durability) -> Options {
    Options { durability, overlay_rows: 8, ..tiny(dir) }
}

/// Not a test of its own: what the processes that are killed run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_compacts_until_it_is_killed() {
    let Some(dir) = std::env::var_os(STORE) else { return };
    let relaxed = std::env::var_os(RELAXED).is_some();
    let durability = if relaxed { Durability::Relaxed } else { Durability::Immediate };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = open(options(dir.as_ref(), durability)).await;
    for task in 0..TASKS {
        tokio::spawn(work(store.clone(), task, seed));
    }
    loop {
        let how = CompactOptions { max_dead_percent: 5, bytes_to_free: Some(1), ..CompactOptions::default() };
        let report = store.compact(how).await.unwrap();
        if report.segments_removed > 0 {
            acknowledge("compacted");
        }
    }
}

async fn work(store: FsStore, task: u64, seed: u64) {
    let mut dice = Dice(seed * TASKS + task);
    loop {
        let blob = task * BLOBS + dice.roll(BLOBS);
        match dice.roll(5) {
            0..2 => {
                acknowledge(&format!("unsure {blob}"));
                import(&store, blob, len(blob)).await;
                acknowledge(&format!("there {blob}"));
            }
            2..4 => {
                acknowledge(&format!("unsure {blob}"));
                store.delete(vec![hash(blob, len(blob))]).await.unwrap();
                acknowledge(&format!("gone {blob}"));
            }
            _ => {
                let tag = format!("task-{task}");
                acknowledge(&format!("tagging {task}"));
                store
                    .set_tag(tag.as_str().into(), Some(HashAndFormat::raw(hash(blob, len(blob)))))
                    .await
                    .unwrap();
                acknowledge(&format!("tag {task} {blob}"));
            }
        }
    }
}

fn len(blob: u64) -> usize {
    let at = usize::try_from(blob).unwrap() % LENGTHS.len();
    LENGTHS.get(at).copied().unwrap()
}

fn acknowledge(what: &str) {
    std::io::stdout().write_all(format!("\nACK {what}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// What was acknowledged last of each blob and each tag; `None`: something was begun since.
#[derive(Debug, Default)]
struct Acknowledged {
    blobs: BTreeMap<u64, Option<bool>>,
    tags: BTreeMap<u64, Option<u64>>,
    compacted: u64,
}

impl Acknowledged {
    fn add(&mut self, line: &str) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["there", blob] => self.blobs.extend([(blob.parse().unwrap(), Some(true))]),
            ["gone", blob] => self.blobs.extend([(blob.parse().unwrap(), Some(false))]),
            ["unsure", blob] => self.blobs.extend([(blob.parse().unwrap(), None)]),
            ["tag", task, blob] => {
                self.tags.extend([(task.parse().unwrap(), Some(blob.parse().unwrap()))]);
            }
            ["tagging", task] => self.tags.extend([(task.parse().unwrap(), None)]),
            _ => self.compacted += 1,
        }
    }

    async fn check(&mut self, store: &FsStore) {
        assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
        for (blob, there) in &mut self.blobs {
            let seen = has(store, *blob, len(*blob)).await;
            assert!(there.is_none_or(|there| there == seen), "{blob}: {there:?}, and it is {seen}");
            *there = Some(seen);
        }
        for (task, target) in &mut self.tags {
            let tag = format!("task-{task}");
            let seen = store.get_tag(&tag.as_str().into()).await.unwrap();
            let expected = target.map(|blob| HashAndFormat::raw(hash(blob, len(blob))));
            assert!(target.is_none() || seen == expected, "{task}");
            *target = None;
        }
    }
}

fn run_and_kill(dir: &Path, durability: Durability, seed: u64, dice: &mut Dice, known: &mut Acknowledged) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["child_compacts_until_it_is_killed", "--exact", "--nocapture"]);
    command.env(STORE, dir).env(SEED, seed.to_string()).stdout(Stdio::piped());
    if durability == Durability::Relaxed {
        command.env(RELAXED, "");
    }
    let mut child = command.spawn().unwrap();
    let mut left = 1 + dice.roll(3000);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        let Some(what) = line.strip_prefix("ACK ") else { continue };
        known.add(what);
        left = left.saturating_sub(1);
        if left == 0 {
            let _ = child.kill();
        }
    }
    child.wait().unwrap();
    assert_eq!(left, 0, "it ended by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_killed_while_it_compacts_loses_nothing_and_brings_nothing_back() {
    for durability in DURABILITIES {
        let dir = temp_dir();
        let (mut known, mut dice) = (Acknowledged::default(), Dice(11));
        for round in 0..16 {
            run_and_kill(dir.path(), durability, round, &mut dice, &mut known);
            if round % 4 == 3 {
                std::fs::remove_file(dir.path().join("index.redb")).unwrap();
            }
            let store = open(options(dir.path(), durability)).await;
            known.check(&store).await;
            if round % 3 == 0 {
                store.shutdown().await.unwrap();
                drop(store);
                check_files(dir.path());
            }
        }
        assert!(known.compacted > 10, "{}", known.compacted);
    }
}
