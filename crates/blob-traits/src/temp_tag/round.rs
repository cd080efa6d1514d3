//! What is reached while a round of collection runs.

use std::{
    collections::{BTreeSet, HashSet},
    mem,
};

use super::{Held, lock};
use crate::{
    Hash, HashAndFormat,
    sync::{Arc, Mutex},
};

/// The first 8 bytes of a hash. Two hashes that share them are taken for one: that keeps garbage and loses nothing.
type Prefix = u64;

/// Notes what is reached. Part of what the registry's lock guards.
#[derive(Debug, Default)]
pub(super) struct Reached {
    hashes: HashSet<Prefix>,
    /// Hash sequences that the collector reads: when more of them can be read, it has to read them again.
    watched: HashSet<Prefix>,
    /// Hash sequences that were reached, or changed, and that the collector has not taken yet.
    to_mark: BTreeSet<Hash>,
    is_spoiled: bool,
}

impl Reached {
    pub(super) fn reach(&mut self, content: HashAndFormat) {
        self.hashes.insert(prefix(&content.hash));
        if content.format.is_hash_seq() {
            self.to_mark.insert(content.hash);
        }
    }

    pub(super) fn change(&mut self, hash: &Hash) {
        if self.watched.contains(&prefix(hash)) {
            self.to_mark.insert(*hash);
        }
    }

    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
    }
}

/// A round of collection, as the registry sees it. It ends when this is dropped.
///
/// # Why nothing that is reachable is swept
///
/// An act that reaches a blob issues a temporary tag before it looks whether the blob is there. A decision about a batch
/// excludes the issuing of tags by the registry's lock, and the acts of the store by the store's own lock, which the caller of
/// [`decide`](Self::decide) holds until the blobs are hidden. So an act comes before a decision, and the blob is covered; or
/// after it, and finds the blob gone and writes it again.
///
/// What a hash sequence lists is covered by marking. A sequence that was reached since it was read, or of which more can
/// be read since, makes a decision fail until it has been [taken](Self::take_reached) and marked.
#[derive(Debug)]
pub struct SweepEpoch(Arc<Mutex<Held>>);

/// Why no decision was made about a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Hash sequences were reached or have changed: take them, mark what they list, decide again.
    MarkFirst,
    /// What the round has seen is no longer true; it has to be given up.
    Spoiled,
}

/// What a batch must not contain.
#[derive(Debug)]
pub struct CoveredHashes<'a>(&'a Held);

impl SweepEpoch {
    pub(super) fn new(held: Arc<Mutex<Held>>) -> Self {
        Self(held)
    }

    /// Names hash sequences that are going to be read: if more of one can be read later, it will be to mark again. To be
    /// called before they are read.
    pub fn watch(&self, sequences: impl IntoIterator<Item = Hash>) {
        if let Some(round) = &mut lock(&self.0).round {
            round.watched.extend(sequences.into_iter().map(|hash| prefix(&hash)));
        }
    }

    /// Takes the hash sequences that are to be marked before anything more is swept. They are watched from now on.
    pub fn take_reached(&self) -> Vec<Hash> {
        let mut held = lock(&self.0);
        let Some(round) = &mut held.round else { return Vec::new() };
        let taken: Vec<_> = mem::take(&mut round.to_mark).into_iter().collect();
        round.watched.extend(taken.iter().map(prefix));
        taken
    }

    /// Decides about a batch while nothing can be reached. The store's own lock is to be held by the caller, before and
    /// after; no temporary tag may be issued, cloned or dropped inside.
    ///
    /// # Errors
    /// [`Refused`], and then nothing was decided.
    pub fn decide<T>(&self, decision: impl FnOnce(&CoveredHashes<'_>) -> T) -> Result<T, Refused> {
        let held = lock(&self.0);
        match &held.round {
            Some(round) if round.is_spoiled => Err(Refused::Spoiled),
            Some(round) if round.to_mark.is_empty() => Ok(decision(&CoveredHashes(&held))),
            Some(_) => Err(Refused::MarkFirst),
            None => Err(Refused::Spoiled),
        }
    }
}

impl CoveredHashes<'_> {
    /// Whether a blob must not be swept: a temporary tag holds it, or it was reached since the round began.
    pub fn covers(&self, hash: &Hash) -> bool {
        let is_reached = |round: &Reached| round.hashes.contains(&prefix(hash));
        self.0.holds(hash) || self.0.round.as_ref().is_some_and(is_reached)
    }
}

impl Drop for SweepEpoch {
    fn drop(&mut self) {
        lock(&self.0).round = None;
    }
}

fn prefix(hash: &Hash) -> Prefix {
    let mut prefix = [0; 8];
    hash.as_bytes().iter().zip(&mut prefix).for_each(|(byte, to)| *to = *byte);
    Prefix::from_be_bytes(prefix)
}
