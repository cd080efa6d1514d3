//! The numbered rules of the file store, and the promises of the traits: each that is cited exists, and none is stated
//! twice.

use std::collections::BTreeSet;

use super::{
    Finding,
    tree::{File, Tree},
};

/// The letters, and where what they number is stated.
const NUMBERED: [(char, &str); 2] = [('E', "docs/engine.md"), ('G', "docs/contract.md")];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for (letter, path) in NUMBERED {
        if let Some(rules) = tree.file(path) {
            check_letter(letter, rules, tree, findings);
        }
    }
}

fn check_letter(letter: char, rules: &File, tree: &Tree, findings: &mut Vec<Finding>) {
    let mut stated = BTreeSet::new();
    for (line, rule) in rules.lines().filter_map(|(line, text)| Some((line, stated_by(letter, text)?))) {
        if !stated.insert(rule) {
            findings.push(Finding::failure(rules, line, format!("{letter}{rule} is stated a second time")));
        }
    }
    for file in tree.files() {
        for (line, text) in file.lines() {
            let cited = citing_part(file, text).into_iter().flat_map(|text| cited_by(letter, text));
            for rule in cited.filter(|rule| !stated.contains(rule)) {
                findings.push(Finding::failure(
                    file,
                    line,
                    format!("{letter}{rule} is not in {}", rules.path),
                ));
            }
        }
    }
}

/// The part of a line that speaks to a reader: comments of our crates, and all of the documents.
fn citing_part<'a>(file: &File, line: &'a str) -> Option<&'a str> {
    if file.has_extension("rs") && file.path.starts_with("crates/") {
        line.split_once("//").map(|(_, comment)| comment)
    } else if file.has_extension("md") && (file.path.starts_with("docs/") || file.path == "ARCHITECTURE.md") {
        Some(line)
    } else {
        None
    }
}

/// The rule that a line of the rules begins with.
pub(super) fn stated_by(letter: char, line: &str) -> Option<u32> {
    leading_rule(letter, line.trim_start_matches(['-', '*', '#', '|', ' ']))
}

fn cited_by(letter: char, text: &str) -> impl Iterator<Item = u32> {
    text.match_indices(letter).filter_map(move |(at, _)| {
        let before = text.get(..at).and_then(|head| head.chars().next_back());
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        leading_rule(letter, text.get(at..)?)
    })
}

/// A letter and one to three digits, not followed by more of a word. (Four digits are a compiler's error code.)
fn leading_rule(letter: char, text: &str) -> Option<u32> {
    let rest = text.strip_prefix(letter)?;
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let digits = rest.get(..end)?;
    (digits.len() <= 3 && !digits.starts_with('0')).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "docs/engine.md";
    const STATED: &str = "# Rules E1..E3\n\n- E1 The log decides.\n- **E2** Order.\n| E3 | table |\n";

    fn findings(path: &str, text: &str) -> usize {
        let mut found = Vec::new();
        check(&Tree::of(&[(RULES, STATED), (path, text)]), &mut found);
        found.len()
    }

    #[test]
    fn rules_that_exist_may_be_cited() {
        assert_eq!(
            findings("crates/a/src/lib.rs", "/// See E1, E2-E3 and (E3).\nlet a = 1E9; // E0432, E2E\n"),
            0
        );
    }

    #[test]
    fn a_rule_that_is_not_there_is_found_in_comments_and_documents() {
        assert_eq!(findings("crates/a/src/lib.rs", "let a = b; // as E4 says, E5 too\n"), 2);
        assert_eq!(findings("docs/on-disk-format.md", "Header (E10).\n"), 1);
        assert_eq!(findings("ARCHITECTURE.md", "E4\n"), 1);
    }

    #[test]
    fn code_and_other_files_cite_nothing() {
        assert_eq!(findings("crates/a/src/lib.rs", "enum E9 { E8 }\n"), 0);
        assert_eq!(findings("xtask/src/a.rs", "// E9\n"), 0);
    }

    #[test]
    fn a_rule_is_stated_once() {
        let mut found = Vec::new();
        check(&Tree::of(&[(RULES, "- E1 One.\n- E1 Two.\n")]), &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn without_the_rules_nothing_is_checked() {
        let mut found = Vec::new();
        check(&Tree::of(&[("crates/a/src/lib.rs", "// E99\n")]), &mut found);
        assert!(found.is_empty());
    }
}
