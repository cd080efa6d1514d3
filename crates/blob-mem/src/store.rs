//! The store: its state, and looking blobs up.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bao_tree::ChunkRanges;
use blob_traits::{BlobStatus, EntryStatus, Error, Hash, HashAndFormat, Map, Result, Tag};
use bytes::Bytes;

use crate::{
    entry::{Blob, Content, MemEntry, Whole},
    pins::Pins,
};

/// The limits of a [`MemStore`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemOptions {
    /// The size in bytes above which a blob is refused, whether it is imported or its size is only claimed.
    pub max_blob_size: u64,
}

impl Default for MemOptions {
    /// Refuses what no memory holds: blobs over 2^48 bytes.
    fn default() -> Self {
        Self { max_blob_size: 1 << 48 }
    }
}

/// A store in memory. A clone is another handle to the same store.
#[derive(Clone)]
pub struct MemStore(Arc<Shared>);

struct Shared {
    options: MemOptions,
    pins: Pins,
    closed: Arc<AtomicBool>,
    state: Mutex<State>,
}

/// What the store holds. No code of others runs while it is locked, and the lock of a blob is taken after it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<Hash, Arc<Blob>>,
    pub(crate) tags: BTreeMap<Tag, HashAndFormat>,
}

impl MemStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::with_options(MemOptions::default())
    }

    /// Creates an empty store with limits.
    pub fn with_options(options: MemOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            pins: Pins::default(),
            closed: Arc::default(),
            state: Mutex::default(),
        }))
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.0.pins
    }

    /// Locks the state of a store that is open.
    pub(crate) fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state_even_if_closed();
        if self.0.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(state) }
    }

    fn state_even_if_closed(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the store and forgets everything.
    pub(crate) fn close(&self) {
        let mut state = self.state_even_if_closed();
        self.0.closed.store(true, Ordering::Release);
        *state = State::default();
    }

    /// Checks a size, known or claimed, against the limit.
    pub(crate) fn check_size(&self, size: u64) -> Result<()> {
        let limit = self.0.options.max_blob_size;
        if size > limit { Err(Error::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Makes a blob that belongs to this store, which is not in its state yet.
    pub(crate) fn new_blob(&self, hash: Hash, content: Content) -> Arc<Blob> {
        Arc::new(Blob::new(hash, self.0.closed.clone(), self.0.pins.clone(), content))
    }

    /// Looks a blob up; the empty one is always there.
    pub(crate) fn find(&self, state: &State, hash: Hash) -> Option<Arc<Blob>> {
        let found = state.blobs.get(&hash).cloned();
        let empty = || Content::Whole(Whole { data: Bytes::new(), outboard: Bytes::new() });
        found.or_else(|| (hash == Hash::EMPTY).then(|| self.new_blob(hash, empty())))
    }
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state_even_if_closed();
        f.debug_struct("MemStore")
            .field("n_blobs", &state.blobs.len())
            .field("n_tags", &state.tags.len())
            .finish_non_exhaustive()
    }
}

impl Map for MemStore {
    type Entry = MemEntry;

    async fn get(&self, hash: &Hash) -> Result<Option<MemEntry>> {
        let state = self.state()?;
        Ok(self.find(&state, *hash).map(MemEntry::new))
    }
}

impl BlobStatus for MemStore {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        self.entry_status_sync(hash)
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        let state = self.state()?;
        Ok(match self.find(&state, *hash) {
            None => EntryStatus::NotFound,
            Some(blob) if blob.is_whole() => EntryStatus::Complete,
            Some(_) => EntryStatus::Partial,
        })
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        let state = self.state()?;
        Ok(self.find(&state, *hash).map(|blob| blob.present_ranges()))
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        let state = self.state()?;
        Ok(state.blobs.get(hash).is_some_and(|blob| match &*blob.content() {
            Content::Partial(pieces) => pieces.was_demoted(),
            Content::Removed(_) | Content::Whole(_) => false,
        }))
    }
}
