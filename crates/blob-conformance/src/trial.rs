//! What a case is given besides its store: places, sizes, numbers, and ways to open the store again.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use blob_traits::{Error, Result};
use tempfile::TempDir;

use crate::{
    Capability, Dice, Failure, Home,
    home::Faults,
    panics,
    suite::{Backend, End, Opening},
};

const BOUNDARY_SIZES: [u64; 13] =
    [0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 32768, 32769, 1 << 20, (1 << 20) + 1, (4 << 20) + 777];

/// One run of one case: everything that it may use, and that is cleaned up and audited after it.
pub struct Trial<S> {
    pub(crate) backend: Backend<S>,
    /// The full name: configuration, flavour, group, case.
    pub(crate) name: String,
    pub(crate) seed: u64,
    pub(crate) is_control: bool,
    dir: TempDir,
    home: Home,
    kept: Mutex<Vec<S>>,
    temp_tags_may_stay: AtomicBool,
    panics_are_expected: AtomicBool,
}

impl<S: Clone> Trial<S> {
    pub(crate) fn new(
        backend: Backend<S>,
        name: String,
        seed: u64,
        is_control: bool,
    ) -> std::io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("conformance-").tempdir()?;
        std::fs::create_dir(dir.path().join("user"))?;
        let home = Home::new(dir.path().join("store"));
        Ok(Self {
            backend,
            name,
            seed,
            is_control,
            dir,
            home,
            kept: Mutex::default(),
            temp_tags_may_stay: AtomicBool::new(false),
            panics_are_expected: AtomicBool::new(false),
        })
    }

    /// The home of the store that the case was given.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// Another home, for another store.
    pub fn other_home(&self, name: &str) -> Home {
        Home::new(self.dir.path().join(name))
    }

    /// Opens a store. It is closed when the case is over.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn open(&self, home: &Home) -> Result<S> {
        let store = (self.backend.open)(home.clone()).await?;
        self.kept().push(store.clone());
        Ok(store)
    }

    /// Shuts a store down and opens the one in its home again.
    ///
    /// All handles to stores that this trial has opened are given up, so that nothing but the case's own ones keep them.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn reopen(&self, store: S) -> Result<S> {
        (self.backend.end.shutdown)(store).await?;
        self.kept().clear();
        self.open(&self.home).await
    }

    /// Drops a store without a shutdown, as the end of a process would, and opens the one in its home again. The case must
    /// have dropped its other handles.
    ///
    /// Work that nobody waits for any more may keep the store open for a moment, as it does not in a process that ends:
    /// the contract promises that it can be opened at once after a shutdown alone.
    ///
    /// # Errors
    /// Those of the backend.
    pub async fn crash_and_reopen(&self, store: S) -> Result<S> {
        self.abandon(store);
        self.open_when_free(&self.home).await
    }

    /// Opens a store that was dropped without a shutdown a moment ago.
    ///
    /// # Errors
    /// Those of the backend.
    pub(crate) async fn open_when_free(&self, home: &Home) -> Result<S> {
        let begun = Instant::now();
        loop {
            match self.open(home).await {
                Err(Error::Locked { .. }) if begun.elapsed() < self.patience() => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                opened => return opened,
            }
        }
    }

    /// Drops a store without a shutdown.
    pub fn abandon(&self, store: S) {
        self.kept().clear();
        drop(store);
    }
}

impl<S> Trial<S> {
    /// The path of a file of the user's: outside the store, in a directory that is there.
    pub fn user(&self, name: &str) -> PathBuf {
        self.dir.path().join("user").join(name)
    }

    /// Writes a file of the user's.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn user_file(&self, name: &str, bytes: &[u8]) -> std::io::Result<PathBuf> {
        let path = self.user(name);
        std::fs::write(&path, bytes)?;
        Ok(path)
    }

    /// The names in the user's directory, in order.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn user_names(&self) -> std::io::Result<Vec<String>> {
        let names: std::io::Result<Vec<_>> = std::fs::read_dir(self.user(""))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect();
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    /// Sizes in bytes around every boundary of the format and every threshold of the backend, ascending.
    pub fn sizes(&self) -> Vec<usize> {
        let around = |size: &u64| [size.saturating_sub(1), *size, size + 1];
        let sizes = BOUNDARY_SIZES.into_iter().chain(self.backend.thresholds.iter().flat_map(around));
        let mut sizes: Vec<_> = sizes.filter_map(|size| usize::try_from(size).ok()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// The sizes in bytes at which the backend changes its ways.
    pub fn thresholds(&self) -> impl Iterator<Item = u64> {
        self.backend.thresholds.iter().copied()
    }

    /// A few sizes in bytes at which the backend goes different ways, each above one threshold more; none is 0 and the
    /// last is over all thresholds and several chunk groups long. Cheaper than [`sizes`](Self::sizes).
    pub fn ways(&self) -> Vec<usize> {
        let above = self.backend.thresholds.iter().filter_map(|size| usize::try_from(size + 1000).ok());
        let mut sizes: Vec<_> = [1000, 100_000].into_iter().chain(above).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// A size in bytes over all thresholds, at least 100,000.
    pub fn large(&self) -> usize {
        self.ways().pop().unwrap_or(100_000)
    }

    /// Starts a thread that belongs to this trial: its panics count as the trial's.
    ///
    /// # Errors
    /// Those of the system.
    pub fn thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<std::thread::JoinHandle<T>> {
        std::thread::Builder::new().name(panics::trial().unwrap_or_default()).spawn(work)
    }

    /// Whether the backend has something; for the part of a case that only some backends can show.
    pub fn has(&self, capability: Capability) -> bool {
        !self.backend.lacks.contains_key(&capability)
    }

    /// Numbers without a pattern, that depend on the seed alone.
    pub fn dice(&self) -> Dice {
        Dice::new(self.seed)
    }

    /// The seed of this trial.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The files of a closed store that the backend says it can do without.
    ///
    /// # Errors
    /// When the backend does not say; those of the file system.
    pub(crate) fn derived(&self, home: &Home) -> Result<Vec<PathBuf>, Failure> {
        let find =
            self.backend.derived.ok_or_else(|| Failure::skipped("the backend names no derived files"))?;
        Ok(find(home.dir())?)
    }

    /// What gives back the space of deleted blobs, where the backend says how. It does nothing before it is awaited.
    pub(crate) fn compacted(&self, store: S) -> Option<Opening<()>> {
        self.backend.compact.as_ref().map(|compact| compact(store))
    }

    /// What makes the file system below the store fail.
    ///
    /// # Errors
    /// When the backend has not called [`Home::set_faults`].
    pub fn faults(&self) -> Result<Arc<dyn Faults>, Failure> {
        self.home.faults().ok_or_else(|| "the backend has not set the faults of its home".into())
    }

    /// Says that temporary tags stay on purpose, as leaked ones do.
    pub fn expect_temp_tags(&self) {
        self.temp_tags_may_stay.store(true, Ordering::Relaxed);
    }

    /// Says that threads of this trial panic on purpose.
    pub fn expect_panics(&self) {
        self.panics_are_expected.store(true, Ordering::Relaxed);
    }

    /// How long to wait for what is on its way out. A broken store may keep it for ever.
    pub(crate) fn patience(&self) -> Duration {
        if self.is_control { Duration::from_millis(300) } else { Duration::from_secs(10) }
    }

    pub(crate) fn panics_are_expected(&self) -> bool {
        self.panics_are_expected.load(Ordering::Relaxed)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Looks at the stores that are open, and closes them.
    pub(crate) async fn close(&self) -> Result<(), Failure> {
        let End { temp_tags, shutdown } = self.backend.end;
        let kept = std::mem::take(&mut *self.kept());
        for store in kept {
            let held = temp_tags(&store);
            if !held.is_empty() && !self.temp_tags_may_stay.load(Ordering::Relaxed) {
                return Err(format!("temporary tags were left: {held:?}").into());
            }
            shutdown(store).await?;
        }
        Ok(())
    }

    /// The list holds no code of others while it is locked, and is consistent after any panic.
    fn kept(&self) -> MutexGuard<'_, Vec<S>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> fmt::Debug for Trial<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial")
            .field("name", &self.name)
            .field("seed", &self.seed)
            .field("dir", &self.dir.path())
            .finish_non_exhaustive()
    }
}
