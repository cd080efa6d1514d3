//! Groups by backends, as text for a terminal and for a document.

use std::{collections::BTreeMap, fmt::Write};

use super::records::{Records, Status};

/// How many cases of a group ended how on a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    pub(super) failed: usize,
    pub(super) waived: usize,
    pub(super) pending: usize,
    /// Skipped by the machine, or left out because they take minutes.
    pub(super) not_run: usize,
}

impl Counts {
    fn add(&mut self, status: Status) {
        match status {
            Status::Passed => self.passed += 1,
            Status::Failed => self.failed += 1,
            Status::Waived => self.waived += 1,
            Status::Pending => self.pending += 1,
            Status::Skipped | Status::Deep => self.not_run += 1,
        }
    }

    /// What there is to say, in few characters: `12`, `3 FAILED 9`, `4 w1 p7`.
    pub(super) fn short(self) -> String {
        let mut text = self.passed.to_string();
        let rest = [('w', self.waived), ('p', self.pending), ('n', self.not_run)];
        for (letter, n) in rest.into_iter().filter(|(_, n)| *n > 0) {
            let _ = write!(text, " {letter}{n}");
        }
        if self.failed > 0 { format!("{} FAILED {text}", self.failed) } else { text }
    }
}

/// The counts of each group on each backend, and their sums under the name `total`.
pub(super) fn counts(records: &Records) -> Vec<(String, BTreeMap<&str, Counts>)> {
    let mut total: BTreeMap<&str, Counts> = BTreeMap::new();
    let mut rows = Vec::new();
    for group in records.groups() {
        let mut row: BTreeMap<&str, Counts> = BTreeMap::new();
        for (backend, cell) in records.cases(group).into_values().flatten() {
            row.entry(backend).or_default().add(cell.status);
            total.entry(backend).or_default().add(cell.status);
        }
        rows.push((group.to_owned(), row));
    }
    rows.push(("total".to_owned(), total));
    rows
}

const LEGEND: &str =
    "Cases that passed on both runtimes; w: waived, p: pending, n: not run here or only in deep runs.\n";

pub(super) fn text(records: &Records) -> String {
    let mut text = String::new();
    if !records.trials.is_empty() {
        text += &align(&table(records));
        text += LEGEND;
        text += &list(records);
        let _ = writeln!(text, "{} trials in {:.0} s of work", records.trials.len(), seconds(records));
    }
    if !records.controls.is_empty() {
        text += &controls(records, "  ");
    }
    text
}

pub(super) fn markdown(records: &Records) -> String {
    let mut text = String::new();
    let rows = table(records);
    for (index, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", " --- |".repeat(row.len()));
        }
    }
    text + "\n" + LEGEND + "\n" + &failures_of_cases(records)
}

fn table(records: &Records) -> Vec<Vec<String>> {
    let backends = records.backends();
    let head = std::iter::once(String::new()).chain(backends.iter().map(ToString::to_string)).collect();
    let row = |(group, row): (String, BTreeMap<&str, Counts>)| {
        let cells = backends.iter().map(|backend| row.get(backend).map_or_else(String::new, |n| n.short()));
        std::iter::once(group).chain(cells).collect()
    };
    std::iter::once(head).chain(counts(records).into_iter().map(row)).collect()
}

fn align(rows: &[Vec<String>]) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..n_columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// What did not simply pass, with the reasons, each reason once.
fn list(records: &Records) -> String {
    let mut text = String::new();
    for (status, title) in
        [(Status::Waived, "Waived"), (Status::Skipped, "Skipped"), (Status::Pending, "Pending")]
    {
        let mut reasons: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for group in records.groups() {
            for (backend, cell) in records.cases(group).into_values().flatten() {
                if cell.status == status {
                    // Pending is the same everywhere.
                    let whose = if status == Status::Pending { "everywhere" } else { backend };
                    *reasons.entry((whose, cell.reason)).or_default() += 1;
                }
            }
        }
        let n_backends = records.backends().len().max(1);
        for ((whose, reason), n) in reasons {
            let n = if status == Status::Pending { n / n_backends } else { n };
            let _ = writeln!(text, "{title} ({n}) on {whose}: {reason}");
        }
    }
    for trial in records.failed() {
        let name = format!("{}::{}::{}::{}", trial.backend, trial.flavour, trial.group, trial.case);
        let _ = writeln!(text, "FAILED {name}: {}", trial.reason.lines().next().unwrap_or_default());
    }
    text
}

fn failures_of_cases(records: &Records) -> String {
    let mut text = String::new();
    for group in records.groups() {
        for (case, backends) in records.cases(group) {
            for (backend, cell) in backends.into_iter().filter(|(_, cell)| cell.status == Status::Failed) {
                let how = cell.reason.lines().next().unwrap_or_default().replace('|', "\\|");
                let _ = writeln!(text, "- `{group}::{case}` on {backend}: {how}");
            }
        }
    }
    text
}

fn seconds(records: &Records) -> f64 {
    let ms: u64 = records.trials.iter().map(|trial| trial.ms).sum();
    std::time::Duration::from_millis(ms).as_secs_f64()
}

fn controls(records: &Records, indent: &str) -> String {
    let mut text = String::new();
    let verdicts = records.verdicts();
    for (control, verdict) in &verdicts {
        let n = verdict.caught_by.len();
        let by = match verdict.caught_by.first() {
            None => "NOT CAUGHT".to_owned(),
            Some(first) => format!("caught by {n}, such as {}::{}", first.group, first.case),
        };
        let _ = writeln!(text, "{control} (on {}; {}): {by}", verdict.on, verdict.what);
    }
    let n_caught = verdicts.iter().filter(|(_, verdict)| !verdict.caught_by.is_empty()).count();
    let _ = writeln!(text, "{n_caught} of {} defects caught", verdicts.len());
    let idle = records.idle_cases();
    let _ = writeln!(text, "{} cases caught none of them:", idle.len());
    for case in idle {
        let _ = writeln!(text, "{indent}{case}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{super::records::tests::some, *};

    #[test]
    fn the_matrix_counts_cases_not_trials() {
        let records = some();
        let rows = table(&records);
        assert_eq!(rows[0], ["", "mem", "fs"]);
        assert_eq!(rows[1], ["tags", "1 FAILED 0 w1", "2"]);
        assert_eq!(rows[2], ["total", "1 FAILED 0 w1", "2"]);
    }

    #[test]
    fn failures_waivers_and_controls_are_listed() {
        let text = text(&some());
        assert!(text.contains("Waived (1) on mem: no disk"), "{text}");
        assert!(text.contains("FAILED mem::multi::tags::one: left: <1>\n"), "{text}");
        assert!(text.contains("1 of 1 defects caught"), "{text}");
        assert!(text.contains("  tags::two\n"), "{text}");
    }
}
