//! The reference for a partial blob: sets, from which what is present is computed anew each time.
//!
//! What was written and is not present yet, because a parent is missing, need not survive the end of a store. So there
//! are two sets, what is surely there and what may be there; what a store shows has to lie between them.

use std::collections::BTreeSet;

use bao_tree::{ChunkRanges, io::BaoContentItem};
use blob_traits::{BaoBlobSize, StoredParent};

use super::{
    Check,
    universe::{CHUNK, GROUP, n_chunks},
};

/// A set of chunks by number.
pub(super) type Chunks = BTreeSet<u64>;

/// What was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    chunks: Chunks,
    /// Parents over chunk groups, by number.
    parents: BTreeSet<u64>,
}

/// A partial blob.
#[derive(Clone, Debug)]
pub(super) struct Partial {
    /// Tells it from one that had the same hash before.
    pub(super) no: u64,
    pub(super) size: u64,
    pub(super) verified: bool,
    surely: Written,
    maybe: Written,
    /// All that ever was written to it.
    ever: Written,
    /// What it must have after a kill; `None` while it may be gone altogether.
    durable: Option<Chunks>,
    /// The sizes, and whether they were proved, that it may have after a kill.
    claims: BTreeSet<(u64, bool)>,
}

impl Partial {
    pub(super) fn new(no: u64, size: u64) -> Self {
        let none = Written::default();
        let (surely, maybe, ever) = (none.clone(), none.clone(), none);
        let claims = BTreeSet::from([(size, false)]);
        Self { no, size, verified: false, surely, maybe, ever, durable: None, claims }
    }

    /// The chunks that are there, as the last look at the store has shown.
    pub(super) fn present(&self) -> Chunks {
        self.surely.present(self.size)
    }

    pub(super) fn n_chunks(&self) -> u64 {
        n_chunks(self.size)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.verified && self.present().len() as u64 == self.n_chunks()
    }

    /// Takes another size claim; `false`: it must be refused.
    pub(super) fn claim(&mut self, size: u64) -> bool {
        if size != self.size {
            if self.verified {
                return false;
            }
            self.surely.reclaim(self.size, size);
            self.maybe.reclaim(self.size, size);
            if let Some(durable) = &mut self.durable {
                durable.retain(|chunk| self.surely.chunks.contains(chunk));
            }
            self.size = size;
            self.claims.insert((size, false));
        }
        true
    }

    pub(super) fn write(&mut self, batch: &Written) {
        for written in [&mut self.surely, &mut self.maybe, &mut self.ever] {
            written.chunks.extend(&batch.chunks);
            written.parents.extend(&batch.parents);
        }
        self.prove();
    }

    fn prove(&mut self) {
        if self.present().contains(&(self.n_chunks() - 1)) {
            self.verified = true;
            self.claims.insert((self.size, true));
        }
    }

    /// What it has is durable now.
    pub(super) fn synced(&mut self) {
        self.durable = Some(self.present());
        self.claims = BTreeSet::from([(self.size, self.verified)]);
    }

    /// Compares with what a store shows, and learns from it.
    pub(super) fn look(&mut self, found: &Chunks, size: BaoBlobSize) -> Check {
        let (least, most) = (self.present(), self.maybe.present(self.size));
        if !(least.is_subset(found) && found.is_subset(&most)) {
            return Err(format!("expected chunks {}, found {}", runs(&least), runs(found)));
        }
        self.surely.learn(found, self.size);
        self.prove();
        let expected = BaoBlobSize::new(self.size, self.verified);
        if size == expected { Ok(()) } else { Err(format!("expected size {expected:?}, found {size:?}")) }
    }

    /// Compares with what is there after a shutdown, which must be all.
    pub(super) fn shut_down(&mut self, found: &Chunks) -> Check {
        let present = self.present();
        if *found != present {
            return Err(format!("expected chunks {} to survive, found {}", runs(&present), runs(found)));
        }
        self.surely = Written::default();
        self.surely.learn(found, self.size);
        self.synced();
        Ok(())
    }

    /// Compares with what is there after a kill: what was synced or more, under one of the claims since then.
    pub(super) fn killed(&mut self, found: &Chunks, size: BaoBlobSize) -> Check {
        if !self.claims.contains(&(size.value(), size.is_verified())) {
            return Err(format!("after a kill the size is {size:?}, which is none of {:?}", self.claims));
        }
        let least = self.durable.clone().unwrap_or_default();
        if !(least.is_subset(found) && found.is_subset(&self.ever.chunks)) {
            let most = runs(&self.ever.chunks);
            return Err(format!("{} were synced, {most} written, found {}", runs(&least), runs(found)));
        }
        (self.size, self.verified) = (size.value(), size.is_verified());
        self.surely = Written::default();
        self.surely.learn(found, self.size);
        self.maybe = self.ever.clone();
        self.synced();
        Ok(())
    }

    /// Whether it may be gone after a kill.
    pub(super) fn may_be_lost(&self) -> bool {
        self.durable.is_none()
    }
}

impl Written {
    /// What a batch writes.
    pub(super) fn of(batch: &[BaoContentItem]) -> Self {
        let mut written = Self::default();
        for item in batch {
            match item {
                BaoContentItem::Parent(parent) => {
                    written.parents.extend(StoredParent::new(parent.node).map(StoredParent::number));
                }
                BaoContentItem::Leaf(leaf) => {
                    let end = (leaf.offset + leaf.data.len() as u64).div_ceil(CHUNK);
                    written.chunks.extend(leaf.offset / CHUNK..end.max(1));
                }
            }
        }
        written
    }

    /// The written chunks that have all parents above them.
    fn present(&self, size: u64) -> Chunks {
        let n_groups = n_chunks(size).div_ceil(GROUP);
        let groups: BTreeSet<_> = self.chunks.iter().map(|chunk| chunk / GROUP).collect();
        let connected = |group: &u64| {
            *group < n_groups && way(n_groups, *group).iter().all(|node| self.parents.contains(node))
        };
        let groups: BTreeSet<_> = groups.into_iter().filter(connected).collect();
        self.chunks.iter().copied().filter(|chunk| groups.contains(&(chunk / GROUP))).collect()
    }

    /// What is present is written, with all parents above it.
    fn learn(&mut self, present: &Chunks, size: u64) {
        let n_groups = n_chunks(size).div_ceil(GROUP);
        for group in present.iter().map(|chunk| chunk / GROUP).collect::<BTreeSet<_>>() {
            self.parents.extend(way(n_groups, group));
        }
        self.chunks.extend(present);
    }

    /// Leaves what has the same way to it in the trees of both sizes, but for the last chunk of either.
    fn reclaim(&mut self, old: u64, new: u64) {
        let (old, new) = (n_chunks(old), n_chunks(new));
        let common = old.min(new) - 1;
        self.chunks.retain(|chunk| *chunk < common && way(old, *chunk) == way(new, *chunk));
        self.parents.retain(|parent| {
            let number = parent * GROUP + GROUP - 1;
            let above = |n_chunks| {
                let mut way = way(n_chunks, number);
                way.truncate(way.iter().position(|node| *node == number)? + 1);
                Some(way)
            };
            number < common && above(old) == above(new)
        });
    }
}

/// The parents on the way from the root to an item: a tree splits its items after the largest power of two below
/// their number, and the parent between two items has the number of the left one.
fn way(n_items: u64, item: u64) -> Vec<u64> {
    let (mut start, mut end) = (0, n_items);
    let mut nodes = Vec::new();
    while end - start > 1 {
        let mid = start + (end - start).next_power_of_two() / 2;
        nodes.push(mid - 1);
        if item < mid { end = mid } else { start = mid }
    }
    nodes
}

/// The numbers of a range set that a store returned.
pub(super) fn numbers(ranges: &ChunkRanges) -> Check<Chunks> {
    let mut chunks = Chunks::new();
    for bounds in ranges.boundaries().chunks(2) {
        match bounds {
            [start, end] if end.0 - start.0 < 1 << 20 => chunks.extend(start.0..end.0),
            _ => return Err(format!("more chunks are present than ever were written: {ranges:?}")),
        }
    }
    Ok(chunks)
}

/// Prints a set as its runs.
fn runs(chunks: &Chunks) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for chunk in chunks {
        match runs.last_mut() {
            Some((_, end)) if *end == *chunk => *end += 1,
            _ => runs.push((*chunk, chunk + 1)),
        }
    }
    let runs: Vec<_> = runs.iter().map(|(start, end)| format!("{start}..{end}")).collect();
    format!("[{}]", runs.join(", "))
}
