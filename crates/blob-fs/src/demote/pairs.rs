//! The pairs of a damaged blob: as they are stored, but for those that the caller has proved to be others.

use std::{collections::HashMap, fmt, io};

use bao_tree::{BaoTree, TreeNode, blake3, io::fsm::Outboard};
use blob_traits::{BLOCK_SIZE, Damage, Error, Hash, Result, StoredParent};

use crate::{format::record::outboard_len, outboard::parse_pair, partial::pair_bytes, vfs::FileRef};

/// How much of a stored outboard is read at a time.
const BLOCK: u64 = 256 << 10;

/// Pairs by their parents.
pub(crate) struct Pairs<'a> {
    hash: Hash,
    mended: HashMap<StoredParent, [u8; 64]>,
    stored: Box<dyn FnMut(StoredParent) -> io::Result<[u8; 64]> + Send + 'a>,
}

impl fmt::Debug for Pairs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pairs").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl<'a> Pairs<'a> {
    pub(crate) fn new(
        hash: Hash,
        damage: &Damage,
        stored: impl FnMut(StoredParent) -> io::Result<[u8; 64]> + Send + 'a,
    ) -> Self {
        let mended = damage.mended.iter();
        let mended = mended.filter_map(|p| Some((StoredParent::new(p.node)?, pair_bytes(&p.pair)))).collect();
        Self { hash, mended, stored: Box::new(stored) }
    }

    /// # Errors
    /// [`Error::Damaged`] for a pair that is neither stored nor mended.
    pub(crate) fn get(&mut self, parent: StoredParent) -> Result<[u8; 64]> {
        if let Some(pair) = self.mended.get(&parent) {
            return Ok(*pair);
        }
        (self.stored)(parent).map_err(|e| {
            if e.kind() == io::ErrorKind::UnexpectedEof {
                return Error::Damaged { hash: self.hash, what: "its outboard is too short".to_owned() };
            }
            e.into()
        })
    }
}

/// Pairs that are stored in pre-order, asked for in the order of their parents' numbers.
#[derive(Debug)]
pub(super) struct PreOrder {
    file: Option<FileRef>,
    base: u64,
    size: u64,
    block: Vec<u8>,
    /// Where in the outboard the block starts.
    start: u64,
}

impl PreOrder {
    /// Reads the outboard of `size` bytes that starts at `base`; without a file there is nothing in it.
    pub(super) fn new(file: Option<FileRef>, base: u64, size: u64) -> Self {
        Self { file, base, size, block: Vec::new(), start: 0 }
    }

    pub(super) fn get(&mut self, parent: StoredParent) -> io::Result<[u8; 64]> {
        let missing = io::ErrorKind::UnexpectedEof;
        let offset = parent.pre_order(self.size).ok_or(missing)? * 64;
        let file = self.file.clone().ok_or(missing)?;
        // Parents close to the root lie before what is being read.
        if offset >= self.start + self.block.len() as u64 {
            self.fill(&file, offset);
        }
        let within = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        let known = within.and_then(|at| self.block.get(at..)?.first_chunk());
        if let Some(pair) = known {
            return Ok(*pair);
        }
        let mut pair = [0; 64];
        file.read_exact_at(&mut pair, self.base + offset)?;
        Ok(pair)
    }

    /// Reads a block, or as much of it as can be read: what cannot is asked for by itself.
    fn fill(&mut self, file: &FileRef, offset: u64) {
        let len = outboard_len(self.size).saturating_sub(offset).min(BLOCK);
        self.block.resize(usize::try_from(len).unwrap_or(0), 0);
        self.start = offset;
        let mut done = 0;
        while let Some(rest) = self.block.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, self.base + offset + done as u64) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => break,
                Ok(n) => done += n,
            }
        }
        self.block.truncate(done);
    }
}

/// The pairs as an outboard to verify with.
pub(super) struct Proof<'a, 'b> {
    pairs: &'a mut Pairs<'b>,
    size: u64,
}

impl<'a, 'b> Proof<'a, 'b> {
    pub(super) fn new(pairs: &'a mut Pairs<'b>, size: u64) -> Self {
        Self { pairs, size }
    }
}

impl Outboard for Proof<'_, '_> {
    fn root(&self) -> blake3::Hash {
        self.pairs.hash.into()
    }

    fn tree(&self) -> BaoTree {
        BaoTree::new(self.size, BLOCK_SIZE)
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<(blake3::Hash, blake3::Hash)>> {
        let Some(parent) = StoredParent::new(node) else { return Ok(None) };
        Ok(parse_pair(&self.pairs.get(parent)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bao_tree::io::outboard::PreOrderMemOutboard;

    use super::*;
    use crate::vfs::{RealVfs, Vfs};

    #[test]
    fn pairs_come_in_any_order_and_what_is_missing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs::default());
        let size = 9000 << 14;
        // As large as more than two blocks; what is in it does not matter.
        let outboard: Vec<u8> = (0..outboard_len(size)).map(|i| (i / 64 % 251) as u8).collect();
        let file = vfs.create_new(&dir.path().join("o")).unwrap();
        file.write_all_at(&outboard, 8).unwrap();
        let mut pairs = PreOrder::new(Some(file.clone()), 8, size);
        let at = |parent: StoredParent| usize::try_from(parent.pre_order(size).unwrap() * 64).unwrap();
        let tree = blob_traits::PartialTree::restore(size, true, &blob_traits::PartialTree::all_ranges(size));
        let all: Vec<_> = tree.parents().collect();
        assert_eq!(all.len(), 8999);
        for parent in all.iter().chain(all.iter().rev()) {
            assert_eq!(pairs.get(*parent).unwrap()[..], outboard[at(*parent)..at(*parent) + 64]);
        }
        file.set_len(8 + 64).unwrap();
        let mut pairs = PreOrder::new(Some(file), 8, size);
        let there = all.iter().filter(|parent| pairs.get(**parent).is_ok());
        assert_eq!(there.count(), 1);
        assert!(PreOrder::new(None, 0, size).get(all[0]).is_err());
    }

    #[test]
    fn mended_pairs_are_proof() {
        let data = vec![7; 50_000];
        let whole = PreOrderMemOutboard::create(&data, BLOCK_SIZE);
        let mut damage = Damage::default();
        for node in whole.tree.pre_order_nodes_iter() {
            let at = whole.tree.pre_order_offset(node).and_then(|at| usize::try_from(at * 64).ok());
            let pair = at.and_then(|at| parse_pair(&whole.data[at..at + 64]));
            damage.mended.extend(pair.map(|pair| bao_tree::io::Parent { node, pair }));
        }
        let mut pairs = Pairs::new(whole.root.into(), &damage, |_| Err(io::ErrorKind::UnexpectedEof.into()));
        let (mut proof, mut bytes) = (Proof::new(&mut pairs, 50_000), bytes::Bytes::from(data));
        let read =
            blob_traits::tree::read_groups(&mut proof, &mut bytes, bao_tree::ChunkRanges::all(), |_, _| {
                Ok(())
            });
        futures_lite::future::block_on(read).unwrap();
        let mut pairs =
            Pairs::new(whole.root.into(), &Damage::default(), |_| Err(io::ErrorKind::UnexpectedEof.into()));
        let first = StoredParent::new(whole.tree.pre_order_nodes_iter().next().unwrap()).unwrap();
        assert!(matches!(pairs.get(first), Err(Error::Damaged { .. })));
    }
}
