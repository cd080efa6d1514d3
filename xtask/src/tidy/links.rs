//! What the documents point to: relative links, and paths of this repository in backticks.

use super::{
    Finding,
    tree::{File, Tree},
};

/// What a path of this repository begins with, where a document quotes one.
const ROOTS: [&str; 5] = ["crates/", "docs/", "xtask/", "benches/", "peers/"];

pub(super) fn check(file: &File, tree: &Tree, findings: &mut Vec<Finding>) {
    if !file.has_extension("md") {
        return;
    }
    // A changelog speaks of what once was.
    let quotes_count = file.path != "CHANGELOG.md";
    for (number, line) in prose(file) {
        let (text, quotes) = split_code(line);
        for target in link_targets(&text) {
            if resolve(&file.path, target).is_none_or(|path| !tree.contains(&path)) {
                findings.push(Finding::failure(
                    file,
                    number,
                    format!("link to `{target}`, which is not there"),
                ));
            }
        }
        for path in quotes.iter().filter_map(|quote| repository_path(quote)) {
            if quotes_count && !tree.contains(path) {
                findings.push(Finding::failure(
                    file,
                    number,
                    format!("speaks of `{path}`, which is not there"),
                ));
            }
        }
    }
}

/// Lines outside fenced code.
fn prose(file: &File) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    file.lines().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// The text of a line without its inline code, and the inline code.
fn split_code(line: &str) -> (String, Vec<&str>) {
    let parts = || line.split('`').enumerate();
    let text = parts().filter(|(i, _)| i % 2 == 0).map(|(_, part)| part).collect();
    (text, parts().filter(|(i, _)| i % 2 == 1).map(|(_, part)| part).collect())
}

/// Targets of links that lie in the repository.
fn link_targets(text: &str) -> impl Iterator<Item = &str> {
    let inline = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let definition = text.strip_prefix('[').and_then(|rest| rest.split_once("]: ")).map(|(_, target)| target);
    inline.chain(definition).filter_map(|target| target.split_whitespace().next()).filter(|target| {
        !target.starts_with('#') && !target.contains("://") && !target.starts_with("mailto:")
    })
}

/// The path from the root that a link in `from` names; none when it leaves the repository.
fn resolve(from: &str, target: &str) -> Option<String> {
    let path = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The quoted text as a path of this repository, if it looks like one. Patterns and placeholders do not.
fn repository_path(quote: &str) -> Option<&str> {
    let path = quote.split_once(':').map_or(quote, |(path, _)| path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    (ROOTS.iter().any(|root| path.starts_with(root)) && path.chars().all(plain)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let tree = Tree::of(&[(path, text), ("docs/glossary.md", ""), ("crates/a/src/lib.rs", "")]);
        let mut found = Vec::new();
        check(&tree.files()[0], &tree, &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_are_resolved_from_the_file_that_holds_them() {
        let good = "[a](glossary.md#tag) [b](../crates/a) [c](https://x.example/y) [d](#here) [e](../)\n[f]: glossary.md\n";
        assert_eq!(findings("docs/b.md", good), Vec::<String>::new());
    }

    #[test]
    fn links_to_nowhere_are_found() {
        for bad in ["[a](gone.md)", "[a](../../outside)", "[a](/docs/gone.md \"title\")", "[a]: gone.md"] {
            assert_eq!(findings("docs/b.md", bad).len(), 1, "{bad}");
        }
    }

    #[test]
    fn quoted_paths_must_exist() {
        let good =
            "`crates/a/src/lib.rs:12`, `docs/`, `crates/<name>`, `crates/*/src`, `data/ab/x`, `cargo x`";
        assert_eq!(findings("README.md", good), Vec::<String>::new());
        assert_eq!(findings("README.md", "see `crates/b` and `docs/gone.md`").len(), 2);
    }

    #[test]
    fn fenced_code_and_the_changelog_quote_what_they_like() {
        assert_eq!(findings("README.md", "```\n[a](gone.md) `docs/gone.md`\n```\n"), Vec::<String>::new());
        assert_eq!(findings("CHANGELOG.md", "`docs/gone.md`"), Vec::<String>::new());
    }

    #[test]
    fn a_link_in_inline_code_is_no_link() {
        assert_eq!(findings("README.md", "`[a](gone.md)`"), Vec::<String>::new());
    }
}
