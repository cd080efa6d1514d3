//! Going through all blobs in the order in which they are best read.

use std::{collections::BTreeSet, fmt, future::Future, path::PathBuf};

use bytes::Bytes;
use futures_lite::{StreamExt, stream};

use crate::{BoxStream, Hash, ListBlobs, Map, MapEntry, Result, blocking::unblock, list::collect};

/// Hands out blobs in the order in which the store can read them fastest.
pub trait ScanBlobs: Map {
    /// Returns the blobs that are there at the time of the call, complete and partial, each once. One that is deleted
    /// meanwhile may be handed out or left out.
    ///
    /// Nothing is verified. A blob that cannot be read is handed out as an entry, so that its reader says why.
    fn scan(&self, which: ScanOf) -> impl Future<Output = Result<Scan<Self::Entry>>> + Send;
}

/// Which blobs are handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScanOf {
    /// All of them.
    #[default]
    All,
    /// Those of these that are there.
    Hashes(BTreeSet<Hash>),
}

impl ScanOf {
    /// Whether this blob is handed out.
    pub fn contains(&self, hash: &Hash) -> bool {
        match self {
            Self::All => true,
            Self::Hashes(hashes) => hashes.contains(hash),
        }
    }
}

/// The blobs of a store, in batches of a few MiB.
pub struct Scan<E> {
    /// How many blobs there are.
    pub n_blobs: u64,
    /// The blobs.
    pub batches: BoxStream<Batch<E>>,
}

/// Some blobs, each of which is read when it is asked for.
///
/// Asking may block. Whoever looks at one blob before asking for the next has its bytes at hand in the cache of the
/// processor.
pub struct Batch<E>(Box<dyn Iterator<Item = Result<Scanned<E>>> + Send>);

impl<E> Batch<E> {
    /// Makes a batch of blobs.
    pub fn new(blobs: impl Iterator<Item = Result<Scanned<E>>> + Send + 'static) -> Self {
        Self(Box::new(blobs))
    }
}

impl<E: Send + 'static> From<Vec<Scanned<E>>> for Batch<E> {
    fn from(blobs: Vec<Scanned<E>>) -> Self {
        Self::new(blobs.into_iter().map(Ok))
    }
}

impl<E> Iterator for Batch<E> {
    type Item = Result<Scanned<E>>;

    /// Reads the next blob. May block.
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

/// A blob.
#[derive(Clone, Debug)]
pub enum Scanned<E> {
    /// A small, complete one, with what is stored of it.
    Whole {
        /// Its name.
        hash: Hash,
        /// Its bytes.
        data: Bytes,
        /// Its hash tree, in pre-order.
        outboard: Bytes,
        /// The file that has its bytes, where there is one that has no others.
        path: Option<PathBuf>,
    },
    /// Any other.
    Entry {
        /// The handle to it.
        entry: E,
        /// The file that has its bytes, where there is one that has no others.
        path: Option<PathBuf>,
    },
}

impl<E> Scanned<E> {
    /// The same with another type of handle.
    pub fn map<F>(self, convert: impl FnOnce(E) -> F) -> Scanned<F> {
        match self {
            Self::Whole { hash, data, outboard, path } => Scanned::Whole { hash, data, outboard, path },
            Self::Entry { entry, path } => Scanned::Entry { entry: convert(entry), path },
        }
    }
}

impl<E: MapEntry> Scanned<E> {
    /// The name of the blob.
    pub fn hash(&self) -> Hash {
        match self {
            Self::Whole { hash, .. } => *hash,
            Self::Entry { entry, .. } => entry.hash(),
        }
    }

    /// The bytes of a complete blob; 0 for a partial one.
    pub fn complete_bytes(&self) -> u64 {
        match self {
            Self::Whole { data, .. } => data.len() as u64,
            Self::Entry { entry, .. } if entry.is_complete() => entry.size().value(),
            Self::Entry { .. } => 0,
        }
    }
}

impl<E: Send + 'static> Scan<E> {
    /// The same with another type of handle.
    pub fn map<F>(self, convert: impl Fn(E) -> F + Clone + Send + Sync + 'static) -> Scan<F> {
        let batches = self.batches.map(move |batch| {
            let convert = convert.clone();
            Ok(Batch::new(batch?.map(move |blob| Ok(blob?.map(&convert)))))
        });
        Scan { n_blobs: self.n_blobs, batches: batches.boxed() }
    }

    /// Reads all that is left. All of it is in memory then.
    ///
    /// # Errors
    /// The first that there is.
    pub async fn read_all(mut self) -> Result<Vec<Scanned<E>>> {
        let mut all = Vec::new();
        while let Some(batch) = self.batches.next().await {
            let batch = batch?;
            all.extend(unblock(move || batch.collect::<Result<Vec<_>>>()).await?);
        }
        Ok(all)
    }
}

impl<E> fmt::Debug for Batch<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").finish_non_exhaustive()
    }
}

impl<E> fmt::Debug for Scan<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("n_blobs", &self.n_blobs).finish_non_exhaustive()
    }
}

/// Scans a store in the order of the hashes: the whole of [`ScanBlobs::scan`] for a backend that has no better order.
///
/// Takes 32 bytes of memory for each blob.
pub async fn scan_by_hash<S: Map + ListBlobs>(store: &S, which: ScanOf) -> Result<Scan<S::Entry>> {
    let mut hashes: BTreeSet<Hash> = collect(store.blobs().await?).await?.into_iter().collect();
    hashes.extend(collect(store.partial_blobs().await?).await?);
    hashes.retain(|hash| which.contains(hash));
    let n_blobs = hashes.len() as u64;
    let store = store.clone();
    let batches = stream::unfold(hashes.into_iter(), move |mut hashes| {
        let store = store.clone();
        async move {
            loop {
                let hash = hashes.next()?;
                match store.get(&hash).await {
                    Ok(None) => {}
                    Ok(Some(entry)) => {
                        return Some((Ok(vec![Scanned::Entry { entry, path: None }].into()), hashes));
                    }
                    Err(e) => return Some((Err(e), hashes)),
                }
            }
        }
    });
    Ok(Scan { n_blobs, batches: batches.boxed() })
}
