//! Checks of committed files as text: what no compiler looks at.

mod contract;
mod links;
mod manifests;
mod quotes;
mod rules;
mod source;
mod text;
mod tree;

use std::fmt;

use tree::{File, Tree};

use crate::sh::{Error, Result};

/// Something that should be otherwise.
#[derive(Debug)]
struct Finding {
    path: String,
    /// From 1; 0 when the finding is about the file as a whole.
    line: usize,
    severity: Severity,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Warning,
    Failure,
}

pub(crate) fn run() -> Result<()> {
    let tree = Tree::of_repository()?;
    let findings = check(&tree);
    for finding in &findings {
        eprintln!("tidy: {finding}");
    }
    let n_failures = findings.iter().filter(|f| f.severity == Severity::Failure).count();
    if n_failures == 0 {
        println!("tidy: {} files, {} warning(s)", tree.files().len(), findings.len());
        Ok(())
    } else {
        Err(Error::Findings { check: "tidy", n_findings: n_failures })
    }
}

fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files() {
        text::check(file, &mut findings);
        source::check(file, &mut findings);
        links::check(file, tree, &mut findings);
        manifests::check(file, &mut findings);
        quotes::check(file, tree, &mut findings);
    }
    manifests::check_locks(tree, &mut findings);
    rules::check(tree, &mut findings);
    contract::check(tree, &mut findings);
    findings
}

impl Finding {
    fn failure(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, severity: Severity::Failure, message: message.into() }
    }

    fn warning(file: &File, line: usize, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::failure(file, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        let severity = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, ": {severity}{}", self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let file = File::new("docs/a.md", "");
        assert_eq!(Finding::failure(&file, 3, "bad").to_string(), "docs/a.md:3: bad");
        assert_eq!(Finding::warning(&file, 0, "long").to_string(), "docs/a.md: warning: long");
    }
}
