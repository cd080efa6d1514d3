//! What happens to the files of a store.

use std::{collections::BTreeMap, path::PathBuf};

use proptest::prelude::*;

/// Damage to one file, or to two. All numbers are taken modulo what there is; files are counted in the order of their names.
#[derive(Clone, Debug)]
pub(crate) enum Blow {
    Flip { file: usize, at: usize, bit: u8 },
    Zero { file: usize, at: usize, len: usize },
    Cut { file: usize, to: usize },
    Extend { file: usize, by: usize },
    Swap { file: usize, with: usize },
    Lose { file: usize },
    LoseIndex,
}

/// Any number of blows, and which files they hit: most of a store's files are those of its large blobs.
pub(crate) fn blows() -> impl Strategy<Value = Vec<Blow>> {
    let file = any::<usize>;
    let blow = prop_oneof![
        6 => (file(), any::<usize>(), 0..8_u8).prop_map(|(file, at, bit)| Blow::Flip { file, at, bit }),
        3 => (file(), any::<usize>(), 1..40_000_usize).prop_map(|(file, at, len)| Blow::Zero { file, at, len }),
        2 => (file(), any::<usize>()).prop_map(|(file, to)| Blow::Cut { file, to }),
        1 => (file(), 1..40_000_usize).prop_map(|(file, by)| Blow::Extend { file, by }),
        1 => (file(), file()).prop_map(|(file, with)| Blow::Swap { file, with }),
        1 => file().prop_map(|file| Blow::Lose { file }),
        1 => Just(Blow::LoseIndex),
    ];
    proptest::collection::vec(blow, 1..6)
}

/// The files after some blows.
pub(crate) fn struck(files: &BTreeMap<PathBuf, Vec<u8>>, blows: &[Blow]) -> BTreeMap<PathBuf, Vec<u8>> {
    let names: Vec<_> = files.keys().cloned().collect();
    let mut files = files.clone();
    for blow in blows {
        blow.strike(&names, &mut files);
    }
    files
}

impl Blow {
    fn strike(&self, names: &[PathBuf], files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        match self {
            Self::Flip { file, at, bit } => change(files, name(names, *file), |bytes| {
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
            }),
            Self::Zero { file, at, len } => change(files, name(names, *file), |bytes| {
                let at = at % bytes.len();
                let end = (at + len).min(bytes.len());
                bytes[at..end].fill(0);
            }),
            Self::Cut { file, to } => change(files, name(names, *file), |bytes| {
                bytes.truncate(to % bytes.len());
            }),
            Self::Extend { file, by } => change(files, name(names, *file), |bytes| {
                bytes.resize(bytes.len() + by, 7);
            }),
            Self::Swap { file, with } => {
                let (file, with) = (name(names, *file), name(names, *with));
                if let (Some(a), Some(b)) = (files.get(file).cloned(), files.get(with).cloned()) {
                    files.insert(file.clone(), b);
                    files.insert(with.clone(), a);
                }
            }
            Self::Lose { file } => drop(files.remove(name(names, *file))),
            Self::LoseIndex => drop(files.remove(&PathBuf::from("index.redb"))),
        }
    }
}

fn name(names: &[PathBuf], number: usize) -> &PathBuf {
    &names[number % names.len()]
}

/// Changes a file that is there and not empty.
fn change(files: &mut BTreeMap<PathBuf, Vec<u8>>, name: &PathBuf, change: impl FnOnce(&mut Vec<u8>)) {
    if let Some(bytes) = files.get_mut(name).filter(|bytes| !bytes.is_empty()) {
        change(bytes);
    }
}
