//! Computing the hash and the tree of bytes in memory.

use std::io::{self, Read};

use bao_tree::{
    BaoTree,
    io::{outboard::PreOrderMemOutboard, sync},
};
use blob_traits::{
    BLOCK_SIZE, Hash, Result,
    blocking::{Alive, Watch, unblock},
};
use bytes::Bytes;

use super::Report;
use crate::entry::Whole;

/// What is larger, in bytes, is hashed on the blocking pool.
const LARGE: usize = 128 << 10;
/// How much is hashed between two reports.
const STEP_BYTES: usize = 1 << 20;

/// Hashes bytes. Does not report the end.
pub(super) async fn hash(data: Bytes, report: &Report) -> Result<(Hash, Whole)> {
    let alive = Alive::default();
    let source =
        Source { data: data.clone(), offset: 0, reported: 0, watch: alive.watch(), report: report.clone() };
    let (hash, outboard) =
        if data.len() > LARGE { unblock(move || build(source)).await? } else { build(source)? };
    Ok((hash, Whole { data, outboard }))
}

fn build(source: Source) -> Result<(Hash, Bytes)> {
    let tree = BaoTree::new(source.data.len() as u64, BLOCK_SIZE);
    let len = usize::try_from(tree.outboard_size()).map_err(io::Error::other)?;
    let mut outboard = PreOrderMemOutboard { root: [0; 32].into(), tree, data: vec![0; len] };
    let root = sync::outboard(source, tree, &mut outboard)?;
    Ok((root.into(), outboard.data.into()))
}

/// Yields the bytes, and reports before it goes on.
struct Source {
    data: Bytes,
    offset: usize,
    reported: usize,
    watch: Watch,
    report: Report,
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.offset - self.reported >= STEP_BYTES {
            self.watch.check()?;
            self.report.hashing(self.offset as u64)?;
            self.reported = self.offset;
        }
        let n = self.data.get(self.offset..).unwrap_or_default().read(out)?;
        self.offset += n;
        Ok(n)
    }
}
