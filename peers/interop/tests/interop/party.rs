//! The four stores, with the calls of each behind the same names.

use blob_fs::FsStore;
use blob_mem::MemStore;
use blob_traits::{BlobFormat, EntryStatus, Error, Hash, Store, bao_tree::ChunkRanges, prelude::*};
use bytes::Bytes;
use iroh_blobs::{
    api::{self, blobs::BlobStatus as PeerStatus, proto::Bitfield},
    store as peer,
};
use tempfile::TempDir;

/// A store of either project.
#[derive(Debug)]
pub(crate) struct Party {
    pub(crate) name: &'static str,
    pub(crate) store: AnyStore,
    _dir: Option<TempDir>,
}

#[derive(Debug)]
pub(crate) enum AnyStore {
    Mem(MemStore),
    Fs(FsStore),
    /// In memory or on disk: their handle is the same.
    Peer(api::Store),
}

/// What is there of a blob. Theirs says of complete blobs that all is there, and of those whose end is there that all
/// that follows is, too; so this does.
pub(crate) type State = Bitfield;

impl Party {
    pub(crate) fn ours_in_memory() -> Self {
        Self { name: "ours in memory", store: AnyStore::Mem(MemStore::new()), _dir: None }
    }

    pub(crate) async fn ours_on_disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = FsStore::open(blob_fs::Options::new(dir.path().join("store"))).await.unwrap();
        Self { name: "ours on disk", store: AnyStore::Fs(store), _dir: Some(dir) }
    }

    pub(crate) fn theirs_in_memory() -> Self {
        let store = peer::mem::MemStore::new();
        Self { name: "theirs in memory", store: AnyStore::Peer(store.into()), _dir: None }
    }

    pub(crate) async fn theirs_on_disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = peer::fs::FsStore::load(dir.path()).await.unwrap();
        Self { name: "theirs on disk", store: AnyStore::Peer(store.into()), _dir: Some(dir) }
    }

    pub(crate) async fn all() -> [Self; 4] {
        [
            Self::ours_in_memory(),
            Self::ours_on_disk().await,
            Self::theirs_in_memory(),
            Self::theirs_on_disk().await,
        ]
    }

    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self.store, AnyStore::Peer(_))
    }

    pub(crate) async fn add(&self, blob: Bytes) -> Hash {
        match &self.store {
            AnyStore::Mem(store) => store.import_bytes(blob, BlobFormat::Raw).await.unwrap().hash(),
            AnyStore::Fs(store) => store.import_bytes(blob, BlobFormat::Raw).await.unwrap().hash(),
            AnyStore::Peer(store) => from_peer(store.add_bytes(blob).temp_tag().await.unwrap().hash()),
        }
    }

    pub(crate) async fn read(&self, hash: Hash) -> Bytes {
        match &self.store {
            AnyStore::Mem(store) => store.read_to_bytes(hash).await.unwrap(),
            AnyStore::Fs(store) => store.read_to_bytes(hash).await.unwrap(),
            AnyStore::Peer(store) => store.get_bytes(to_peer(hash)).await.unwrap(),
        }
    }

    /// A verified stream as ours goes: without the size.
    pub(crate) async fn export(&self, hash: Hash, size: u64, ranges: ChunkRanges) -> Bytes {
        let exported = self.try_export(hash, size, ranges.clone()).await;
        exported.unwrap_or_else(|refused| panic!("{}: {ranges:?} of {size}: {refused:?}", self.name))
    }

    pub(crate) async fn try_export(
        &self,
        hash: Hash,
        size: u64,
        ranges: ChunkRanges,
    ) -> Result<Bytes, Refused> {
        match &self.store {
            AnyStore::Mem(store) => Ok(store.export_bao(hash, ranges, Vec::new()).await?.into()),
            AnyStore::Fs(store) => Ok(store.export_bao(hash, ranges, Vec::new()).await?.into()),
            AnyStore::Peer(store) => {
                let exported = store.export_bao(to_peer(hash), ranges).bao_to_vec().await;
                let mut stream = Bytes::from(exported.map_err(|_| Refused::ByTheirs)?);
                assert_eq!(stream.split_to(8), size.to_le_bytes()[..]);
                Ok(stream)
            }
        }
    }

    /// Takes in a stream that has no size before it.
    pub(crate) async fn import(
        &self,
        hash: Hash,
        size: u64,
        ranges: ChunkRanges,
        stream: Bytes,
    ) -> Result<(), Refused> {
        let left = match &self.store {
            AnyStore::Mem(store) => store.import_bao(hash, size, ranges, stream).await?,
            AnyStore::Fs(store) => store.import_bao(hash, size, ranges, stream).await?,
            AnyStore::Peer(store) => {
                let stream = Bytes::from([&size.to_le_bytes()[..], &stream].concat());
                store.import_bao_reader(to_peer(hash), ranges, stream).await.map_err(|_| Refused::ByTheirs)?
            }
        };
        assert!(left.is_empty(), "{}: {} bytes of the stream were left", self.name, left.len());
        Ok(())
    }

    pub(crate) async fn state(&self, hash: Hash) -> State {
        match &self.store {
            AnyStore::Mem(store) => our_state(store, hash).await,
            AnyStore::Fs(store) => our_state(store, hash).await,
            AnyStore::Peer(store) => store.observe(to_peer(hash)).await.unwrap(),
        }
    }

    pub(crate) async fn is_complete(&self, hash: Hash) -> bool {
        match &self.store {
            AnyStore::Mem(store) => store.entry_status(&hash).await.unwrap() == EntryStatus::Complete,
            AnyStore::Fs(store) => store.entry_status(&hash).await.unwrap() == EntryStatus::Complete,
            AnyStore::Peer(store) => {
                matches!(store.status(to_peer(hash)).await.unwrap(), PeerStatus::Complete { .. })
            }
        }
    }

    /// Recomputes what is there, in a store of ours.
    pub(crate) async fn verified_ranges(&self, hash: Hash) -> Option<ChunkRanges> {
        match &self.store {
            AnyStore::Mem(store) => store.verified_ranges(hash).await.unwrap(),
            AnyStore::Fs(store) => store.verified_ranges(hash).await.unwrap(),
            AnyStore::Peer(_) => None,
        }
    }
}

/// Why a stream was not taken in, or not given.
#[derive(Debug)]
pub(crate) enum Refused {
    ByOurs(Error),
    ByTheirs,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::ByOurs(error)
    }
}

async fn our_state(store: &impl Store, hash: Hash) -> State {
    let Some(entry) = store.get(&hash).await.unwrap() else { return State::empty() };
    let present = store.present_ranges(&hash).await.unwrap().unwrap();
    State::new(present, entry.size().value())
}

pub(crate) fn to_peer(hash: Hash) -> iroh_blobs::Hash {
    iroh_blobs::Hash::from_bytes(*hash.as_bytes())
}

pub(crate) fn from_peer(hash: iroh_blobs::Hash) -> Hash {
    Hash::from_bytes(*hash.as_bytes())
}
