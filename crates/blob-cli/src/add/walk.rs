//! The files below a directory, with the names that a collection gives them.

use std::{
    fs,
    os::unix::fs::FileTypeExt,
    path::{Component, Path, PathBuf},
};

use blob_traits::Error;
use walkdir::{DirEntry, WalkDir};

use crate::exit::Failure;

/// A regular file.
#[derive(Debug)]
pub(super) struct Found {
    /// The way to it from the directory, with slashes on every system.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) n_bytes: u64,
}

/// What is below a directory. Empty directories are nothing.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Sorted by name.
    pub(super) files: Vec<Found>,
    /// What was left out, and why.
    pub(super) skipped: Vec<Failure>,
}

/// What to do with what a collection cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    Refuse,
    Skip,
}

/// Finds all files below a directory, but for those of the store. Calls `on_file` for each.
pub(super) fn walk(
    root: &Path,
    store: &Path,
    special: Special,
    on_file: &dyn Fn(&Found),
) -> Result<Scan, Failure> {
    let store = place_below(root, store);
    if store.as_deref() == Some(root) {
        return Err(Failure::StoreInside { path: root.to_owned() });
    }
    let mut scan = Scan::default();
    let mut entries = WalkDir::new(root).min_depth(1).into_iter();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| failed(root, e))?;
        match look_at(root, store.as_deref(), &entry) {
            Ok(found) => {
                found.iter().for_each(on_file);
                scan.files.extend(found);
            }
            Err(reason) if may_be_skipped(&reason, special) => {
                if entry.file_type().is_dir() {
                    entries.skip_current_dir();
                }
                scan.skipped.push(reason);
            }
            Err(reason) => return Err(reason),
        }
    }
    scan.files.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(scan)
}

/// Returns a regular file, nothing for a directory, and a refusal for everything else.
fn look_at(root: &Path, store: Option<&Path>, entry: &DirEntry) -> Result<Option<Found>, Failure> {
    let path = entry.path().to_owned();
    if store == Some(entry.path()) {
        return Err(Failure::StoreInside { path });
    }
    let Some(name) = name_below(root, entry.path()) else { return Err(Failure::NonUtf8Name { path }) };
    let kind = entry.file_type();
    if kind.is_dir() {
        return Ok(None);
    }
    if let Some(what) = special(kind) {
        return Err(Failure::Special { path, what });
    }
    let n_bytes = entry.metadata().map_err(|e| failed(root, e))?.len();
    Ok(Some(Found { name, path, n_bytes }))
}

fn special(kind: fs::FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_symlink() => Some("a symbolic link"),
        kind if kind.is_fifo() => Some("a fifo"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

fn may_be_skipped(reason: &Failure, special: Special) -> bool {
    match reason {
        Failure::StoreInside { .. } => true,
        Failure::NonUtf8Name { .. } | Failure::Special { .. } => special == Special::Skip,
        _ => false,
    }
}

fn name_below(root: &Path, path: &Path) -> Option<String> {
    let components = path.strip_prefix(root).ok()?.components();
    let names = components.map(|component| match component {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    Some(names.collect::<Option<Vec<_>>>()?.join("/"))
}

/// Where the walk meets the store, if it does. Links lead to one place by several paths.
fn place_below(root: &Path, store: &Path) -> Option<PathBuf> {
    let real = |path: &Path| fs::canonicalize(path).ok();
    let below = real(store)?.strip_prefix(real(root)?).ok()?.to_owned();
    // Joining nothing would add a slash.
    Some(if below.as_os_str().is_empty() { root.to_owned() } else { root.join(below) })
}

fn failed(root: &Path, error: walkdir::Error) -> Failure {
    let path = error.path().unwrap_or(root).to_owned();
    Error::io("read the directory", path, error.into()).into()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/deep")).unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        for name in ["a.txt", "a/b", "a/deep/c", "z"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        root
    }

    fn walk(root: &Path, store: &Path, special: Special) -> Result<Scan, Failure> {
        super::walk(root, store, special, &|_| {})
    }

    fn names(scan: &Scan) -> Vec<&str> {
        scan.files.iter().map(|found| found.name.as_str()).collect()
    }

    #[test]
    fn names_are_relative_and_sorted_as_a_whole() {
        let root = tree();
        let scan = walk(root.path(), Path::new("/nowhere"), Special::Refuse).unwrap();
        assert_eq!(names(&scan), ["a.txt", "a/b", "a/deep/c", "z"]);
        assert_eq!(scan.files[1].n_bytes, 3);
        assert!(scan.skipped.is_empty());
    }

    #[test]
    fn special_entries_are_refused_or_left_out() {
        let bad_file = OsStr::from_bytes(b"bad\xff");
        let bad_dir = OsStr::from_bytes(b"dir\xff");
        for make in [
            &|root: &Path| symlink("z", root.join("link")).unwrap(),
            &|root: &Path| symlink("a", root.join("link")).unwrap(),
            &|root: &Path| drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap()),
            &|root: &Path| fs::write(root.join(bad_file), "x").unwrap(),
            &|root: &Path| {
                fs::create_dir(root.join(bad_dir)).unwrap();
                fs::write(root.join(bad_dir).join("x"), "x").unwrap();
            },
        ] as [&dyn Fn(&Path); 5]
        {
            let root = tree();
            make(root.path());
            let refused = walk(root.path(), Path::new("/nowhere"), Special::Refuse).unwrap_err();
            assert!(matches!(refused, Failure::Special { .. } | Failure::NonUtf8Name { .. }));
            let scan = walk(root.path(), Path::new("/nowhere"), Special::Skip).unwrap();
            assert_eq!(names(&scan), ["a.txt", "a/b", "a/deep/c", "z"]);
            assert_eq!(scan.skipped.len(), 1);
        }
    }

    #[test]
    fn the_store_is_left_out() {
        let root = tree();
        symlink(root.path().join("a"), root.path().with_extension("link")).unwrap();
        let scan = walk(root.path(), &root.path().with_extension("link"), Special::Refuse).unwrap();
        assert_eq!(names(&scan), ["a.txt", "z"]);
        assert!(matches!(&scan.skipped[..], [Failure::StoreInside { .. }]));
        fs::remove_file(root.path().with_extension("link")).unwrap();
        let itself = walk(root.path(), root.path(), Special::Skip);
        assert!(matches!(itself, Err(Failure::StoreInside { .. })));
    }
}
