//! Validation: all bytes of a store are hashed and compared, from the page cache.

mod contender;

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::contender::Validator;
use crate::workload::Workload;

/// The sets: how many blobs of how many bytes.
const SETS: [(u64, usize); 3] = [(100_000, 4 << 10), (2_500, 256 << 10), (1, 1 << 30)];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put the stores; may be repeated
    #[arg(long, default_value = ".")]
    dir: Vec<PathBuf>,
    /// How often each contender runs; the medians are shown
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
    /// Only sets of so many blobs; may be repeated
    #[arg(long)]
    count: Vec<u64>,
    /// Leave the peers out
    #[arg(long)]
    ours_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    Fill,
    Validate,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) seconds: f64,
    pub(crate) n_bytes: u64,
}

/// Runs everything and prints a table for each directory.
pub(crate) fn compare(args: &Args) -> Result<()> {
    for dir in &args.dir {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        println!("validation in {}: seconds, medians of {} rounds", dir.display(), args.rounds);
        println!("{:>22} {:>18} {:>9} {:>9} {:>9}", "set", "", "s", "x hash", "GiB/s");
        for (count, size) in SETS {
            if args.count.is_empty() || args.count.contains(&count) {
                set(args, dir, count, size)?;
            }
        }
    }
    Ok(())
}

/// Fills each contender's store once, and validates them by turns.
fn set(args: &Args, dir: &Path, count: u64, size: usize) -> Result<()> {
    let home = tempfile::Builder::new().prefix("blob-peers-").tempdir_in(dir)?;
    let all: Vec<_> = Validator::value_variants()
        .iter()
        .copied()
        .filter(|contender| !args.ours_only || matches!(contender, Validator::Hash | Validator::Ours))
        .collect();
    for contender in &all {
        in_child(*contender, Step::Fill, &home.path().join(contender.name()), count, size)?;
    }
    let mut rounds = vec![Vec::new(); all.len()];
    for _ in 0..args.rounds.get() {
        for (contender, rounds) in all.iter().zip(&mut rounds) {
            let store = home.path().join(contender.name());
            warm(&store)?;
            let figures = in_child(*contender, Step::Validate, &store, count, size)?;
            ensure!(figures.n_bytes == count * size as u64, "{} looked at too little", contender.name());
            rounds.push(figures.seconds);
        }
    }
    let medians: Vec<_> = rounds.into_iter().map(median).collect();
    let mib = f64::from(u32::try_from((count * size as u64) >> 20)?);
    let floor = medians.first().copied().unwrap_or_default();
    for (contender, seconds) in all.iter().zip(medians) {
        println!(
            "{:>22} {:>18} {seconds:>9.3} {:>9.2} {:>9.2}",
            format!("{count} x {} KiB", size >> 10),
            contender.name(),
            seconds / floor,
            mib / 1024.0 / seconds,
        );
    }
    Ok(())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}

/// Reads every file, so that all of it is in the page cache.
fn warm(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.metadata()?.is_dir() {
            warm(&entry.path())?;
        } else {
            std::io::copy(&mut std::fs::File::open(entry.path())?, &mut std::io::sink())?;
        }
    }
    Ok(())
}

fn in_child(contender: Validator, step: Step, dir: &Path, count: u64, size: usize) -> Result<Figures> {
    let step = if step == Step::Fill { "fill" } else { "validate" };
    let output = Command::new(std::env::current_exe()?)
        .args(["validate-one", &contender.name(), step])
        .arg(dir)
        .args(["--count", &count.to_string(), "--size", &size.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting a run")?;
    ensure!(output.status.success(), "{} {step} failed: {}", contender.name(), output.status);
    serde_json::from_slice(&output.stdout).context("reading a run's figures")
}

/// One step of a run, in this process.
pub(crate) fn run(contender: Validator, step: Step, dir: &Path, workload: Workload) -> Result<Figures> {
    std::fs::create_dir_all(dir)?;
    match step {
        Step::Fill => contender.fill(dir, workload).map(|()| Figures::default()),
        Step::Validate => contender.validate(dir, workload),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn everybody_looks_at_every_byte() {
        for (count, size) in [(20, 4096), (3, 100_000), (1, 20 << 20)] {
            let workload = Workload {
                count: NonZeroU64::new(count).unwrap(),
                size: NonZeroUsize::new(size).unwrap(),
                in_flight: NonZeroUsize::MIN,
            };
            for contender in Validator::value_variants() {
                let dir = tempfile::tempdir().unwrap();
                run(*contender, Step::Fill, dir.path(), workload).unwrap();
                let figures = run(*contender, Step::Validate, dir.path(), workload).unwrap();
                assert_eq!(figures.n_bytes, workload.total_bytes(), "{contender:?}");
            }
        }
    }
}
