//! Where a store lives during a trial, and what the suite asks of it beyond its traits.

use std::{
    any::Any,
    fmt, fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The place of one store: what a backend's `open` is given.
///
/// The directory may not exist yet. When the same home is opened again, the store that was there before is meant.
/// A clone is the same home.
#[derive(Clone)]
pub struct Home {
    dir: PathBuf,
    max_blob_size: Option<u64>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    kept: Vec<Arc<dyn Any + Send + Sync>>,
    faults: Option<Arc<dyn Faults>>,
}

/// Makes the file system below a store fail on command.
pub trait Faults: Send + Sync {
    /// Lets one operation fail, and those after it if the fault stays; takes the place of what was armed before.
    fn arm(&self, fault: Fault);

    /// Lets nothing fail any more.
    fn disarm(&self);

    /// Tells whether anything has failed since the last [`arm`](Self::arm).
    fn has_fired(&self) -> bool;
}

/// What shall fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which of the operations of that kind from now on, counted from 1.
    pub at: u64,
    /// Which operations are counted.
    pub what: Operations,
    /// Whether the later ones fail, too.
    pub lasts: Lasts,
    /// The error number of the system: `ENOSPC`, `EIO`, ...
    pub errno: i32,
}

/// Kinds of operations of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operations {
    /// Those that write bytes, names or lengths.
    Writes,
    /// Those that make something durable.
    Syncs,
    /// Those that read bytes.
    Reads,
}

/// How long a fault lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasts {
    /// One operation fails.
    Once,
    /// All fail from then on, until the fault is disarmed.
    UntilDisarmed,
}

impl Home {
    /// A home in a directory, which need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_blob_size: None, shared: Arc::default() }
    }

    /// The same home with a limit on the size of blobs, in bytes.
    #[must_use]
    pub fn with_max_blob_size(mut self, limit: u64) -> Self {
        self.max_blob_size = Some(limit);
        self
    }

    /// The same home as seen by a store that knows no limit.
    pub(crate) fn without_limit(&self) -> Self {
        Self { max_blob_size: None, ..self.clone() }
    }

    /// The directory of the store. A backend without files ignores it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many bytes the files of the store have together, as far as they can be seen: what a store takes up. Holes
    /// count as bytes.
    pub fn stored_bytes(&self) -> u64 {
        self.total(fs::Metadata::len)
    }

    /// How many bytes the file system has set aside for the files of the store. Holes count for nothing.
    pub fn allocated_bytes(&self) -> u64 {
        self.total(|metadata| metadata.blocks() * 512)
    }

    /// What the files of the store have together of something.
    fn total(&self, of: impl Fn(&fs::Metadata) -> u64) -> u64 {
        let mut total = 0;
        let mut open = vec![self.dir.clone()];
        while let Some(at) = open.pop() {
            for entry in fs::read_dir(at).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => open.push(entry.path()),
                    Ok(metadata) => total += of(&metadata),
                    // removed meanwhile
                    Err(_) => {}
                }
            }
        }
        total
    }

    /// The size in bytes above which the store is to refuse blobs, where a case wants one.
    pub fn max_blob_size(&self) -> Option<u64> {
        self.max_blob_size
    }

    /// What a backend keeps from one opening of this home to the next: the first call makes it, later ones of the same
    /// type return it.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut shared = self.shared();
        let kept = shared.kept.iter().find_map(|kept| kept.clone().downcast().ok());
        kept.unwrap_or_else(|| {
            let new = Arc::new(make());
            shared.kept.push(new.clone());
            new
        })
    }

    /// Says how failures of the file system can be arranged for the store in this home.
    pub fn set_faults(&self, faults: Arc<dyn Faults>) {
        self.shared().faults = Some(faults);
    }

    pub(crate) fn faults(&self) -> Option<Arc<dyn Faults>> {
        self.shared().faults.clone()
    }

    /// The map holds no code of others while it is locked, and is consistent after any panic.
    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Home")
            .field("dir", &self.dir)
            .field("max_blob_size", &self.max_blob_size)
            .finish_non_exhaustive()
    }
}
