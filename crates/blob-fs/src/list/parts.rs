//! Going through all rows on several threads.

use std::{ops::Bound, panic::resume_unwind, thread};

use blob_traits::{Hash, Result};

use super::{Merge, recent};
use crate::{engine::Engine, row::BlobRow};

/// A thread is worth it for so many rows.
const ROWS: u64 = 16_384;
/// More than so many are taken by one alone, which sorts them in files: several would each need room in memory.
const MAX_ROWS: u64 = 1 << 20;

/// Hashes from one on, before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    from: Hash,
    to: Option<Hash>,
}

impl Part {
    fn contains(&self, hash: &Hash) -> bool {
        *hash >= self.from && !self.is_before(hash)
    }

    fn is_before(&self, hash: &Hash) -> bool {
        self.to.is_some_and(|to| to <= *hash)
    }
}

/// Has a snapshot taken as [`with_rows`](super::with_rows) does, in parts that follow each other, each by a thread of its
/// own where there are many rows.
pub(crate) fn with_parts<T: Send>(
    engine: &Engine,
    take: impl Fn(&mut dyn Iterator<Item = Result<(Hash, BlobRow)>>, Vec<Hash>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    with_so_many_parts(engine, n_threads, take)
}

fn n_threads(n_rows: u64) -> u64 {
    let n_cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    if n_rows > MAX_ROWS { 1 } else { n_cores.min(n_rows / ROWS) }
}

fn with_so_many_parts<T: Send>(
    engine: &Engine,
    n_parts: impl Fn(u64) -> u64,
    take: impl Fn(&mut dyn Iterator<Item = Result<(Hash, BlobRow)>>, Vec<Hash>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    engine.look(recent, |reader, (changes, in_memory)| {
        let parts = parts(n_parts(reader.n_blobs()?));
        let take = |part: &Part| {
            let rows = reader.blobs_from(&part.from)?;
            let rows = rows.take_while(|row| !row.as_ref().is_ok_and(|(hash, _)| part.is_before(hash)));
            let to = part.to.map_or(Bound::Unbounded, Bound::Excluded);
            let changes = changes.range((Bound::Included(part.from), to));
            let in_memory = in_memory.iter().copied().filter(|hash| part.contains(hash)).collect();
            let changes = changes.map(|(hash, change)| (*hash, *change));
            take(&mut Merge::new(rows, changes), in_memory)
        };
        let take = &take;
        thread::scope(|scope| {
            let (first, others) = parts.split_first().unzip();
            let others = others.unwrap_or_default().iter();
            let spawn =
                |part| thread::Builder::new().spawn_scoped(scope, move || take(part)).map_err(|_| part);
            let others: Vec<_> = others.map(spawn).collect();
            let mut taken = Vec::from_iter(first.map(take).transpose()?);
            for other in others {
                taken.push(match other {
                    Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic))?,
                    // The system has no more threads.
                    Err(part) => take(part)?,
                });
            }
            Ok(taken)
        })
    })
}

/// Cuts all hashes into so many parts, at least one.
fn parts(n: u64) -> Vec<Part> {
    let n = n.max(1);
    let from = |number: u64| {
        let mut bytes = [0; 32];
        let share = (u128::from(number) << 64) / u128::from(n);
        let prefix = u64::try_from(share).unwrap_or(u64::MAX).to_be_bytes();
        bytes.iter_mut().zip(prefix).for_each(|(byte, of_prefix)| *byte = of_prefix);
        Hash::from_bytes(bytes)
    };
    let part = |number| Part { from: from(number), to: (number + 1 < n).then(|| from(number + 1)) };
    (0..n).map(part).collect()
}

#[cfg(test)]
mod tests {
    use blob_traits::{BlobFormat, prelude::*};

    use super::*;
    use crate::{
        CompactOptions,
        list::{Which, with_rows},
        options::Options,
        store::FsStore,
    };

    type Taken = (Vec<(Hash, BlobRow)>, Vec<Hash>);

    /// Rows of the index, changes that it does not have, and partial blobs without rows.
    #[tokio::test(flavor = "multi_thread")]
    async fn parts_are_together_what_one_is() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { overlay_age: std::time::Duration::from_hours(1), ..Options::new(dir.path()) };
        let store = FsStore::open(options).await.unwrap();
        for number in 0..200_u32 {
            store.import_bytes(number.to_le_bytes().to_vec().into(), BlobFormat::Raw).await.unwrap();
            if number == 100 {
                store.compact(CompactOptions::default()).await.unwrap();
            }
        }
        store
            .delete((0..200_u32).step_by(3).map(|number| Hash::new(number.to_le_bytes())).collect())
            .await
            .unwrap();
        let mut partial = Vec::new();
        for number in 1000..1020_u32 {
            partial.push(store.get_or_create(Hash::new(number.to_le_bytes()), 100_000).await.unwrap());
        }
        let take = |rows: &mut dyn Iterator<Item = Result<_>>, in_memory| -> Result<Taken> {
            Ok((rows.collect::<Result<_>>()?, in_memory))
        };
        let engine = &*store.engine;
        let whole = with_rows(engine, Which::All, take).unwrap();
        assert_eq!((whole.0.len(), whole.1.len()), (133, 20));
        for n in [1, 2, 5, 64] {
            let parts = with_so_many_parts(engine, |_| n, take);
            let (mut rows, mut in_memory) = (Vec::new(), Vec::new());
            let parts = parts.unwrap();
            assert_eq!(parts.len() as u64, n);
            for part in parts {
                rows.extend(part.0);
                in_memory.extend(part.1);
            }
            assert_eq!((rows, in_memory), whole);
        }
    }

    #[test]
    fn every_hash_is_in_one_part() {
        for n in [0, 1, 2, 3, 7, 64, 1000] {
            let parts = parts(n);
            assert_eq!(parts.len() as u64, n.max(1));
            assert_eq!(parts[0].from, Hash::from_bytes([0; 32]));
            assert_eq!(parts[parts.len() - 1].to, None);
            assert!(
                parts.array_windows().all(|[one, next]| one.to == Some(next.from) && one.from < next.from)
            );
            for number in 0..1000_u32 {
                let hash = Hash::new(number.to_le_bytes());
                assert_eq!(parts.iter().filter(|part| part.contains(&hash)).count(), 1);
            }
        }
    }
}
