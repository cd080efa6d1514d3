//! What a run came to, in a line or two.

use std::time::Duration;

use blob_validate::{Ended, Outcome, RepairReport, ValidateReport};
use indicatif::HumanCount;
use serde_json::json;

use super::{Done, findings::fetched_line};
use crate::{
    exit::Failure,
    output::{counted, shown_bytes},
    run::Context,
};

/// Prints it for a person, or adds it to the summary.
pub(super) fn sum_up(context: &Context, done: &Done, took: Duration) -> Result<(), Failure> {
    let found = done.found();
    context.output.count_bytes(found.n_bytes);
    context.output.summarize(json!({
        "complete": found.n_complete,
        "partial": found.n_partial,
        "vanished": found.n_vanished,
        "damaged": found.damaged.len(),
        "demoted": found.demoted.len(),
        "failed": found.failed.len(),
        "ended": if found.ended == Ended::AllDone { "all" } else { "budget" },
        "seconds": took.as_secs_f64(),
    }));
    context.output.remark(line(found, took))?;
    if let Some(report) = done.repaired() {
        let counts = Counts::of(report);
        context.output.summarize(json!({
            "repaired": counts.repaired,
            "left_partial": counts.partial,
            "left_unreadable": counts.unreadable,
            "left_failed": counts.failed,
            "not_begun": counts.not_begun,
            "fetched_bytes": counts.fetched_bytes,
            "fetched_hash_bytes": counts.fetched_hash_bytes,
        }));
        if !report.blobs.is_empty() {
            context.output.remark(counts.line())?;
        }
    } else if !found.damaged.is_empty() || !found.demoted.is_empty() {
        context.output.remark("--repair mends what can be mended; --from fetches what is lost")?;
    }
    Ok(())
}

fn line(found: &ValidateReport, took: Duration) -> String {
    let partial = match found.n_partial {
        0 => String::new(),
        n => format!(" ({} partial)", HumanCount(n)),
    };
    let looked = format!(
        "{}{partial}, {} read in {}",
        counted(found.n_complete + found.n_partial, "blob"),
        shown_bytes(found.n_bytes),
        shown_seconds(took)
    );
    let parts = [
        (found.damaged.len(), "damaged"),
        (found.failed.len(), "could not be looked at"),
        (found.demoted.len(), "not complete since an earlier repair"),
    ];
    let parts: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let verdict = if parts.is_empty() { "all sound".to_owned() } else { parts.join(", ") };
    let ended = match found.ended {
        Ended::AllDone => "",
        Ended::BudgetSpent => "; the rest was not looked at, as the budget was spent",
    };
    format!("{looked}: {verdict}{ended}")
}

fn shown_seconds(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 0.1 { format!("{seconds:.3} s") } else { format!("{seconds:.1} s") }
}

/// How many blobs came to what.
#[derive(Debug, Default)]
struct Counts {
    repaired: u64,
    partial: u64,
    unreadable: u64,
    vanished: u64,
    failed: u64,
    not_begun: u64,
    fetched_bytes: u64,
    fetched_hash_bytes: u64,
}

impl Counts {
    fn of(report: &RepairReport) -> Self {
        let mut counts = Self::default();
        for blob in &report.blobs {
            *match blob.outcome {
                Outcome::Complete => &mut counts.repaired,
                Outcome::Partial { .. } => &mut counts.partial,
                Outcome::Unreadable => &mut counts.unreadable,
                Outcome::Vanished => &mut counts.vanished,
                Outcome::NotBegun => &mut counts.not_begun,
                _ => &mut counts.failed,
            } += 1;
            counts.fetched_bytes += blob.fetched.n_bytes;
            counts.fetched_hash_bytes += blob.fetched.n_hash_bytes;
        }
        counts
    }

    fn line(&self) -> String {
        let fetched = match self.fetched_bytes + self.fetched_hash_bytes {
            0 => String::new(),
            _ => format!(" ({})", fetched_line(self.fetched_bytes, self.fetched_hash_bytes)),
        };
        let parts = [
            format!("{} repaired{fetched}", self.repaired),
            some(self.partial, "partial now: give --from a store that has what is missing, or download it"),
            some(self.unreadable, "left as they are, since the system cannot read them"),
            some(self.failed, "could not be repaired"),
            some(self.not_begun, "not begun, as the budget was spent: repair again"),
            some(self.vanished, "deleted meanwhile"),
        ];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

fn some(n: u64, what: &str) -> String {
    if n == 0 { String::new() } else { format!("{n} {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_run_is_one_short_line() {
        let mut found = ValidateReport::default();
        (found.n_complete, found.n_bytes) = (2500, 640 << 20);
        assert_eq!(
            line(&found, Duration::from_millis(320)),
            "2,500 blobs, 640.00 MiB read in 0.3 s: all sound"
        );
        (found.n_partial, found.ended) = (3, Ended::BudgetSpent);
        found.demoted.push(blob_traits::Hash::EMPTY);
        let text = line(&found, Duration::ZERO);
        assert!(text.starts_with("2,503 blobs (3 partial), ") && text.contains("1 not complete"), "{text}");
        assert!(text.ends_with("budget was spent"), "{text}");
    }

    #[test]
    fn what_is_left_is_said() {
        let counts = Counts {
            repaired: 2,
            partial: 1,
            fetched_bytes: 48 << 10,
            fetched_hash_bytes: 3072,
            ..Counts::default()
        };
        let text = counts.line();
        assert!(
            text.starts_with("2 repaired (48.00 KiB and 3.00 KiB of hashes fetched); 1 partial now"),
            "{text}"
        );
    }
}
