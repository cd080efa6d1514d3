//! What a round took, and the medians as a table.

use std::{fmt::Write, path::Path};

use serde::{Deserialize, Serialize};

use super::{Collector, Set};
use crate::rounds::middle;

/// Times in seconds, sizes in bytes; memory is the peak above what the process had before.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Figures {
    /// One round: mark and sweep, until what was deleted is deleted durably.
    pub(super) round_s: f64,
    pub(super) peak_bytes: u64,
    /// Memory until all that is reachable is marked; zero for the peer, which does not tell.
    pub(super) marked_bytes: u64,
    /// Handed to the system to be written.
    pub(super) written_bytes: u64,
    pub(super) before_bytes: u64,
    pub(super) after_bytes: u64,
    /// Giving space back afterwards; all zero for the peer, which has no such step.
    pub(super) compact_s: f64,
    pub(super) compact_peak_bytes: u64,
    pub(super) compact_written_bytes: u64,
    pub(super) compacted_bytes: u64,
}

/// The median of each figure by itself.
pub(super) fn median(rounds: &[Figures]) -> Figures {
    Figures {
        round_s: middle(rounds, |f| f.round_s),
        peak_bytes: middle(rounds, |f| f.peak_bytes),
        marked_bytes: middle(rounds, |f| f.marked_bytes),
        written_bytes: middle(rounds, |f| f.written_bytes),
        before_bytes: middle(rounds, |f| f.before_bytes),
        after_bytes: middle(rounds, |f| f.after_bytes),
        compact_s: middle(rounds, |f| f.compact_s),
        compact_peak_bytes: middle(rounds, |f| f.compact_peak_bytes),
        compact_written_bytes: middle(rounds, |f| f.compact_written_bytes),
        compacted_bytes: middle(rounds, |f| f.compacted_bytes),
    }
}

const WIDTH: usize = 9;

pub(super) fn heading(dir: &Path, set: Set) -> String {
    let mut text = format!(
        "\n{}: {} blobs of {} bytes, {} kept by {} sequences with {} references; medians, sizes in MiB\n{:<5}",
        dir.display(),
        set.workload.count,
        set.workload.size,
        set.n_kept(),
        set.n_sequences(),
        set.n_references(),
        ""
    );
    let columns = [
        "round s",
        "x peer",
        "memory",
        "B/ref",
        "mark B/ref",
        "written",
        "disk",
        "after",
        "compact s",
        "memory",
        "written",
        "after",
        "disk/live",
    ];
    for column in columns {
        let _ = write!(text, " {column:>WIDTH$}");
    }
    text.push('\n');
    text
}

pub(super) fn line(contender: Collector, figures: &Figures, set: Set, peer_s: Option<f64>) -> String {
    let is_ours = contender == Collector::Ours;
    let ours = |text: String| if is_ours { text } else { String::new() };
    let mib = |bytes: u64| format!("{:.1}", as_f64(bytes) / f64::from(1 << 20));
    let per_reference = |bytes: u64| format!("{:.1}", as_f64(bytes) / as_f64(set.n_references()));
    let left = if is_ours { figures.compacted_bytes } else { figures.after_bytes };
    let cells = [
        format!("{:.3}", figures.round_s),
        peer_s.map_or_else(String::new, |peer_s| format!("{:.1}", peer_s / figures.round_s)),
        mib(figures.peak_bytes),
        per_reference(figures.peak_bytes),
        ours(per_reference(figures.marked_bytes)),
        mib(figures.written_bytes),
        mib(figures.before_bytes),
        mib(figures.after_bytes),
        ours(format!("{:.2}", figures.compact_s)),
        ours(mib(figures.compact_peak_bytes)),
        ours(mib(figures.compact_written_bytes)),
        ours(mib(figures.compacted_bytes)),
        format!("{:.2}", as_f64(left) / as_f64(set.live_bytes())),
    ];
    let mut text = format!("{:<5}", contender.name());
    for cell in cells {
        let _ = write!(text, " {cell:>WIDTH$}");
    }
    text.push('\n');
    text
}

#[expect(clippy::cast_precision_loss, reason = "sizes of stores are far below 2^53")]
fn as_f64(bytes: u64) -> f64 {
    bytes as f64
}
