//! Reading with proof: every chunk group is hashed and checked against the root before it is returned.

use std::io;

use bao_tree::{
    ChunkRanges,
    blake3::{
        Hasher,
        hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
    },
    io::{fsm::Outboard, round_up_to_chunks_groups},
    iter::BaoChunk,
};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use crate::{BLOCK_SIZE, Error, Hash, Result};

/// Hashes the subtree that starts at `start_chunk` (for a non-root subtree a multiple of its own length).
pub fn subtree_cv(start_chunk: u64, data: &[u8], is_root: bool) -> ChainingValue {
    if is_root {
        return bao_tree::blake3::hash(data).into();
    }
    Hasher::new().set_input_offset(start_chunk << 10).update(data).finalize_non_root()
}

/// Hashes a pair of chaining values.
pub fn parent_cv(left: &ChainingValue, right: &ChainingValue, is_root: bool) -> ChainingValue {
    if is_root {
        merge_subtrees_root(left, right, Mode::Hash).into()
    } else {
        merge_subtrees_non_root(left, right, Mode::Hash)
    }
}

/// Reads all chunk groups that `ranges` touch, in order, and hands each to `sink` once it is proven.
///
/// # Errors
/// [`Error::Mismatch`] at the first byte of the subtree that does not verify; [`Error::Incomplete`] from the reader
/// for a group that is not there.
pub async fn read_groups(
    outboard: &mut impl Outboard,
    data: &mut impl AsyncSliceReader,
    ranges: ChunkRanges,
    mut sink: impl FnMut(u64, Bytes) -> Result<()>,
) -> Result<()> {
    let root = Hash::from(outboard.root());
    let ranges = round_up_to_chunks_groups(ranges, BLOCK_SIZE);
    let mut expected = vec![*root.as_bytes()];
    for item in outboard.tree().ranges_pre_order_chunks_iter_ref(&ranges, BLOCK_SIZE.chunk_log()) {
        let Some(hash) = expected.pop() else { break };
        match item {
            BaoChunk::Parent { node, is_root, left, right, .. } => {
                let mismatch = Error::Mismatch { hash: root, offset: node.chunk_range().start.to_bytes() };
                let Some((l, r)) = outboard.load(node).await? else { return Err(mismatch) };
                if parent_cv(l.as_bytes(), r.as_bytes(), is_root) != hash {
                    return Err(mismatch);
                }
                expected.extend(right.then_some(*r.as_bytes()));
                expected.extend(left.then_some(*l.as_bytes()));
            }
            BaoChunk::Leaf { start_chunk, size, is_root, .. } => {
                let offset = start_chunk.to_bytes();
                let bytes = data.read_at(offset, size).await?;
                if bytes.len() != size {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                if subtree_cv(start_chunk.0, &bytes, is_root) != hash {
                    return Err(Error::Mismatch { hash: root, offset });
                }
                sink(offset, bytes)?;
            }
        }
    }
    Ok(())
}
