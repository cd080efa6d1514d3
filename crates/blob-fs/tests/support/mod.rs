//! What the tests of crashes and faults share: contents, directories, and what a store is expected to hold.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

pub(crate) mod demoted;
pub(crate) mod files;
pub(crate) mod log;
pub(crate) mod steps;
pub(crate) mod world;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges,
    io::{
        outboard::PreOrderMemOutboard,
        sync::{DecodeResponseIter, encode_ranges_validated},
    },
};
use blob_fs::{Compaction, Durability, FsBatchWriter, FsStore, Options, Rebuild};
use blob_traits::{BLOCK_SIZE, BlobFormat, Hash, Result, prelude::*};
use bytes::Bytes;

pub(crate) const DURABILITIES: [Durability; 2] = [Durability::Immediate, Durability::Relaxed];

/// A directory in memory where there is one: these tests are about what is written, not about the disk.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A store that begins segments and commits its index all the time, and compacts when it is told to.
pub(crate) fn tiny(dir: impl Into<PathBuf>) -> Options {
    Options {
        segment_size: 64 << 10,
        overlay_rows: 2,
        overlay_age: Duration::from_millis(5),
        index_cache: 1 << 20,
        partial_memory_max: 32 << 10,
        compaction: Compaction::Manual,
        ..Options::new(dir)
    }
}

/// A store that leaves its index as it was when it was opened.
pub(crate) fn lazy(dir: impl Into<PathBuf>) -> Options {
    Options { overlay_rows: 1 << 20, overlay_age: Duration::from_hours(1), ..tiny(dir) }
}

/// The same store, opened in spite of losses.
pub(crate) fn accepting(options: Options) -> Options {
    Options { rebuild: Rebuild::AcceptLoss, ..options }
}

pub(crate) async fn open(options: Options) -> FsStore {
    FsStore::open(options).await.unwrap()
}

/// Bytes without a pattern, the same each time.
pub(crate) fn content(seed: u64, len: usize) -> Bytes {
    let mut data = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut data);
    data.into()
}

pub(crate) fn hash(seed: u64, len: usize) -> Hash {
    Hash::new(content(seed, len))
}

/// Imports a blob that must go in, and says its name.
pub(crate) async fn import(store: &FsStore, seed: u64, len: usize) -> Hash {
    store.import_bytes(content(seed, len), BlobFormat::Raw).await.unwrap().hash()
}

/// Whether a blob is there whole; what is read of it must be right.
pub(crate) async fn has(store: &FsStore, seed: u64, len: usize) -> bool {
    let data = content(seed, len);
    let hash = Hash::new(&data);
    if !store.get(&hash).await.unwrap().is_some_and(|entry| entry.is_complete()) {
        return false;
    }
    assert!(store.read_verified(hash, 0..u64::MAX).await.unwrap() == data, "{hash} has other bytes");
    true
}

/// The verified stream of some chunks.
pub(crate) fn bao(data: &[u8], ranges: &ChunkRanges) -> Bytes {
    let outboard = PreOrderMemOutboard::create(data, BLOCK_SIZE);
    let mut encoded = Vec::new();
    encode_ranges_validated(data, &outboard, ranges, &mut encoded).unwrap();
    encoded.into()
}

/// Writes some chunks of a blob, without a sync.
pub(crate) async fn write(store: &FsStore, data: &Bytes, ranges: &ChunkRanges) -> Result<FsBatchWriter> {
    let (hash, size) = (Hash::new(data), data.len() as u64);
    let tree = BaoTree::new(size, BLOCK_SIZE);
    let stream = bao(data, ranges);
    let items = DecodeResponseIter::new(hash.into(), tree, &*stream, ranges);
    let batch: Vec<_> = items.map(std::result::Result::unwrap).collect();
    let entry = store.get_or_create(hash, size).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(size, batch).await?;
    Ok(writer)
}

pub(crate) fn chunks(range: std::ops::Range<u64>) -> ChunkRanges {
    ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end))
}

/// Copies a directory with all that is in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A generator of numbers, the same for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}
