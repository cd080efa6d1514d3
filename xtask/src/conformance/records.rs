//! What the suite reports: one line of JSON for each trial, or for each case on a broken store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::sh::{Error, Result};

/// One trial.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Trial {
    pub(super) backend: String,
    pub(super) flavour: String,
    pub(super) group: String,
    pub(super) case: String,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) reason: String,
    pub(super) seed: u64,
    pub(super) ms: u64,
}

/// How a trial ended, the most telling last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Pending,
    Waived,
    Deep,
    Skipped,
    Passed,
    Failed,
}

/// A case on a broken store.
#[expect(clippy::struct_field_names, reason = "they are the names of the report")]
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Control {
    pub(super) control: String,
    pub(super) what: String,
    pub(super) on: String,
    pub(super) group: String,
    pub(super) case: String,
    pub(super) caught: bool,
    #[serde(default)]
    pub(super) how: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    Trial(Trial),
    Control(Control),
}

/// Everything that was reported.
#[derive(Debug, Default, Serialize)]
pub(super) struct Records {
    pub(super) trials: Vec<Trial>,
    pub(super) controls: Vec<Control>,
}

/// What came of a case on a backend: the worst of its trials.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'a> {
    pub(super) status: Status,
    pub(super) reason: &'a str,
    pub(super) ms: u64,
}

/// What a defect does, the store it was put on, and the cases that caught it.
#[derive(Clone, Debug)]
pub(super) struct Verdict<'a> {
    pub(super) what: &'a str,
    pub(super) on: &'a str,
    pub(super) caught_by: Vec<&'a Control>,
}

impl Records {
    /// Adds what a run has written.
    pub(super) fn read(&mut self, path: &Path) -> Result<()> {
        // A run that could not be built has written nothing.
        let text = fs::read_to_string(path).unwrap_or_default();
        for (index, line) in text.lines().enumerate() {
            let parsed = serde_json::from_str(line).map_err(|source| Error::Report {
                path: path.to_owned(),
                line: index + 1,
                source,
            })?;
            match parsed {
                Line::Trial(trial) => self.trials.push(trial),
                Line::Control(control) => self.controls.push(control),
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.trials.is_empty() && self.controls.is_empty()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("records are plain data")
    }

    pub(super) fn failed(&self) -> impl Iterator<Item = &Trial> {
        self.trials.iter().filter(|trial| trial.status == Status::Failed)
    }

    /// The backends, in the order in which they ran.
    pub(super) fn backends(&self) -> Vec<&str> {
        in_order(self.trials.iter().map(|trial| trial.backend.as_str()))
    }

    pub(super) fn groups(&self) -> Vec<&str> {
        in_order(self.trials.iter().map(|trial| trial.group.as_str()))
    }

    /// The cases of a group with what came of each on each backend.
    pub(super) fn cases(&self, group: &str) -> BTreeMap<&str, BTreeMap<&str, Cell<'_>>> {
        let mut cases: BTreeMap<&str, BTreeMap<&str, Cell<'_>>> = BTreeMap::new();
        for trial in self.trials.iter().filter(|trial| trial.group == group) {
            let backends = cases.entry(&trial.case).or_default();
            let cell = Cell { status: trial.status, reason: &trial.reason, ms: trial.ms };
            let worst = backends.entry(&trial.backend).or_insert(cell);
            let ms = worst.ms.max(trial.ms);
            if trial.status > worst.status {
                *worst = cell;
            }
            worst.ms = ms;
        }
        cases
    }

    /// The defects, in the order in which they were reported, with the cases that caught each. Sound stores are left out.
    pub(super) fn verdicts(&self) -> Vec<(&str, Verdict<'_>)> {
        let mut verdicts: BTreeMap<&str, Verdict<'_>> = BTreeMap::new();
        for record in self.controls.iter().filter(|record| record.control != "none") {
            let new = Verdict { what: &record.what, on: &record.on, caught_by: Vec::new() };
            let verdict = verdicts.entry(&record.control).or_insert(new);
            if record.caught {
                verdict.caught_by.push(record);
            }
        }
        verdicts.into_iter().collect()
    }

    /// Cases that ran on broken stores and caught none.
    pub(super) fn idle_cases(&self) -> Vec<String> {
        let name = |record: &Control| format!("{}::{}", record.group, record.case);
        let caught: BTreeSet<_> = self.controls.iter().filter(|record| record.caught).map(name).collect();
        let all: BTreeSet<_> = self.controls.iter().map(name).collect();
        all.difference(&caught).cloned().collect()
    }
}

fn in_order<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    names.filter(|name| seen.insert(*name)).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::conformance) fn some() -> Records {
        let trial = |backend: &str, flavour: &str, case: &str, status, reason: &str| Trial {
            backend: backend.to_owned(),
            flavour: flavour.to_owned(),
            group: "tags".to_owned(),
            case: case.to_owned(),
            status,
            reason: reason.to_owned(),
            seed: 1,
            ms: 3,
        };
        let trials = vec![
            trial("mem", "current", "one", Status::Passed, ""),
            trial("mem", "multi", "one", Status::Failed, "left: <1>\nright: 2"),
            trial("fs", "current", "one", Status::Passed, ""),
            trial("mem", "current", "two", Status::Waived, "no disk"),
            trial("fs", "current", "two", Status::Passed, ""),
        ];
        let control = |case: &str, caught| Control {
            control: "TruncatedTail".to_owned(),
            what: "loses a byte".to_owned(),
            on: "mem".to_owned(),
            group: "tags".to_owned(),
            case: case.to_owned(),
            caught,
            how: String::new(),
        };
        Records { trials, controls: vec![control("one", true), control("two", false)] }
    }

    #[test]
    fn the_worst_trial_of_a_case_counts() {
        let records = some();
        let cases = records.cases("tags");
        assert_eq!(cases["one"]["mem"].status, Status::Failed);
        assert_eq!(cases["one"]["fs"].status, Status::Passed);
        assert_eq!(cases["two"]["mem"].reason, "no disk");
    }

    #[test]
    fn a_case_that_catches_nothing_is_idle() {
        let records = some();
        assert_eq!(records.idle_cases(), ["tags::two"]);
        let verdicts = records.verdicts();
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].1.caught_by.len(), 1);
    }

    #[test]
    fn both_kinds_of_lines_are_read() {
        let dir = std::env::temp_dir().join(format!("records-{}", std::process::id()));
        let lines: Vec<_> = some()
            .trials
            .iter()
            .map(|trial| serde_json::to_string(trial).unwrap())
            .chain(some().controls.iter().map(|control| serde_json::to_string(control).unwrap()))
            .collect();
        fs::write(&dir, lines.join("\n")).unwrap();
        let mut records = Records::default();
        records.read(&dir).unwrap();
        fs::remove_file(&dir).unwrap();
        assert_eq!((records.trials.len(), records.controls.len()), (5, 2));
    }
}
