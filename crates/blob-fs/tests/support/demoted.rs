//! Blobs of each state that are demoted.

use std::{fs, path::Path, time::SystemTime};

use bao_tree::{
    ChunkRanges,
    io::{Parent, fsm::Outboard as _, outboard::PreOrderMemOutboard},
};
use blob_fs::FsStore;
use blob_traits::{
    BLOCK_SIZE, BlobFormat, Damage, EntryStatus, Hash, ImportMode, ImportSource, PartialTree, Progress,
    prelude::*,
};
use bytes::Bytes;

use super::{bao, chunks, content, hash, import, write};

pub(crate) const SMALL: usize = 60_000;
pub(crate) const LARGE: usize = 200_000;

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Small,
    Large,
    Referenced,
    OnDisk,
    InMemory,
}

pub(crate) const ALL: [Kept; 5] = [Kept::Small, Kept::Large, Kept::Referenced, Kept::OnDisk, Kept::InMemory];

impl Kept {
    pub(crate) fn len(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::InMemory => 50_000,
            Self::Large | Self::Referenced | Self::OnDisk => LARGE,
        }
    }

    pub(crate) fn content(self) -> Bytes {
        content(1, self.len())
    }

    pub(crate) fn hash(self) -> Hash {
        hash(1, self.len())
    }

    pub(crate) fn n_chunks(self) -> u64 {
        (self.len() as u64).div_ceil(1024)
    }

    /// What is there of it.
    pub(crate) fn present(self) -> ChunkRanges {
        match self {
            Self::OnDisk => chunks(0..64) | chunks(96..self.n_chunks()),
            Self::InMemory => chunks(16..32),
            _ => chunks(0..self.n_chunks()),
        }
    }

    pub(crate) async fn put(self, store: &FsStore, user: &Path) {
        let data = self.content();
        match self {
            Self::Small | Self::Large => drop(import(store, 1, self.len()).await),
            Self::Referenced => {
                let path = user.join("file");
                fs::write(&path, &data).unwrap();
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                let source = ImportSource::File { path, mode: ImportMode::TryReference };
                store.import(source, BlobFormat::Raw.into(), Progress::none()).await.unwrap();
            }
            Self::InMemory => drop(write(store, &data, &self.present()).await.unwrap()),
            Self::OnDisk => {
                let stream = bao(&data, &self.present());
                store.import_bao(self.hash(), data.len() as u64, self.present(), stream).await.unwrap();
            }
        }
    }
}

pub(crate) fn store_dir(dir: &Path) -> std::path::PathBuf {
    dir.join("store")
}

/// All pairs of a blob, as they should be.
pub(crate) fn pairs(data: &[u8]) -> Vec<Parent> {
    let mut outboard = PreOrderMemOutboard::create(data, BLOCK_SIZE);
    let nodes: Vec<_> = outboard.tree.pre_order_nodes_iter().collect();
    let mut load = |node| futures_lite::future::block_on(outboard.load(node)).unwrap();
    nodes.into_iter().filter_map(|node| load(node).map(|pair| Parent { node, pair })).collect()
}

pub(crate) fn lost(lost: ChunkRanges) -> Damage {
    Damage { lost, mended: Vec::new() }
}

pub(crate) async fn demote(store: &FsStore, hash: Hash, damage: Damage) -> blob_fs::Entry {
    let entry = store.get(&hash).await.unwrap().unwrap();
    let demoted = store.demote(entry, damage).await.unwrap().unwrap();
    assert!(!demoted.is_complete());
    demoted
}

/// Checks that a demoted blob has these chunks, which verify.
pub(crate) async fn check(store: &FsStore, hash: Hash, present: &ChunkRanges, context: &str) {
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Partial, "{context}");
    assert!(store.was_demoted(&hash).await.unwrap(), "{context}");
    assert_eq!(store.present_ranges(&hash).await.unwrap().as_ref(), Some(present), "{context}");
    assert_eq!(store.verified_ranges(hash).await.unwrap().as_ref(), Some(present), "{context}");
}

/// Completes a blob with what is missing.
pub(crate) async fn complete(store: &FsStore, data: &Bytes, present: &ChunkRanges) {
    let hash = Hash::new(data);
    let missing = PartialTree::all_ranges(data.len() as u64) - present.clone();
    let stream = bao(data, &missing);
    store.import_bao(hash, data.len() as u64, missing, stream).await.unwrap();
    assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), data);
    assert!(!store.was_demoted(&hash).await.unwrap());
}
