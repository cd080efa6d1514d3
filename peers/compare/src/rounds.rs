//! Interleaved rounds of child processes, and their medians.

use std::{
    cmp::Ordering,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::{contender::Contender, run::Figures, workload::Workload};

/// All rounds of one contender in one directory.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Comparison {
    pub(crate) dir: PathBuf,
    pub(crate) contender: Contender,
    pub(crate) median: Figures,
    pub(crate) rounds: Vec<Figures>,
}

/// Runs every contender `rounds` times in `dir`, one after the other, round by round.
pub(crate) fn run(
    dir: &Path,
    contenders: &[Contender],
    rounds: NonZeroUsize,
    workload: Workload,
) -> Result<Vec<Comparison>> {
    std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
    let mut figures = vec![Vec::new(); contenders.len()];
    for round in 1..=rounds.get() {
        for (&contender, figures) in contenders.iter().zip(&mut figures) {
            let one = in_child(contender, dir, workload)?;
            eprintln!("{} round {round}: {} {:.2} s", dir.display(), contender.name(), one.closed_s);
            figures.push(one);
        }
    }
    let rows = contenders.iter().zip(figures).map(|(&contender, rounds)| Comparison {
        dir: dir.to_path_buf(),
        contender,
        median: median(&rounds),
        rounds,
    });
    Ok(rows.collect())
}

fn in_child(contender: Contender, dir: &Path, workload: Workload) -> Result<Figures> {
    let store = tempfile::Builder::new().prefix("blob-peers-").tempdir_in(dir)?;
    // What earlier runs left to be written must not be charged to this one.
    rustix::fs::sync();
    let output = Command::new(std::env::current_exe()?)
        .arg("run-one")
        .arg(contender.name())
        .arg(store.path())
        .args(["--count", &workload.count.to_string()])
        .args(["--size", &workload.size.to_string()])
        .args(["--in-flight", &workload.in_flight.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .context("starting a run")?;
    ensure!(output.status.success(), "{} failed: {}", contender.name(), output.status);
    let figures = serde_json::from_slice(&output.stdout).context("reading a run's figures")?;
    store.close().context("removing a store")?;
    Ok(figures)
}

fn median(rounds: &[Figures]) -> Figures {
    Figures {
        acknowledged_s: middle(rounds, |f| f.acknowledged_s),
        durable_s: middle(rounds, |f| f.durable_s),
        closed_s: middle(rounds, |f| f.closed_s),
        reopened_s: middle(rounds, |f| f.reopened_s),
        peak_bytes: middle(rounds, |f| f.peak_bytes),
        allocated_bytes: middle(rounds, |f| f.allocated_bytes),
        length_bytes: middle(rounds, |f| f.length_bytes),
    }
}

/// The median of one figure; of an even number of rounds, the worse of the two in the middle.
pub(crate) fn middle<F, T: Copy + Default + PartialOrd>(rounds: &[F], pick: impl Fn(&F) -> T) -> T {
    let mut values: Vec<T> = rounds.iter().map(pick).collect();
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_ignores_order_and_outliers() {
        let round = |seconds: f64, bytes: u64| Figures {
            acknowledged_s: seconds,
            durable_s: seconds,
            closed_s: seconds,
            reopened_s: seconds,
            peak_bytes: bytes,
            allocated_bytes: bytes,
            length_bytes: bytes,
        };
        let median = median(&[round(100.0, 2), round(1.0, 3), round(2.0, 1)]);
        assert_eq!(median.durable_s.to_bits(), 2.0_f64.to_bits());
        assert_eq!(median.peak_bytes, 2);
    }
}
