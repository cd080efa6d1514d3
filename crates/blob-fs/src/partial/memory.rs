//! The bytes of a partial blob in memory: only what was written takes room.

use std::collections::BTreeMap;

use bao_tree::io::BaoContentItem;
use blob_traits::{BatchPlan, StoredParent};
use bytes::Bytes;

/// A chunk.
const CHUNK: u64 = 1 << 10;
/// The unit of storage: a chunk group.
const GROUP: u64 = 16 * CHUNK;

/// Sparse bytes and pairs.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// By group; each as long as the last byte written needs.
    groups: BTreeMap<u64, Vec<u8>>,
    /// By number of the parent.
    pairs: BTreeMap<u64, [u8; 64]>,
    bytes: u64,
}

impl Memory {
    /// How much is held.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.pairs.len() as u64 * 64
    }

    /// Writes what was planned of a batch.
    pub(super) fn write(&mut self, plan: &BatchPlan, batch: &[BaoContentItem]) {
        for planned in plan.parents() {
            if let Some(BaoContentItem::Parent(parent)) = batch.get(planned.index) {
                self.pairs.insert(planned.parent.number(), pair_bytes(&parent.pair));
            }
        }
        for planned in plan.leaves() {
            self.write_at(planned.offset(), &planned.bytes(batch));
        }
    }

    fn write_at(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (group, within) = split(offset);
            let n = bytes.len().min(room(within));
            let (now, later) = bytes.split_at(n);
            let buffer = self.groups.entry(group).or_default();
            if buffer.len() < within + n {
                self.bytes += (within + n - buffer.len()) as u64;
                buffer.resize(within + n, 0);
            }
            if let Some(place) = buffer.get_mut(within..within + n) {
                place.copy_from_slice(now);
            }
            offset += n as u64;
            bytes = later;
        }
    }

    /// Forgets what lies behind so many chunks, and the parents that stand behind them.
    pub(super) fn cut(&mut self, n_chunks: u64) {
        let (group, within) = split(n_chunks.saturating_mul(CHUNK));
        self.pairs.split_off(&group);
        self.groups.split_off(&group.saturating_add(u64::from(within > 0)));
        if let Some(last) = self.groups.get_mut(&group) {
            last.truncate(within);
        }
        self.bytes = self.groups.values().map(|bytes| bytes.len() as u64).sum();
    }

    /// Reads bytes; zeros where nothing was written.
    pub(super) fn read(&self, offset: u64, len: usize) -> Bytes {
        let mut out = Vec::with_capacity(len);
        while out.len() < len {
            let (group, within) = split(offset + out.len() as u64);
            let n = (len - out.len()).min(room(within));
            let stored = self.groups.get(&group).and_then(|buffer| buffer.get(within..)).unwrap_or_default();
            let end = out.len() + n;
            out.extend_from_slice(stored.get(..n).unwrap_or(stored));
            out.resize(end, 0);
        }
        out.into()
    }

    /// The pair of a parent; zeros where none was written.
    pub(super) fn pair(&self, parent: StoredParent) -> [u8; 64] {
        self.pairs.get(&parent.number()).copied().unwrap_or([0; 64])
    }

    /// All bytes, in runs, with their offsets.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.groups.iter().map(|(group, bytes)| (group * GROUP, bytes.as_slice()))
    }

    /// All pairs, by number.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u64, &[u8; 64])> {
        self.pairs.iter().map(|(number, pair)| (*number, pair))
    }
}

/// A pair as it is stored.
pub(crate) fn pair_bytes(pair: &(bao_tree::blake3::Hash, bao_tree::blake3::Hash)) -> [u8; 64] {
    let mut bytes = [0; 64];
    let both = pair.0.as_bytes().iter().chain(pair.1.as_bytes());
    bytes.iter_mut().zip(both).for_each(|(to, from)| *to = *from);
    bytes
}

fn split(offset: u64) -> (u64, usize) {
    (offset / GROUP, usize::try_from(offset % GROUP).unwrap_or(0))
}

fn room(within: usize) -> usize {
    usize::try_from(GROUP).unwrap_or(usize::MAX) - within
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_what_was_written(writes in proptest::collection::vec((0_u64..60_000, 1_usize..20_000), 1..8)) {
            let mut memory = Memory::default();
            let mut model = vec![0; 100_000];
            for (i, (offset, len)) in writes.into_iter().enumerate() {
                let bytes = vec![u8::try_from(i + 1).unwrap(); len];
                memory.write_at(offset, &bytes);
                let start = usize::try_from(offset).unwrap();
                model[start..start + len].copy_from_slice(&bytes);
            }
            prop_assert_eq!(&memory.read(0, model.len())[..], &model[..]);
            prop_assert_eq!(&memory.read(12_345, 54_321)[..], &model[12_345..12_345 + 54_321]);
        }

        #[test]
        fn nothing_stays_behind_a_cut(
            writes in proptest::collection::vec((0_u64..60_000, 1_usize..20_000), 1..8),
            n_chunks in 0_u64..90,
        ) {
            let mut memory = Memory::default();
            for (offset, len) in writes {
                memory.write_at(offset, &vec![1; len]);
            }
            let (kept, end) = (memory.read(0, 100_000), usize::try_from(n_chunks * CHUNK).unwrap());
            memory.cut(n_chunks);
            prop_assert_eq!(&memory.read(0, end)[..], &kept[..end]);
            prop_assert!(memory.read(n_chunks * CHUNK, 100_000).iter().all(|byte| *byte == 0));
            prop_assert_eq!(memory.bytes(), memory.runs().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
            prop_assert!(memory.runs().all(|(offset, bytes)| offset + bytes.len() as u64 <= n_chunks * CHUNK));
        }
    }
}
