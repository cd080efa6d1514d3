//! What is there of a partial blob: a state machine without I/O, the same for every backend.

mod batch;
mod intervals;
mod shape;

use std::ops::Range;

use bao_tree::{ChunkNum, ChunkRanges, io::BaoContentItem};

use crate::{BaoBlobSize, Error, Hash, Result};
pub use batch::{BatchPlan, PartialError, PlannedLeaf, PlannedParent};
use intervals::Intervals;
pub use shape::StoredParent;
use shape::{CHUNK_BYTES, Child};

/// Keeps account of a partial blob: its size claim, which chunks and parents were written, and which chunks are
/// present by that.
///
/// A chunk is present once it is written and so is every stored parent above it. Holds no bytes: a backend asks
/// [`check`](Self::check) what of a batch to write, writes it, and then says so with [`record`](Self::record). Takes
/// memory for what was written, never for what a claim says.
///
/// # Size claims
///
/// Only the last chunk proves a size. Until it is present any other claim may replace the current one. What both
/// trees have in common stays: chunks that have the same parents above them in both, and those parents. Nothing true
/// is lost by that. A chunk that was verified under a wrong claim has the same place in the right tree, since a hash
/// belongs to one subtree; so what a claim makes leave was either not verified or shows that claim to be wrong.
#[derive(Clone, Debug)]
pub struct PartialTree {
    size: u64,
    verified: bool,
    /// Chunks whose bytes are written.
    written: Intervals,
    /// Those of them that have every parent.
    present: Intervals,
    /// Stored parents that are written, by number.
    parents: Intervals,
    /// Those of them that have every parent above them.
    connected: Intervals,
}

impl PartialTree {
    /// Begins a blob of which nothing is there, with a claim of its size.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            verified: false,
            written: Intervals::default(),
            present: Intervals::default(),
            parents: Intervals::default(),
            connected: Intervals::default(),
        }
    }

    /// Takes up a blob from its recorded state: `present` chunks, with all the parents above them.
    ///
    /// What lies beyond the size is left out. A present last chunk makes the size verified whatever `verified` says.
    pub fn restore(size: u64, verified: bool, present: &ChunkRanges) -> Self {
        let mut tree = Self { verified, ..Self::new(size) };
        let (n_chunks, n_groups) = (shape::n_chunks(size), shape::n_groups(size));
        for range in present.boundaries().chunks(2) {
            let [start, end] =
                [range.first(), range.get(1)].map(|bound| bound.map_or(n_chunks, |chunk| chunk.0));
            let chunks = start..end.min(n_chunks);
            if chunks.is_empty() {
                continue;
            }
            let groups = shape::groups_of(&chunks);
            let last = groups.end - 1;
            // those between two groups of the range, and those above its ends
            tree.parents.insert(groups.start..last);
            for parent in shape::path(n_groups, groups.start).chain(shape::path(n_groups, last)) {
                tree.parents.insert(parent..parent + 1);
            }
            tree.written.insert(chunks);
        }
        tree.present = tree.written.clone();
        tree.connected = tree.parents.clone();
        tree.verified |= tree.present.contains(n_chunks - 1);
        tree
    }

    /// Returns the size by the current claim, and whether it is proved.
    pub fn size(&self) -> BaoBlobSize {
        BaoBlobSize::new(self.size, self.verified)
    }

    /// Returns the chunks that are present.
    pub fn present_ranges(&self) -> ChunkRanges {
        to_chunk_ranges(self.present.iter())
    }

    /// Returns the chunks that are missing for the current size.
    pub fn missing_ranges(&self) -> ChunkRanges {
        Self::all_ranges(self.size) - self.present_ranges()
    }

    /// Returns the chunks that a whole blob of `size` has: 0 for the empty blob, which has one empty chunk.
    pub fn all_ranges(size: u64) -> ChunkRanges {
        ChunkRanges::from(ChunkNum(0)..ChunkNum(shape::n_chunks(size)))
    }

    /// Returns whether every chunk is present.
    pub fn is_complete(&self) -> bool {
        self.present.contains_range(0..shape::n_chunks(self.size))
    }

    /// Returns whether a parent is written.
    pub fn has_parent(&self, parent: StoredParent) -> bool {
        self.parents.contains(parent.number())
    }

    /// Iterates over the parents that are written, by number.
    pub fn parents(&self) -> impl Iterator<Item = StoredParent> + '_ {
        self.parents.iter().flatten().map(StoredParent::from_number)
    }

    /// Checks that all bytes of a range are present, as far as the blob goes by its current size.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn require(&self, hash: Hash, bytes: Range<u64>) -> Result<()> {
        let bytes = bytes.start..bytes.end.min(self.size);
        if bytes.is_empty() {
            return Ok(());
        }
        let chunks = bytes.start / CHUNK_BYTES..bytes.end.div_ceil(CHUNK_BYTES);
        match self.missing_of(chunks) {
            None => Ok(()),
            Some((first, n_missing)) => {
                Err(self.incomplete(hash, bytes.start.max(first * CHUNK_BYTES), n_missing))
            }
        }
    }

    /// Checks that the blob may become complete: its size is proved and every chunk is present.
    ///
    /// # Errors
    /// [`Error::SizeUnverified`], [`Error::Incomplete`].
    pub fn require_complete(&self, hash: Hash) -> Result<()> {
        if !self.verified {
            return Err(Error::SizeUnverified { hash });
        }
        match self.missing_of(0..shape::n_chunks(self.size)) {
            None => Ok(()),
            Some((first, n_missing)) => Err(self.incomplete(hash, first * CHUNK_BYTES, n_missing)),
        }
    }

    /// Takes another size claim. Returns how many chunks at the start of the blob may have stayed: those behind them
    /// left, and so did all parents whose number is not below the number of whole chunk groups in them.
    ///
    /// # Errors
    /// [`PartialError::SizeConflict`] when the size is proved and another one; nothing has changed then.
    pub fn set_claim(&mut self, size: u64) -> Result<u64, PartialError> {
        let n_chunks = shape::n_chunks(self.size);
        if size == self.size {
            return Ok(n_chunks);
        }
        self.check_claim_open(size)?;
        let n_shared = shape::shared_items(n_chunks, shape::n_chunks(size));
        let n_parents = shape::shared_parents(n_shared);
        self.written.truncate(n_shared);
        self.present.truncate(n_shared);
        self.parents.truncate(n_parents);
        self.connected.truncate(n_parents);
        self.size = size;
        Ok(n_shared)
    }

    /// Checks a whole batch that was sent under a size claim, and says what of it is to be written. Changes nothing.
    ///
    /// What is present already is left out, chunk by chunk, so that nothing overwrites it.
    ///
    /// # Errors
    /// [`PartialError`], for the first item that does not fit.
    pub fn check(&self, size: u64, batch: &[BaoContentItem]) -> Result<BatchPlan, PartialError> {
        batch::check(self, size, batch)
    }

    /// Takes note that what was planned has been written.
    ///
    /// # Errors
    /// [`PartialError::SizeConflict`] when the claim has changed since the plan was made; nothing has changed then.
    pub fn record(&mut self, plan: &BatchPlan) -> Result<(), PartialError> {
        self.check_claim(plan.size())?;
        for planned in plan.parents() {
            self.add_parent(planned.parent.number());
        }
        for leaf in plan.leaves() {
            self.add_leaf(leaf.chunks.clone());
        }
        self.verified |= self.present.contains(shape::n_chunks(self.size) - 1);
        Ok(())
    }

    fn add_parent(&mut self, parent: u64) {
        self.parents.insert(parent..parent + 1);
        // Group `parent` is below it, so that its path leads through it.
        let above = shape::path(shape::n_groups(self.size), parent).take_while(|node| *node != parent).last();
        if above.is_none_or(|above| self.connected.contains(above)) {
            self.connect(parent);
        }
    }

    /// Marks a parent that has everything above it, and what this connects below it. Each parent is marked once.
    fn connect(&mut self, parent: u64) {
        let n_groups = shape::n_groups(self.size);
        let mut open = vec![parent];
        while let Some(parent) = open.pop() {
            self.connected.insert(parent..parent + 1);
            for child in shape::children(n_groups, parent) {
                match child {
                    Child::Item(group) => self.show(shape::chunks_of(group, shape::n_chunks(self.size))),
                    Child::Parent(below)
                        if self.parents.contains(below) && !self.connected.contains(below) =>
                    {
                        open.push(below);
                    }
                    Child::Parent(_) => {}
                }
            }
        }
    }

    fn add_leaf(&mut self, chunks: Range<u64>) {
        let (n_chunks, n_groups) = (shape::n_chunks(self.size), shape::n_groups(self.size));
        self.written.insert(chunks.clone());
        for group in shape::groups_of(&chunks) {
            if shape::path(n_groups, group).last().is_none_or(|above| self.connected.contains(above)) {
                self.show(shape::chunks_of(group, n_chunks));
            }
        }
    }

    /// Makes the written ones of some chunks present.
    fn show(&mut self, chunks: Range<u64>) {
        for run in self.written.within(chunks) {
            self.present.insert(run);
        }
    }

    /// The first chunk of a range that is missing, and how many are.
    fn missing_of(&self, chunks: Range<u64>) -> Option<(u64, u64)> {
        let mut gaps = self.present.gaps(chunks);
        let first = gaps.next()?;
        let n_missing = gaps.fold(first.end - first.start, |n, gap| n + gap.end - gap.start);
        Some((first.start, n_missing))
    }

    fn incomplete(&self, hash: Hash, first_missing: u64, n_missing: u64) -> Error {
        Error::Incomplete { hash, first_missing, n_missing, n_chunks: shape::n_chunks(self.size) }
    }

    fn check_claim(&self, claimed: u64) -> Result<(), PartialError> {
        if claimed == self.size {
            Ok(())
        } else {
            Err(PartialError::SizeConflict { claimed, current: self.size })
        }
    }

    fn check_claim_open(&self, claimed: u64) -> Result<(), PartialError> {
        if self.verified { self.check_claim(claimed) } else { Ok(()) }
    }
}

/// Builds a range set from ascending runs that do not touch.
fn to_chunk_ranges(runs: impl Iterator<Item = Range<u64>>) -> ChunkRanges {
    let boundaries = runs.flat_map(|run| [ChunkNum(run.start), ChunkNum(run.end)]).collect();
    ChunkRanges::new(boundaries).expect("runs are ascending and do not touch")
}

#[cfg(test)]
mod tests;
