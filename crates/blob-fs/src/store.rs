//! The store: opened, shared, shut down.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
};

use blob_traits::{Error, Lifecycle, Result, blocking::unblock};
use tokio::sync::Mutex;

use crate::{
    committer::Committer,
    engine::Engine,
    layout::Layout,
    lock::{LockError, StoreLock},
    options::{Compaction, Create, Options},
    partial::Partials,
    recover::{Recovered, Recovery, recover},
    reserve::Reserve,
    state::{Phase, State, Unrepaired},
    vfs::Vfs,
};

/// A verified blob store in a directory.
///
/// A cheap handle; clones share the store. When the last one is dropped without [`shutdown`](Lifecycle::shutdown), the
/// store is left as a kill would leave it: nothing that was acknowledged is lost, and the next opening replays the end
/// of the log. The directory can be opened again at once in both cases.
#[derive(Clone)]
pub struct FsStore {
    pub(crate) engine: Arc<Engine>,
    shared: Arc<Shared>,
}

struct Shared {
    engine: Arc<Engine>,
    running: Arc<Mutex<Option<Running>>>,
    recovery: Recovery,
}

/// What ends with the store.
struct Running {
    writer: JoinHandle<()>,
    committer: JoinHandle<Result<()>>,
    compactor: Option<JoinHandle<()>>,
    _lock: StoreLock,
}

impl FsStore {
    /// Opens a store, or creates it.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is open elsewhere, [`Error::FileNotFound`] when it is not there and not to be
    /// created, [`Error::UnsupportedFormat`] when a newer release wrote it, [`Error::DamagedStore`] when its log or
    /// its index cannot be read and opening it would lose something ([`Options::rebuild`]). In all these cases nothing is
    /// changed.
    pub async fn open(options: Options) -> Result<Self> {
        unblock(move || Self::open_blocking(options.within_limits())).await
    }

    fn open_blocking(options: Options) -> Result<Self> {
        let root = prepare(&*options.vfs, &options.dir, options.create)?;
        let layout = Layout::new(root);
        let lock = StoreLock::acquire(&*options.vfs, &layout).map_err(|e| lock_error(e, &layout))?;
        for dir in [layout.log_dir(), layout.data_dir(), layout.partial_dir(), layout.temp_dir()] {
            ensure_dir(&*options.vfs, &dir)?;
        }
        options.vfs.sync_dir(layout.root()).map_err(|e| Error::io("sync", layout.root(), e))?;
        let reserve = Reserve::find(&*options.vfs, &layout, options.reserve)?;
        let recovered = recover(&options, &layout, &reserve)?;
        let Recovered { store_id, index, log, published, next_seq, recovery } = recovered;
        let mut state = State::new(next_seq, published, index.reader()?, Partials::default());
        state.unrepaired = Unrepaired::of(&recovery);
        let engine = Arc::new(Engine::new(options, layout, state, log, reserve));
        let committer = Committer::new(engine.clone(), index, store_id);
        committer.tend_reserve();
        let spawn_error = |e| Error::io("start a thread for", engine.layout.root(), e);
        let committer = std::thread::Builder::new()
            .name("blob-fs-index".to_owned())
            .spawn(move || committer.run())
            .map_err(spawn_error)?;
        let writer = {
            let engine = engine.clone();
            std::thread::Builder::new().name("blob-fs-log".to_owned()).spawn(move || engine.run_writer())
        }
        .map_err(spawn_error)?;
        let compactor = match engine.options.compaction {
            Compaction::Manual => None,
            Compaction::Background { .. } => {
                let engine = engine.clone();
                let thread = std::thread::Builder::new().name("blob-fs-compact".to_owned());
                Some(thread.spawn(move || engine.run_compactor()))
            }
        };
        let compactor = compactor.transpose().map_err(spawn_error)?;
        let running = Running { writer, committer, compactor, _lock: lock };
        let running = Arc::new(Mutex::new(Some(running)));
        let accepts_loss = !recovery.losses.is_empty();
        let store = Self { shared: Arc::new(Shared { engine: engine.clone(), running, recovery }), engine };
        if accepts_loss {
            // From here on the log has an end that the index knows, whatever of it is lost (E67).
            store.engine.append_mark()?;
            store.engine.commit_index()?;
        }
        Ok(store)
    }

    /// What opening found and mended.
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// The directory of the store, with links resolved.
    pub fn dir(&self) -> &Path {
        self.engine.layout.root()
    }
}

impl fmt::Debug for FsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FsStore").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

impl Lifecycle for FsStore {
    async fn sync(&self) -> Result<()> {
        let engine = self.engine.clone();
        engine.state().check_readable()?;
        unblock(move || {
            engine.sync_partials()?;
            engine.sync_log().map_err(|failure| failure.to_error())
        })
        .await
    }

    async fn shutdown(&self) -> Result<()> {
        let mut running = self.shared.running.clone().lock_owned().await;
        let engine = self.engine.clone();
        // The guard goes along, so that a second call waits for the first, also when that was dropped.
        unblock(move || running.take().map_or(Ok(()), |running| running.close(&engine))).await
    }
}

impl Running {
    /// Ends in good order; what fails on the way does not keep the rest from being done.
    fn close(self, engine: &Engine) -> Result<()> {
        let partials = engine.sync_partials();
        engine.enter(Phase::Draining);
        end_compaction(engine, self.compactor);
        let writer = self.writer.join().map_err(|_| thread_panicked(engine));
        let synced = engine.sync_log().map_err(|failure| failure.to_error());
        let marked = if synced.is_ok() && engine.state().is_ahead_of_index() {
            let marked = engine.write_mark().and_then(|()| engine.sync_log());
            marked.map_err(|failure| failure.to_error())
        } else {
            Ok(())
        };
        engine.enter(Phase::Closing);
        let committed = self.committer.join().unwrap_or_else(|_| Err(thread_panicked(engine)));
        engine.enter(Phase::Closed);
        engine.state().visible.reader = None;
        engine.close_files();
        partials.and(writer).and(synced).and(marked).and(committed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Locked: it is being shut down, by somebody who has dropped the future.
        let Some(running) = self.running.try_lock().ok().and_then(|mut running| running.take()) else {
            return;
        };
        self.engine.enter(Phase::Closed);
        end_compaction(&self.engine, running.compactor);
        let writer = running.writer.join();
        let committer = running.committer.join();
        self.engine.state().visible.reader = None;
        self.engine.close_files();
        if writer.is_err() || committer.is_err() {
            tracing::error!("a thread of the store panicked");
        }
    }
}

/// Waits for compaction to stop, also where it was called for. It does so between records.
fn end_compaction(engine: &Engine, thread: Option<JoinHandle<()>>) {
    if thread.is_some_and(|thread| thread.join().is_err()) {
        tracing::error!("a thread of the store panicked");
    }
    drop(engine.compactor());
}

fn thread_panicked(engine: &Engine) -> Error {
    Error::io("end a thread of", engine.layout.root(), io::Error::other("it panicked"))
}

/// Sees to it that the directory is there, and resolves links in its path.
fn prepare(vfs: &dyn Vfs, dir: &Path, create: Create) -> Result<PathBuf> {
    let is_store = || vfs.stat(&dir.join("log")).is_ok();
    if create == Create::Never && !is_store() {
        return Err(Error::FileNotFound { path: dir.to_owned() });
    }
    ensure_dirs(vfs, dir)?;
    vfs.canonicalize(dir).map_err(|e| Error::io("open", dir, e))
}

/// Creates a directory and those above it.
fn ensure_dirs(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    match vfs.create_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = dir.parent().ok_or_else(|| Error::FileNotFound { path: dir.to_owned() })?;
            ensure_dirs(vfs, parent)?;
            vfs.create_dir(dir).map_err(|e| Error::io("create", dir, e))?;
            vfs.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("create", dir, e)),
        Ok(()) => {
            let parent =
                dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            vfs.sync_dir(parent).map_err(|e| Error::io("sync", parent, e))
        }
    }
}

pub(crate) fn ensure_dir(vfs: &dyn Vfs, dir: &Path) -> Result<()> {
    match vfs.create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("create", dir, e)),
        _ => Ok(()),
    }
}

fn lock_error(error: LockError, layout: &Layout) -> Error {
    match error {
        LockError::Held { holder, .. } => Error::Locked { path: layout.root().to_owned(), holder },
        LockError::Io { doing, path, source } => Error::io(doing, path, source),
    }
}
