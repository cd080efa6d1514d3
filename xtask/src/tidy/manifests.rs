//! What holds for the manifests: descriptions, shared lints, sorted dependencies, committed lock files.

use super::{
    Finding,
    tree::{File, Tree},
};

pub(super) fn check(file: &File, findings: &mut Vec<Finding>) {
    let Some(directory) = file.path.strip_suffix("Cargo.toml") else { return };
    if !section(file, "package").is_empty() {
        package(file, findings);
    }
    if directory.is_empty() {
        sorted_dependencies(file, findings);
    }
}

/// Every workspace of this repository has its lock file committed.
pub(super) fn check_locks(tree: &Tree, findings: &mut Vec<Finding>) {
    for manifest in tree.files().iter().filter(|file| is_workspace_root(file)) {
        let lock = manifest.path.replace("Cargo.toml", "Cargo.lock");
        if tree.is_tracked(&manifest.path) && !tree.is_tracked(&lock) {
            findings.push(Finding::failure(manifest, 0, format!("{lock} is not committed")));
        }
    }
}

fn is_workspace_root(file: &File) -> bool {
    file.path.ends_with("Cargo.toml") && file.text.lines().any(|line| line == "[workspace]")
}

fn package(file: &File, findings: &mut Vec<Finding>) {
    if !section(file, "package").iter().any(|(_, line)| key(line) == Some("description")) {
        findings.push(Finding::failure(file, 0, "no description"));
    }
    let shares_lints = section(file, "lints").iter().any(|(_, line)| *line == "workspace = true");
    if !is_workspace_root(file) && !shares_lints {
        findings.push(Finding::failure(file, 0, "does not use the workspace's lints"));
    }
}

fn sorted_dependencies(file: &File, findings: &mut Vec<Finding>) {
    let dependencies = section(file, "workspace.dependencies");
    let names: Vec<_> =
        dependencies.iter().filter_map(|(number, line)| Some((*number, key(line)?))).collect();
    for (before, after) in names.iter().zip(names.iter().skip(1)) {
        if before.1 >= after.1 {
            let message = format!("`{}` comes before `{}`: sort the dependencies", after.1, before.1);
            findings.push(Finding::failure(file, after.0, message));
        }
    }
}

/// The lines below a `[name]` header, with their numbers.
fn section<'a>(file: &'a File, name: &str) -> Vec<(usize, &'a str)> {
    let header = format!("[{name}]");
    file.lines()
        .skip_while(|(_, line)| *line != header)
        .skip(1)
        .take_while(|(_, line)| !line.starts_with('['))
        .collect()
}

/// The key that a line sets, if it does; lines inside a longer value are indented and do not.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    let key = key.split('.').next().unwrap_or(key).trim_end();
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&File::new(path, text), &mut found);
        found.iter().map(ToString::to_string).collect()
    }

    const GOOD: &str = "[package]\nname = \"a\"\ndescription = \"b\"\n\n[lints]\nworkspace = true\n";

    #[test]
    fn a_crate_has_a_description_and_shares_the_lints() {
        assert_eq!(findings("crates/a/Cargo.toml", GOOD), Vec::<String>::new());
        let bare = GOOD.replace("description", "keywords");
        assert_eq!(findings("crates/a/Cargo.toml", &bare).len(), 1);
        let own_lints = GOOD.replace("workspace = true", "rust = {}");
        assert_eq!(findings("crates/a/Cargo.toml", &own_lints).len(), 1);
    }

    #[test]
    fn a_workspace_of_its_own_has_lints_of_its_own() {
        let own = "[workspace]\n\n[package]\ndescription = \"b\"\n";
        assert_eq!(findings("peers/Cargo.toml", own), Vec::<String>::new());
    }

    #[test]
    fn dependencies_are_sorted() {
        let sorted = "[workspace.dependencies]\na = \"1\"\nb = { version = \"1\", features = [\n    \"x\",\n] }\nb-c.path = \"c\"\n";
        assert_eq!(findings("Cargo.toml", sorted), Vec::<String>::new());
        let unsorted = "[workspace.dependencies]\nb = \"1\"\na = \"1\"\n\n[profile.release]\na = 1\n";
        let found = findings("Cargo.toml", unsorted);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("Cargo.toml:3:"), "{found:?}");
    }

    #[test]
    fn each_workspace_commits_its_lock_file() {
        let mut found = Vec::new();
        let locked = Tree::of(&[("Cargo.toml", "[workspace]\n"), ("Cargo.lock", "")]);
        check_locks(&locked, &mut found);
        assert!(found.is_empty());
        check_locks(&Tree::of(&[("peers/Cargo.toml", "[workspace]\n"), ("Cargo.lock", "")]), &mut found);
        assert_eq!(found.len(), 1);
    }
}
