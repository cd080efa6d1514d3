//! The set of what is reachable: sorted prefixes of hashes.

use blob_traits::Hash;

/// The first 8 bytes of a hash as a number, so that prefixes have the order of hashes. Two hashes that share them are taken for
/// one: that keeps garbage and loses nothing.
pub(crate) type Prefix = u64;

pub(crate) fn prefix(hash: &Hash) -> Prefix {
    let mut prefix = [0; 8];
    hash.as_bytes().iter().zip(&mut prefix).for_each(|(byte, to)| *to = *byte);
    Prefix::from_be_bytes(prefix)
}

/// What is reachable in one interval of prefixes. 8 bytes a hash at rest, up to 16 while it grows.
///
/// Where there is not enough memory for all, the interval shrinks from above, and what lies beyond it is for another pass.
#[derive(Debug)]
pub(crate) struct LiveSet {
    prefixes: Vec<Prefix>,
    /// So many are sorted and free of duplicates.
    n_sorted: usize,
    first: Prefix,
    last: Prefix,
    max_len: usize,
}

impl LiveSet {
    /// An empty set for the prefixes from `first` on, that takes up to `max_bytes` of memory.
    pub(crate) fn new(first: Prefix, max_bytes: usize) -> Self {
        // While a vector grows it may have twice the room that it needs.
        let max_len = (max_bytes / 16).max(2);
        Self { prefixes: Vec::new(), n_sorted: 0, first, last: Prefix::MAX, max_len }
    }

    /// Adds a hash. It may come again.
    pub(crate) fn insert(&mut self, hash: &Hash) {
        let prefix = prefix(hash);
        if prefix < self.first || prefix > self.last {
            return;
        }
        if self.prefixes.len() >= self.max_len {
            self.make_room();
        }
        // It may have been shrunk meanwhile.
        if prefix <= self.last {
            // Duplicates are the common case of much memory: many sequences list the same children.
            if self.prefixes.len() >= 2 * self.n_sorted.max(1 << 16) {
                self.sort();
            }
            self.prefixes.push(prefix);
        }
    }

    /// Sorts, so that the set can be asked.
    pub(crate) fn finish(&mut self) {
        self.sort();
    }

    fn sort(&mut self) {
        self.prefixes.sort_unstable();
        self.prefixes.dedup();
        self.n_sorted = self.prefixes.len();
    }

    /// Removes duplicates, and if that does not help, the upper half.
    fn make_room(&mut self) {
        self.sort();
        if self.prefixes.len() > self.max_len / 2 {
            let half = (self.prefixes.len() / 2).max(1);
            if let Some(last) = half.checked_sub(1).and_then(|at| self.prefixes.get(at)) {
                self.last = *last;
            }
            self.prefixes.truncate(half);
            self.n_sorted = half;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Where the next pass begins; `None` if this one covers all there is.
    pub(crate) fn next_first(&self) -> Option<Prefix> {
        self.last.checked_add(1)
    }

    /// Walks along with an ascending listing.
    pub(crate) fn cursor(&self) -> Cursor<'_> {
        Cursor { set: self, at: 0 }
    }
}

/// Merges the set with ascending hashes: sequential work only.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    set: &'a LiveSet,
    at: usize,
}

/// What the set knows of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Live,
    Garbage,
    /// It is for another pass.
    Elsewhere,
}

impl Cursor<'_> {
    /// Looks a hash up that is not below those before it.
    pub(crate) fn look_up(&mut self, hash: &Hash) -> Verdict {
        let prefix = prefix(hash);
        if prefix < self.set.first || prefix > self.set.last {
            return Verdict::Elsewhere;
        }
        while self.set.prefixes.get(self.at).is_some_and(|live| *live < prefix) {
            self.at += 1;
        }
        if self.set.prefixes.get(self.at) == Some(&prefix) { Verdict::Live } else { Verdict::Garbage }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(n: u64) -> Vec<Hash> {
        let mut hashes: Vec<_> = (0..n).map(|i| Hash::new(i.to_le_bytes())).collect();
        hashes.sort();
        hashes
    }

    #[test]
    fn what_was_inserted_is_live_and_nothing_else() {
        let hashes = hashes(1000);
        let mut set = LiveSet::new(0, usize::MAX);
        for hash in hashes.iter().rev().step_by(3).chain(hashes.iter().rev().step_by(3)) {
            set.insert(hash);
        }
        set.finish();
        assert_eq!((set.len(), set.next_first()), (334, None));
        let mut cursor = set.cursor();
        let live: Vec<_> = hashes.iter().filter(|hash| cursor.look_up(hash) == Verdict::Live).collect();
        let mut wanted: Vec<_> = hashes.iter().rev().step_by(3).collect();
        wanted.reverse();
        assert_eq!(live, wanted);
    }

    #[test]
    fn passes_with_little_memory_cover_everything_once() {
        let hashes = hashes(5000);
        let mut first = Some(0);
        let (mut n_live, mut n_garbage, mut n_passes) = (0, 0, 0);
        while let Some(from) = first {
            let mut set = LiveSet::new(from, 16 * 100);
            hashes.iter().step_by(2).for_each(|hash| set.insert(hash));
            set.finish();
            assert!(set.len() <= 100);
            let mut cursor = set.cursor();
            for hash in &hashes {
                match cursor.look_up(hash) {
                    Verdict::Live => n_live += 1,
                    Verdict::Garbage => n_garbage += 1,
                    Verdict::Elsewhere => {}
                }
            }
            first = set.next_first();
            n_passes += 1;
        }
        assert_eq!((n_live, n_garbage), (2500, 2500));
        assert!((25..=100).contains(&n_passes), "{n_passes}");
    }
}
