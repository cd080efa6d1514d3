//! What holds for every Rust file: its name, its length, and what must not be in it.

use super::{Finding, tree::File};

/// Files that may be longer than [`MAX_LINES`], each with the reason.
const LONG_FILES: &[(&str, &str)] = &[];
const MAX_LINES: usize = 500;
const MANY_LINES: usize = 400;

/// Names that say nothing of what is in the file.
const NAMES: [&str; 7] = ["util", "utils", "common", "helper", "helpers", "types", "traits"];

const WORDS: [(&str, &str); 5] = [
    ("todo!(", "unfinished code"),
    ("unimplemented!(", "unfinished code"),
    ("dbg!(", "a trace that was left behind"),
    ("#[ignore", "a test that is not run; mend it or remove it"),
    ("[allow(", "a bare allow; write `#[expect(lint, reason = \"...\")]`"),
];

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    if !file.has_extension("rs") {
        return;
    }
    name(file, findings);
    length(file, findings);
    // The checks name what they look for.
    if !file.path.starts_with("xtask/src/tidy/") {
        words(file, findings);
        expectations(file, findings);
    }
}

fn name(file: &File, findings: &mut Vec<Finding>) {
    let module = file.path.split('/').map(|part| part.trim_end_matches(".rs"));
    for part in module.filter(|part| NAMES.contains(part)) {
        let message = format!("`{part}` says nothing; name the concept that the file holds");
        findings.push(Finding::failure(file, 0, message));
    }
}

fn length(file: &File, findings: &mut Vec<Finding>) {
    let n_lines = file.lines().count();
    let excused = LONG_FILES.iter().any(|(path, _)| *path == file.path);
    if n_lines > MAX_LINES && !excused {
        let message = format!("{n_lines} lines; at most {MAX_LINES}: one concept, one file");
        findings.push(Finding::failure(file, 0, message));
    } else if n_lines > MANY_LINES && !excused {
        findings.push(Finding::warning(file, 0, format!("{n_lines} lines; aim at 100 to 200")));
    }
}

fn words(file: &File, findings: &mut Vec<Finding>) {
    for (number, line) in file.lines() {
        // What only some test binaries use cannot be expected in all of them.
        let reasoned = |word: &str| word == "[allow(" && line.contains("reason = ");
        for (word, why) in WORDS.iter().filter(|(word, _)| holds(line, word) && !reasoned(word)) {
            findings.push(Finding::failure(file, number, format!("`{word}`: {why}")));
        }
    }
}

/// Whether the word begins in the line, and not in the middle of a longer name.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|head| head.chars().next_back());
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_')
    })
}

fn expectations(file: &File, findings: &mut Vec<Finding>) {
    for (at, _) in file.text.match_indices("[expect(") {
        let attribute = file.text.get(at..).unwrap_or_default();
        let attribute = attribute.split_once(")]").map_or(attribute, |(inside, _)| inside);
        if !attribute.contains("reason = ") {
            let number = 1 + file.text.get(..at).map_or(0, |head| head.matches('\n').count());
            findings.push(Finding::failure(file, number, "an expectation without its reason"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Severity;

    fn findings(path: &str, text: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        check(&File::new(path, text), &mut found);
        found
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for path in ["crates/a/src/util.rs", "crates/a/tests/common/mod.rs", "xtask/src/types.rs"] {
            assert_eq!(findings(path, "").len(), 1, "{path}");
        }
        assert!(findings("crates/a/src/utility_bill.rs", "").is_empty());
    }

    #[test]
    fn long_files_are_refused_and_rather_long_ones_warned_about() {
        let found = findings("crates/a/src/b.rs", &"\n".repeat(501));
        assert_eq!(found[0].severity, Severity::Failure);
        let found = findings("crates/a/src/b.rs", &"\n".repeat(500));
        assert_eq!(found[0].severity, Severity::Warning);
        assert!(findings("crates/a/src/b.rs", &"\n".repeat(400)).is_empty());
    }

    #[test]
    fn each_unwanted_word_is_found_with_its_line() {
        for text in ["\n  todo!()", "\nlet a = dbg!(1);", "\n#[ignore = \"slow\"]", "\n#![allow(dead_code)]"]
        {
            let found = findings("crates/a/src/b.rs", text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].line, 2, "{text}");
        }
    }

    #[test]
    fn parts_of_longer_names_are_not_words() {
        assert!(findings("crates/a/src/b.rs", "my_dbg!(1); nodbg!(2);").is_empty());
    }

    #[test]
    fn an_expectation_needs_a_reason() {
        assert!(findings("crates/a/src/b.rs", "#[expect(\n  lint,\n  reason = \"why\"\n)]").is_empty());
        let found = findings("crates/a/src/b.rs", "\n#[expect(lint)]\nfn a() { let reason = 1; }");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 2);
    }
}
