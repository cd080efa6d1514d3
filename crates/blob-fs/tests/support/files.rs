//! What lies in the directory of a store that is closed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use blob_traits::Hash;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

const BLOBS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("blobs");

/// The segments of a store, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut segments = names(&dir.join("log"));
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    segments
}

pub(crate) fn last_segment(dir: &Path) -> PathBuf {
    segments(dir).pop().unwrap()
}

/// All files below a directory, in order.
pub(crate) fn all_files(dir: &Path) -> Vec<PathBuf> {
    let (dirs, mut files): (Vec<_>, Vec<_>) = names(dir).into_iter().partition(|path| path.is_dir());
    files.extend(dirs.iter().flat_map(|dir| all_files(dir)));
    files.sort();
    files
}

/// The files below a directory that this process has open, as far as the system tells.
pub(crate) fn open_files(dir: &Path) -> Vec<PathBuf> {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let files = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    files.filter(|path| path.starts_with(dir)).collect()
}

/// The bytes of all files, without the lock's text, which every attempt to open changes, and without those of the
/// index, in which redb notes that it is open.
pub(crate) fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = all_files(dir).into_iter().filter(|path| *path != dir.join("LOCK"));
    let bytes =
        |path: &PathBuf| if path.ends_with("index.redb") { Vec::new() } else { fs::read(path).unwrap() };
    files.map(|path| (path.clone(), bytes(&path))).collect()
}

pub(crate) fn assert_same(before: &BTreeMap<PathBuf, Vec<u8>>, after: &BTreeMap<PathBuf, Vec<u8>>) {
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "changed: {changed:?}");
}

fn names(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// Checks, in a store that was shut down, that `temp/` is empty and that `data/` and `partial/` have the files that rows
/// of the index name, and no others.
pub(crate) fn check_files(dir: &Path) {
    let (mut needed, mut allowed) = (BTreeSet::new(), BTreeSet::new());
    let index = Database::open(dir.join("index.redb")).unwrap();
    let rows = index.begin_read().unwrap().open_table(BLOBS).unwrap();
    for entry in rows.iter().unwrap() {
        let (hash, row) = entry.unwrap();
        let hash = Hash::from_bytes(*hash.value()).to_string();
        let row = row.value();
        let number = |at: usize| u64::from_le_bytes(row[at..at + 8].try_into().unwrap());
        let (kind, size, no) = (row[0], number(17), number(25));
        let name = |sub: &str, extension: &str| dir.join(sub).join(format!("{hash}-{no:016x}.{extension}"));
        let data = format!("data/{}", &hash[..2]);
        if kind == 2 {
            needed.insert(name(&data, "data"));
        }
        if (kind == 2 && size > 16 << 10) || (kind == 3 && no != 0) {
            needed.insert(name(&data, "obao4"));
        }
        if kind == 4 || kind == 5 {
            needed.extend(["data", "pairs", "bits"].map(|extension| name("partial", extension)));
            // A try to complete it may have failed.
            allowed.insert(name("partial", "obao4"));
        }
    }
    let files = ["data", "partial", "temp"].map(|sub| all_files(&dir.join(sub)));
    let there: BTreeSet<_> = files.into_iter().flatten().collect();
    let missing: Vec<_> = needed.difference(&there).collect();
    let garbage: Vec<_> = there.difference(&needed).filter(|path| !allowed.contains(*path)).collect();
    assert!(missing.is_empty() && garbage.is_empty(), "missing: {missing:?}, garbage: {garbage:?}");
}
