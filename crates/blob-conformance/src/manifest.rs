//! The committed list of what every backend is held to, so that no case disappears unnoticed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

/// What is said of a case, by case (`group::case`) and then by what is said: the configurations that it is said of.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    configurations: BTreeSet<String>,
    cases: BTreeMap<String, BTreeMap<String, BTreeSet<String>>>,
}

const HEAD: &str = "\
# What each case of the conformance suite is on this backend: run, deep (runs with BLOB_CONFORMANCE_DEEP=1),
# waived or pending, with the reason. Made by the suite itself with BLOB_CONFORMANCE_BLESS=1, and compared with on every run.
";

impl Manifest {
    pub(crate) fn add(&mut self, configuration: &str, group: &str, case: &str, verdict: String) {
        self.configurations.insert(configuration.to_owned());
        let verdicts = self.cases.entry(format!("{group}::{case}")).or_default();
        verdicts.entry(verdict).or_default().insert(configuration.to_owned());
    }

    /// One line for each case, or for each thing that is said of it where the configurations differ.
    pub(crate) fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (case, verdicts) in &self.cases {
            for (verdict, configurations) in verdicts {
                let whose: Vec<_> = configurations.iter().map(String::as_str).collect();
                let whose = if *configurations == self.configurations {
                    String::new()
                } else {
                    format!(" [{}]", whose.join(", "))
                };
                text.extend([case, &whose, ": ", verdict, "\n"]);
            }
        }
        text
    }

    /// Compares with the file, or writes it where that was asked for.
    pub(crate) fn check(&self, path: &Path, bless: bool) -> Result<(), String> {
        let now = self.to_text();
        if bless {
            return fs::write(path, now).map_err(|e| format!("cannot write {}: {e}", path.display()));
        }
        let committed = match fs::read_to_string(path) {
            Ok(committed) => committed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(format!("cannot read {}: {e}", path.display())),
        };
        let differences = differences(&committed, &now);
        if differences.is_empty() {
            return Ok(());
        }
        Err(format!(
            "{} is not what the suite does now:\n{}\nIf that is meant, run it once with BLOB_CONFORMANCE_BLESS=1 and commit the file.",
            path.display(),
            differences.join("\n")
        ))
    }
}

fn differences(committed: &str, now: &str) -> Vec<String> {
    let lines = |text: &str| -> BTreeSet<String> {
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
    };
    let (committed, now) = (lines(committed), lines(now));
    let gone = committed.difference(&now).map(|line| format!("- {line}"));
    gone.chain(now.difference(&committed).map(|line| format!("+ {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::default();
        manifest.add("a", "tags", "one", "run".to_owned());
        manifest.add("b", "tags", "one", "run".to_owned());
        manifest.add("a", "tags", "two", "run".to_owned());
        manifest.add("b", "tags", "two", "waived: it rains".to_owned());
        manifest
    }

    #[test]
    fn configurations_are_named_where_they_differ() {
        let text = manifest().to_text();
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines, ["tags::one: run", "tags::two [a]: run", "tags::two [b]: waived: it rains"]);
    }

    #[test]
    fn a_case_that_disappears_is_a_difference() {
        let before = format!("{}tags::gone: run\n", manifest().to_text());
        assert_eq!(differences(&before, &manifest().to_text()), ["- tags::gone: run"]);
        assert_eq!(differences(&manifest().to_text(), &before), ["+ tags::gone: run"]);
        assert!(differences(&before, &before).is_empty());
    }
}
