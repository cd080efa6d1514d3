//! The medians as a table for people and as a document for programs.

use std::{fmt::Write, path::Path};

use serde::Serialize;

use crate::{contender::Contender, rounds::Comparison, workload::Workload};

#[derive(Debug, Serialize)]
pub(crate) struct Document<'a> {
    workload: Workload,
    runs: Vec<Row<'a>>,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    run: &'a Comparison,
    allocated_per_byte: f64,
    length_per_byte: f64,
    /// How many times as fast as the peer, until durable and until closed.
    durable_speedup: Option<f64>,
    closed_speedup: Option<f64>,
}

pub(crate) fn document(workload: Workload, all: &[Comparison]) -> Document<'_> {
    Document { workload, runs: all.iter().map(|run| row(run, workload, all)).collect() }
}

/// One table for each directory.
pub(crate) fn table(workload: Workload, all: &[Comparison]) -> String {
    let mut text = format!(
        "{} blobs of {} bytes, {} at a time; medians. Times in seconds since the first import began.\n",
        workload.count, workload.size, workload.in_flight
    );
    let mut dir: Option<&Path> = None;
    for run in all {
        if dir != Some(&run.dir) {
            dir = Some(&run.dir);
            heading(&mut text, &run.dir);
        }
        line(&mut text, &row(run, workload, all));
    }
    text
}

fn heading(text: &mut String, dir: &Path) {
    let columns =
        ["acked", "durable", "closed", "x peer", "x closed", "disk/B", "len/B", "peak MiB", "reopen"];
    let _ = write!(text, "\n{}\n{:<15}", dir.display(), "");
    for column in columns {
        let _ = write!(text, " {column:>8}");
    }
    text.push('\n');
}

fn line(text: &mut String, row: &Row<'_>) {
    let figures = &row.run.median;
    let speedup = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.1}"));
    let cells = [
        format!("{:.2}", figures.acknowledged_s),
        format!("{:.2}", figures.durable_s),
        format!("{:.2}", figures.closed_s),
        speedup(row.durable_speedup),
        speedup(row.closed_speedup),
        format!("{:.3}", row.allocated_per_byte),
        format!("{:.3}", row.length_per_byte),
        format!("{:.1}", as_f64(figures.peak_bytes) / f64::from(1 << 20)),
        format!("{:.3}", figures.reopened_s),
    ];
    let _ = write!(text, "{:<15}", row.run.contender.name());
    for cell in cells {
        let _ = write!(text, " {cell:>8}");
    }
    text.push('\n');
}

fn row<'a>(run: &'a Comparison, workload: Workload, all: &[Comparison]) -> Row<'a> {
    let is_peer = |other: &&Comparison| other.contender == Contender::Peer && other.dir == run.dir;
    let peer = all.iter().find(is_peer).filter(|_| run.contender.is_store());
    let total = as_f64(workload.total_bytes());
    Row {
        run,
        allocated_per_byte: as_f64(run.median.allocated_bytes) / total,
        length_per_byte: as_f64(run.median.length_bytes) / total,
        durable_speedup: peer.map(|peer| peer.median.durable_s / run.median.durable_s),
        closed_speedup: peer.map(|peer| peer.median.closed_s / run.median.closed_s),
    }
}

#[expect(clippy::cast_precision_loss, reason = "sizes of stores are far below 2^53")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
