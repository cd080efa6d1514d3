//! The files that are committed, or would be by `git add --all`.

use std::{collections::BTreeSet, fs, io::ErrorKind, process::Command};

use crate::sh::{self, Error, Result};

/// All text files, by their paths from the root of the repository.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: Vec<File>,
    paths: BTreeSet<String>,
    tracked: BTreeSet<String>,
}

/// A text file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

impl Tree {
    pub(super) fn of_repository() -> Result<Self> {
        let tracked = list(&["--cached"])?;
        let paths: BTreeSet<String> =
            tracked.union(&list(&["--others", "--exclude-standard"])?).cloned().collect();
        let mut tree = Self { tracked, ..Self::default() };
        for path in paths {
            let absolute = sh::root().join(&path);
            match fs::read(&absolute) {
                // Bytes that are no text are nobody's to tidy.
                Ok(bytes) => tree.files.extend(String::from_utf8(bytes).ok().map(|t| File::new(&path, t))),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(source) => return Err(Error::Read { path: absolute, source }),
            }
            tree.paths.insert(path);
        }
        Ok(tree)
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let paths: BTreeSet<_> = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        let files = files.iter().map(|(path, text)| File::new(path, *text)).collect();
        Self { files, tracked: paths.clone(), paths }
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    pub(super) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a path from the root names a file, or a directory with files in it.
    pub(super) fn contains(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let directory = format!("{path}/");
        path.is_empty()
            || self.paths.contains(path)
            || self.paths.range(directory.clone()..).next().is_some_and(|next| next.starts_with(&directory))
    }

    pub(super) fn is_tracked(&self, path: &str) -> bool {
        self.tracked.contains(path)
    }
}

impl File {
    pub(super) fn new(path: &str, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), text: text.into() }
    }

    pub(super) fn has_extension(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, own)| own == extension)
    }

    /// Lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }
}

fn list(which: &[&str]) -> Result<BTreeSet<String>> {
    let mut git = Command::new("git");
    git.current_dir(sh::root()).args(["ls-files", "-z"]).args(which);
    Ok(sh::stdout(&mut git)?.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_exists_when_a_file_lies_in_it() {
        let tree = Tree::of(&[("docs/a.md", ""), ("docs-old", "")]);
        for there in ["docs", "docs/", "docs/a.md", "docs-old"] {
            assert!(tree.contains(there), "{there}");
        }
        for absent in ["doc", "docs/a", "docs/b.md"] {
            assert!(!tree.contains(absent), "{absent}");
        }
    }
}
