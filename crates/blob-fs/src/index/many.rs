//! Looking many rows up at a time.

use blob_traits::{Hash, Result};

use super::IndexReader;
use crate::row::BlobRow;

/// From so many keys on it pays to read the rows between them, too.
const MANY: usize = 64;
/// So many rows that nobody has asked for are passed over before the next key is looked up.
const SKIPPED: usize = 8;

impl IndexReader {
    /// Hands out the rows of some blobs. Those of many, in ascending order, are read side by side.
    pub(crate) fn rows_of(&self, hashes: &[Hash], mut sink: impl FnMut(Hash, BlobRow)) -> Result<()> {
        let mut rest = hashes;
        if rest.len() >= MANY && rest.is_sorted() {
            while let Some(first) = rest.first() {
                rest = self.merge(first, rest, &mut sink)?;
            }
        }
        for hash in rest {
            if let Some(row) = self.blob(hash)? {
                sink(*hash, row);
            }
        }
        Ok(())
    }

    /// Goes through the rows from the first of some hashes on. Returns the hashes before which too many other rows lie.
    fn merge<'h>(
        &self,
        first: &Hash,
        hashes: &'h [Hash],
        sink: &mut impl FnMut(Hash, BlobRow),
    ) -> Result<&'h [Hash]> {
        let mut rest = hashes;
        let mut n_others = 0;
        for entry in self.blobs_from(first)? {
            let (hash, row) = entry?;
            while let Some((_, behind)) = rest.split_first().filter(|(next, _)| **next < hash) {
                rest = behind;
            }
            match rest.split_first() {
                None => return Ok(rest),
                Some((next, behind)) if *next == hash => {
                    sink(hash, row);
                    (rest, n_others) = (behind, 0);
                }
                Some(_) if n_others == SKIPPED => return Ok(rest),
                Some(_) => n_others += 1,
            }
        }
        Ok(&[])
    }
}
