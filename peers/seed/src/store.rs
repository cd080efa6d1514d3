//! The store, and how every call gets to the seed.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use blob_traits::{Error, Result};
use iroh_blobs::store::{
    Store,
    fs::{self, BatchOptions, InlineOptions, PathOptions},
    mem,
};

use crate::{
    failure::{About, translate, translate_open},
    limit::{MAX_IN_MEMORY, within_patience},
    pins::Pins,
};

/// A store of the seed. A clone is another handle to the same store.
#[derive(Clone, Debug)]
pub struct Seed<S> {
    store: S,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    promotion: Promotion,
    max_leaf_end: u64,
    moves_out_above: Option<u64>,
    pins: Pins,
    closed: AtomicBool,
}

/// What [`insert_complete`](blob_traits::MapMut::insert_complete) does about missing bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promotion {
    /// What the seed does: it promotes what it is given, and leaves it to the caller to know.
    #[default]
    AsAsked,
    /// The adapter hashes first, as the seed's own downloader does, and refuses what is not whole. Not the seed's
    /// behaviour; with this, what follows from a wrong promotion does not hide what else there is to see.
    WhenValid,
}

impl Seed<mem::Store> {
    /// Creates an empty memory store.
    #[must_use]
    pub fn memory(promotion: Promotion) -> Self {
        Self::new(mem::Store::new(), promotion, MAX_IN_MEMORY, None)
    }
}

impl Seed<fs::Store> {
    /// Opens or creates a file store, as the seed's `Store::load` does but for what is inlined.
    pub async fn open(dir: &Path, inline: InlineOptions, promotion: Promotion) -> Result<Self> {
        let path = PathOptions { data_path: dir.join("data"), temp_path: dir.join("temp") };
        let options = fs::Options { path, inline: inline.clone(), batch: BatchOptions::default() };
        let opened = within_patience(fs::Store::new(dir.join("blobs.db"), options)).await;
        match opened.and_then(|opened| opened) {
            Ok(store) => Ok(Self::new(store, promotion, u64::MAX, Some(inline.max_data_inlined))),
            Err(e) => Err(translate_open(e, dir)),
        }
    }
}

impl<S: Store> Seed<S> {
    fn new(store: S, promotion: Promotion, max_leaf_end: u64, moves_out_above: Option<u64>) -> Self {
        let (pins, closed) = (Pins::default(), AtomicBool::new(false));
        let shared = Shared { promotion, max_leaf_end, moves_out_above, pins, closed };
        Self { store, shared: Arc::new(shared) }
    }

    pub(crate) fn store(&self) -> &S {
        &self.store
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.shared.pins
    }

    pub(crate) fn promotion(&self) -> Promotion {
        self.shared.promotion
    }

    pub(crate) fn max_leaf_end(&self) -> u64 {
        self.shared.max_leaf_end
    }

    /// The size in bytes above which an export by reference moves the file out, if the seed does that.
    pub(crate) fn moves_out_above(&self) -> Option<u64> {
        self.shared.moves_out_above
    }

    /// Notes that the seed was told to shut down.
    pub(crate) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    /// Calls the seed.
    pub(crate) async fn call<T>(
        &self,
        about: About,
        call: impl Future<Output = io::Result<T>> + Send,
    ) -> Result<T> {
        self.pins().release();
        let result = within_patience(call).await;
        result.and_then(|result| result).map_err(|e| self.translate(e, about))
    }

    pub(crate) fn translate(&self, error: io::Error, about: About) -> Error {
        // That its actor is gone the seed tells in words only.
        if error.kind() == io::ErrorKind::Other && self.shared.closed.load(Ordering::Acquire) {
            return Error::Closed;
        }
        translate(error, about)
    }
}
