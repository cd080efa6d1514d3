//! Which numbers of files this session has given out: whatever has one of them may be in use, also where no record says
//! so yet.

use std::{
    collections::HashSet,
    ffi::OsString,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::layout::{FileNo, parse_blob_file, parse_temp_file};

/// So many are kept before it is looked which of them are still needed.
const GENERATION: usize = 1 << 15;

/// The numbers that were given out, without those whose files have gone from where files are made.
#[derive(Debug, Default)]
pub(crate) struct Issued(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    recent: HashSet<FileNo>,
    /// By now their files are there, or will never be.
    older: HashSet<FileNo>,
}

impl Issued {
    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a number. `names` tells what lies in `temp/` and `partial/`, and is asked once in a while; `None`
    /// where that cannot be told.
    pub(crate) fn note(&self, no: FileNo, names: impl FnOnce() -> Option<Vec<OsString>>) {
        let mut numbers = self.lock();
        numbers.recent.insert(no);
        if numbers.recent.len() < GENERATION {
            return;
        }
        let recent = std::mem::take(&mut numbers.recent);
        drop(numbers);
        let there: Option<HashSet<FileNo>> = names().map(|names| names.iter().filter_map(number).collect());
        let mut numbers = self.lock();
        if let Some(there) = there {
            numbers.older.retain(|no| there.contains(no));
        }
        numbers.older.extend(recent);
    }

    /// Whether this session has given out a number, as far as it matters.
    pub(crate) fn contains(&self, no: FileNo) -> bool {
        let numbers = self.lock();
        numbers.recent.contains(&no) || numbers.older.contains(&no)
    }
}

fn number(name: &OsString) -> Option<FileNo> {
    parse_blob_file(name).map(|(_, no, _)| no).or_else(|| parse_temp_file(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_until_their_files_have_gone() {
        let issued = Issued::default();
        let last = 3 * GENERATION as u64;
        for no in 1..=last {
            // The file of the first is the only one that stays.
            issued.note(FileNo(no), || Some(vec!["0000000000000001.data".into()]));
        }
        assert!(issued.contains(FileNo(1)) && issued.contains(FileNo(last)));
        assert!(!issued.contains(FileNo(2)) && !issued.contains(FileNo(last + 1)));
        assert!(issued.lock().older.len() <= GENERATION + 1);
    }
}
