//! Collection: a store in which a tenth of the blobs are kept through hash sequences, and one round.
//!
//! One process fills a store and another one collects it, so that neither what filling left in memory nor what is still
//! to be done of it counts.

mod collector;
mod figures;
mod fill;
mod meter;

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Serialize, de::DeserializeOwned};

use self::{
    collector::Collecting,
    figures::{Figures, heading, line, median},
};
use crate::{ours::OurStore, peer::PeerStore, workload::Workload};

/// One of so many blobs is kept.
const ONE_OF: u64 = 10;
/// So many children has a sequence.
const CHILDREN: usize = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put the stores; may be repeated, for example once on tmpfs and once on a disk
    #[arg(long, default_value = ".")]
    dir: Vec<PathBuf>,
    /// How many blobs of 4 KiB; may be repeated
    #[arg(long, default_value = "100000")]
    count: Vec<NonZeroU64>,
    /// A sequence more, that lists so many blobs which are not there: what a reference takes by itself
    #[arg(long, default_value_t = 0)]
    absent: u64,
    /// How often each contender runs; the medians are shown
    #[arg(long, default_value = "3")]
    rounds: NonZeroUsize,
    /// Run this one only
    #[arg(long)]
    only: Option<Collector>,
    /// Print every round as a line of JSON instead of the table
    #[arg(long)]
    json: bool,
}

/// Whose collection is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Collector {
    /// blob-gc over blob-fs
    Ours,
    /// iroh-blobs' file store
    Peer,
}

/// A step of a run, in a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    Fill,
    Collect,
}

/// What a store has.
#[derive(Clone, Copy, Debug, clap::Args, Serialize)]
pub(crate) struct Set {
    #[command(flatten)]
    pub(crate) workload: Workload,
    /// So many references to blobs that are not there
    #[arg(long, default_value_t = 0)]
    pub(crate) absent: u64,
}

impl Set {
    /// Blobs that sequences keep.
    pub(crate) fn n_kept(&self) -> u64 {
        self.workload.count.get().div_ceil(ONE_OF)
    }

    pub(crate) fn n_sequences(&self) -> u64 {
        self.n_kept().div_ceil(CHILDREN as u64) + u64::from(self.absent > 0)
    }

    pub(crate) fn n_references(&self) -> u64 {
        self.n_kept() + self.absent
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.n_kept() * self.workload.size.get() as u64 + 32 * self.n_references()
    }
}

/// Runs everything and prints a table.
pub(crate) fn compare(args: &Args) -> Result<()> {
    let contenders = args.only.map_or_else(|| vec![Collector::Ours, Collector::Peer], |only| vec![only]);
    for dir in &args.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        for &count in &args.count {
            let set = Set { workload: Workload::of(count), absent: args.absent };
            let all = rounds(args, dir, &contenders, set)?;
            if !args.json {
                print!("{}", table(dir, &contenders, set, &all));
            }
        }
    }
    Ok(())
}

fn table(dir: &Path, contenders: &[Collector], set: Set, all: &[Vec<Figures>]) -> String {
    let medians: Vec<_> = all.iter().map(|rounds| median(rounds)).collect();
    let peer_s = contenders.iter().zip(&medians).find(|(contender, _)| **contender == Collector::Peer);
    let peer_s = peer_s.map(|(_, figures)| figures.round_s);
    let mut text = heading(dir, set);
    for (contender, figures) in contenders.iter().zip(&medians) {
        text += &line(*contender, figures, set, peer_s);
    }
    text
}

/// Runs each contender round by round.
fn rounds(args: &Args, dir: &Path, contenders: &[Collector], set: Set) -> Result<Vec<Vec<Figures>>> {
    let mut all = vec![Vec::new(); contenders.len()];
    for round in 1..=args.rounds.get() {
        for (&contender, rounds) in contenders.iter().zip(&mut all) {
            let figures = one(contender, dir, set)?;
            let (name, count) = (contender.name(), set.workload.count);
            eprintln!("{} {count} round {round}: {name} {:.3} s", dir.display(), figures.round_s);
            if args.json {
                println!(
                    "{}",
                    serde_json::json!({"dir": dir, "contender": contender, "set": set, "figures": figures})
                );
            }
            rounds.push(figures);
        }
    }
    Ok(all)
}

impl Collector {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

fn one(contender: Collector, dir: &Path, set: Set) -> Result<Figures> {
    let store = tempfile::Builder::new().prefix("blob-peers-").tempdir_in(dir)?;
    let before_bytes: u64 = in_child(contender, Step::Fill, store.path(), set)?;
    // What filling left to be written must not be charged to the round.
    rustix::fs::sync();
    let figures: Figures = in_child(contender, Step::Collect, store.path(), set)?;
    store.close().context("removing a store")?;
    Ok(Figures { before_bytes, ..figures })
}

fn in_child<T: DeserializeOwned>(contender: Collector, step: Step, dir: &Path, set: Set) -> Result<T> {
    let name = contender.name();
    let step = if step == Step::Fill { "fill" } else { "collect" };
    let output = Command::new(std::env::current_exe()?)
        .args(["collect-one", &name, step])
        .arg(dir)
        .args(["--count", &set.workload.count.to_string()])
        .args(["--size", &set.workload.size.to_string()])
        .args(["--in-flight", &set.workload.in_flight.to_string()])
        .args(["--absent", &set.absent.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting a run")?;
    ensure!(output.status.success(), "{name} {step} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading a run's figures")
}

/// One step of a run, in this process; returns what it found, as JSON.
pub(crate) fn run(contender: Collector, step: Step, dir: &Path, set: Set) -> Result<String> {
    match contender {
        Collector::Ours => run_with::<OurStore>(step, dir, set),
        Collector::Peer => run_with::<PeerStore>(step, dir, set),
    }
}

fn run_with<S: Collecting>(step: Step, dir: &Path, set: Set) -> Result<String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let found = match step {
        Step::Fill => serde_json::to_string(&runtime.block_on(fill::fill::<S>(dir, set))?),
        Step::Collect => serde_json::to_string(&runtime.block_on(S::collect(dir, set))?),
    };
    Ok(found?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(absent: u64) -> Set {
        Set { workload: Workload::of(NonZeroU64::new(20).unwrap()), absent }
    }

    #[test]
    fn both_collectors_leave_what_the_set_keeps() {
        for contender in [Collector::Ours, Collector::Peer] {
            for absent in [0, 1000] {
                let dir = tempfile::tempdir().unwrap();
                run(contender, Step::Fill, dir.path(), set(absent)).unwrap();
                // It fails where more or less is left.
                let figures = run(contender, Step::Collect, dir.path(), set(absent)).unwrap();
                let figures: Figures = serde_json::from_str(&figures).unwrap();
                assert!(figures.round_s > 0.0 && figures.after_bytes > 0, "{contender:?} {figures:?}");
            }
        }
    }

    #[test]
    fn live_bytes_are_those_of_blobs_and_sequences() {
        assert_eq!((set(0).n_kept(), set(0).n_sequences()), (2, 1));
        assert_eq!(set(0).live_bytes(), 2 * 4096 + 64);
        assert_eq!((set(1000).n_references(), set(1000).n_sequences()), (1002, 2));
    }
}
