//! Random histories of a few blobs, and what is to be there after each step.

use std::collections::{BTreeMap, BTreeSet};

use blob_traits::{Delete, EntryStatus, Error, Hash, Import, MapMut};
use proptest::prelude::*;

use crate::{Failure, Outcome, Sample, group_ranges};

/// One, three and seven chunk groups.
const SIZES: [usize; 3] = [100, 40_000, 100_000];

/// What is done to one of the blobs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    Import,
    Begin,
    /// Writes two chunk groups from this one on, as far as they exist.
    Write(u64),
    Finish,
    Delete,
}

/// An act and the number of the blob.
pub(super) type Step = (usize, Act);

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        2 => Just(Act::Import),
        1 => Just(Act::Begin),
        4 => (0..7_u64).prop_map(Act::Write),
        2 => Just(Act::Finish),
        2 => Just(Act::Delete),
    ];
    prop::collection::vec((0..SIZES.len(), act), 1..10)
}

/// The blobs, and what a store has to have of them.
pub(super) struct History {
    pub(super) samples: [Sample; SIZES.len()],
    known: BTreeMap<Hash, Known>,
}

enum Known {
    /// With these chunk groups.
    Partial(BTreeSet<u64>),
    Complete,
}

impl History {
    pub(super) fn new() -> Self {
        Self { samples: SIZES.map(Sample::new), known: BTreeMap::new() }
    }

    /// Does a step to the store and to the model.
    pub(super) async fn apply<S: MapMut + Import + Delete>(&mut self, store: &S, step: Step) -> Outcome {
        let (number, act) = step;
        let sample = self.samples.get(number).ok_or("there is no such blob")?;
        let hash = sample.hash;
        match act {
            Act::Import => {
                sample.import(store).await?;
                self.known.insert(hash, Known::Complete);
            }
            Act::Begin => {
                store.get_or_create(hash, sample.size()).await?;
                self.known.entry(hash).or_insert_with(|| Known::Partial(BTreeSet::new()));
            }
            Act::Write(start) => {
                let groups = start.min(sample.n_groups() - 1)..(start + 2).min(sample.n_groups());
                sample.write(store, &group_ranges(groups.clone())).await?;
                let known = self.known.entry(hash).or_insert_with(|| Known::Partial(BTreeSet::new()));
                if let Known::Partial(present) = known {
                    present.extend(groups);
                }
            }
            Act::Finish => {
                let entry = store.get_mut(&hash).await?;
                assert_eq!(entry.is_some(), self.known.contains_key(&hash));
                let Some((entry, known)) = entry.zip(self.known.get_mut(&hash)) else { return Ok(()) };
                if finish(store, entry, known.is_whole(sample)).await? {
                    *known = Known::Complete;
                }
            }
            Act::Delete => {
                store.delete(vec![hash]).await?;
                self.known.remove(&hash);
            }
        }
        Ok(())
    }

    /// Deletes all blobs, for the next history.
    pub(super) async fn end<S: Delete>(self, store: &S) -> Outcome {
        Ok(store.delete(self.samples.into_iter().map(|sample| sample.hash).collect()).await?)
    }

    pub(super) fn status(&self, hash: &Hash) -> EntryStatus {
        match self.known.get(hash) {
            None => EntryStatus::NotFound,
            Some(Known::Partial(_)) => EntryStatus::Partial,
            Some(Known::Complete) => EntryStatus::Complete,
        }
    }

    /// The blobs of one status, in order.
    pub(super) fn those(&self, status: EntryStatus) -> Vec<Hash> {
        self.known.keys().filter(|hash| self.status(hash) == status).copied().collect()
    }
}

impl Known {
    fn is_whole(&self, sample: &Sample) -> bool {
        match self {
            Self::Partial(present) => present.len() as u64 == sample.n_groups(),
            Self::Complete => true,
        }
    }
}

/// Completes a blob if it is whole; otherwise that has to be refused.
async fn finish<S: MapMut>(store: &S, entry: S::EntryMut, is_whole: bool) -> Result<bool, Failure> {
    match store.insert_complete(entry).await {
        Ok(()) => assert!(is_whole, "a blob of which bytes are missing was completed"),
        Err(Error::Incomplete { .. } | Error::SizeUnverified { .. }) if !is_whole => {}
        Err(other) => return Err(other.into()),
    }
    Ok(is_whole)
}
