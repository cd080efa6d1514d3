//! Code that a document quotes: a fenced block whose first line names a file must be a part of that file.

use super::{
    Finding,
    tree::{File, Tree},
};

pub(super) fn check(file: &File, tree: &Tree, findings: &mut Vec<Finding>) {
    if !file.has_extension("md") {
        return;
    }
    let mut quoting: Option<(usize, String, String)> = None;
    for (number, line) in file.lines() {
        match (&mut quoting, line.strip_prefix("```")) {
            (None, Some(info)) => {
                // A block of another kind is walked through, too, so that its end is not taken for a beginning.
                let path = info.split_once(' ').map(|(_, path)| path.to_owned()).unwrap_or_default();
                quoting = Some((number, path, String::new()));
            }
            (Some((_, _, text)), None) => {
                text.push_str(line);
                text.push('\n');
            }
            (Some((start, path, text)), Some(_)) => {
                let is_quoted = || tree.file(path).is_some_and(|quoted| quoted.text.contains(text.as_str()));
                if !path.is_empty() && !is_quoted() {
                    let message = format!("quotes `{path}`, which does not say that");
                    findings.push(Finding::failure(file, *start, message));
                }
                quoting = None;
            }
            (None, None) => {}
        }
    }
    if let Some((start, ..)) = quoting {
        findings.push(Finding::failure(file, start, "a fenced block without an end"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> usize {
        let tree = Tree::of(&[("docs/a.md", text), ("src/a.rs", "fn a() {\n    b();\n}\n")]);
        let mut found = Vec::new();
        tree.files().iter().for_each(|file| check(file, &tree, &mut found));
        found.len()
    }

    #[test]
    fn what_a_file_says_may_be_quoted() {
        assert_eq!(findings("```\nx\n```\n```rust src/a.rs\n    b();\n}\n```\n```rust\ny\n```\n"), 0);
    }

    #[test]
    fn what_it_does_not_say_is_found() {
        assert_eq!(findings("```rust src/a.rs\n    c();\n```\n```rust src/b.rs\n    b();\n```\n"), 2);
    }
}
