//! Removing many rows at a time.

use blob_traits::Hash;
use redb::{ReadableTableMetadata, Table};

use crate::row::BlobRow;

/// So many removals are looked at together.
const WINDOW: usize = 1024;
/// It pays to go through all rows between the first and the last where at least one in so many is to be removed.
const ONE_IN: u128 = 4;

/// Removes the rows of blobs in ascending order, and hands out what they were.
///
/// Neighbours, as collection removes them, go in one pass: a page is changed once, not once for each of its rows.
pub(super) fn remove_rows(
    table: &mut Table<'_, &'static [u8; 32], &'static [u8]>,
    hashes: &[Hash],
    mut removed: impl FnMut(Option<BlobRow>),
) -> Result<(), redb::Error> {
    for window in hashes.chunks(WINDOW) {
        match (window.first(), window.last()) {
            (Some(first), Some(last)) if is_dense(window.len(), first, last, table.len()?) => {
                let mut next = window.iter().map(Hash::as_bytes).peekable();
                table.retain_in::<&[u8; 32], _>(first.as_bytes()..=last.as_bytes(), |key, row| {
                    while next.next_if(|hash| *hash < key).is_some() {}
                    let goes = next.next_if_eq(&key).is_some();
                    if goes {
                        removed(BlobRow::decode(row));
                    }
                    !goes
                })?;
            }
            _ => {
                for hash in window {
                    let row = table.remove(hash.as_bytes())?;
                    removed(row.and_then(|row| BlobRow::decode(row.value())));
                }
            }
        }
    }
    Ok(())
}

/// Estimates, from how far apart two hashes are, whether many of the rows between them are meant.
fn is_dense(n_hashes: usize, first: &Hash, last: &Hash, n_rows: u64) -> bool {
    let apart = prefix(last).saturating_sub(prefix(first));
    // Hashes are spread evenly.
    let n_between = (u128::from(n_rows) * u128::from(apart)) >> 64;
    n_hashes > 16 && n_between <= ONE_IN * n_hashes as u128
}

fn prefix(hash: &Hash) -> u64 {
    hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableTable, backends::InMemoryBackend};

    use super::*;
    use crate::{
        index::BLOBS,
        row::{BlobState, Place},
    };

    fn row(number: u32) -> BlobRow {
        let place = Place { segment: 1, offset: number };
        BlobRow { seq: u64::from(number), place, state: BlobState::Small { size: number } }
    }

    /// Removes some of 10,000 rows, every one of which exists but those past the end.
    fn check(is_removed: impl Fn(u32) -> bool) {
        let mut hashes: Vec<(Hash, u32)> =
            (0..10_100_u32).map(|number| (Hash::new(number.to_le_bytes()), number)).collect();
        let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = db.begin_write().unwrap();
        let mut table = txn.open_table(BLOBS).unwrap();
        for (hash, number) in hashes.iter().filter(|(_, number)| *number < 10_000) {
            table.insert(hash.as_bytes(), row(*number).encode().as_slice()).unwrap();
        }
        hashes.sort_unstable();
        let goes: Vec<_> = hashes.iter().filter(|(_, number)| is_removed(*number)).collect();
        let mut removed = Vec::new();
        let asked: Vec<Hash> = goes.iter().map(|(hash, _)| *hash).collect();
        remove_rows(&mut table, &asked, |row| removed.extend(row)).unwrap();
        let there = |number: u32| number < 10_000;
        let wanted: Vec<_> =
            goes.iter().filter(|(_, number)| there(*number)).map(|(_, number)| row(*number)).collect();
        assert_eq!(removed, wanted);
        let left = table.iter().unwrap().map(|entry| Hash::from_bytes(*entry.unwrap().0.value()));
        let kept = hashes.iter().filter(|(_, number)| there(*number) && !is_removed(*number));
        assert!(left.eq(kept.map(|(hash, _)| *hash)));
    }

    #[test]
    fn rows_that_are_named_go_and_no_others() {
        check(|_| false);
        check(|_| true);
        check(|number| number % 10 != 0);
        check(|number| number % 3 == 0);
        // Far apart.
        check(|number| number % 100 == 0);
        check(|number| number == 5);
    }

    #[test]
    fn neighbours_are_told_from_hashes_that_are_far_apart() {
        let hash = |first: u8| Hash::from_bytes([first; 32]);
        assert!(is_dense(1024, &hash(0), &hash(255), 4096));
        assert!(!is_dense(1024, &hash(0), &hash(255), 5000));
        assert!(is_dense(1024, &hash(0), &hash(0), u64::MAX));
        assert!(!is_dense(2, &hash(1), &hash(1), 5));
    }
}
