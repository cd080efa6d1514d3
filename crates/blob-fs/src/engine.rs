//! The engine: decides under the state lock, writes in groups, publishes in log order (E17-E28).

mod compacting;
mod room;
mod transact;
mod writer;

use std::{
    ffi::OsString,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use blob_traits::{Error, Hash, Result, Tag, TempTag};
use smallvec::SmallVec;
use tokio::sync::{Notify, Semaphore};

use crate::{
    compact::Compactor,
    export::Exported,
    failure::Failure,
    files::FileCache,
    index::IndexReader,
    issued::Issued,
    layout::{FileNo, Layout},
    log::{Appended, Log},
    op::{Op, Outcome, Txn},
    options::{Durability, Options},
    pins::Pins,
    reserve::Reserve,
    row::{BlobRow, TagRow},
    state::{Looked, Phase, State},
    vfs::Vfs,
};

/// Queued payload is kept below this many KiB (E28).
const QUEUE_KIB: u32 = 64 << 10;
/// A thread with nothing to do looks again after this long; it is woken when there is something.
pub(crate) const IDLE: Duration = Duration::from_mins(1);

/// What all handles of a store share.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) pins: Pins,
    pub(crate) files: FileCache,
    /// Held for reading while a directory that files are moved out of is synced, for writing while they are (E41).
    pub(crate) moving: RwLock<()>,
    pub(crate) exported: Exported,
    pub(crate) reserve: Reserve,
    pub(crate) issued: Issued,
    /// Locked before the log.
    pub(crate) compactor: Mutex<Compactor>,
    state: Mutex<State>,
    /// Locked before the state where both are.
    log: Mutex<Log>,
    writer_wake: Condvar,
    committer_wake: Condvar,
    compactor_wake: Condvar,
    index_back: Condvar,
    overlay_room: Notify,
    queue_room: Arc<Semaphore>,
}

/// The keys that a decision needs to know about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) blobs: SmallVec<[Hash; 1]>,
    pub(crate) tags: SmallVec<[Tag; 1]>,
}

/// What was decided under the state lock.
#[derive(Debug)]
pub(crate) enum Decision<T> {
    /// Nothing is to be written.
    Nothing(T),
    /// The record of this blob that is queued already is to be waited for.
    Join(Hash, T),
    /// These records are to be written, as one transaction, with their blobs pinned until they are published.
    Write(Vec<Op>, SmallVec<[TempTag; 1]>, T),
}

/// What the state says to a question.
pub(crate) enum Look<T, C> {
    Known(T),
    /// The index is to be asked, with this.
    Ask(C),
}

impl Engine {
    pub(crate) fn new(options: Options, layout: Layout, state: State, log: Log, reserve: Reserve) -> Self {
        Self {
            vfs: options.vfs.clone(),
            layout,
            pins: Pins::default(),
            files: FileCache::new(options.vfs.clone(), options.open_files),
            moving: RwLock::default(),
            exported: Exported::default(),
            reserve,
            issued: Issued::default(),
            compactor: Mutex::default(),
            state: Mutex::new(state),
            log: Mutex::new(log),
            writer_wake: Condvar::new(),
            committer_wake: Condvar::new(),
            compactor_wake: Condvar::new(),
            index_back: Condvar::new(),
            overlay_room: Notify::new(),
            queue_room: Arc::new(Semaphore::new(QUEUE_KIB as usize)),
            options,
        }
    }

    /// Locks the state. A panic under the lock latches the store (E27).
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| {
            let mut state = poisoned.into_inner();
            state.failed.get_or_insert_with(|| panicked(&self.layout));
            state
        })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a file that no file has.
    pub(crate) fn new_file_no(&self) -> FileNo {
        loop {
            let mut no = [0; 8];
            self.vfs.random(&mut no);
            let no = FileNo(u64::from_le_bytes(no));
            if no != FileNo::NONE {
                self.issued.note(no, || self.unfinished_names());
                return no;
            }
        }
    }

    /// What lies where files are made.
    fn unfinished_names(&self) -> Option<Vec<OsString>> {
        let mut names = self.vfs.read_dir(&self.layout.temp_dir()).ok()?;
        names.extend(self.vfs.read_dir(&self.layout.partial_dir()).ok()?);
        Some(names)
    }

    /// Looks at the state and then, where that does not answer, at the index as it was at that moment (E33).
    ///
    /// Where the index cannot be read it is opened again, and asked once more (E35). May block.
    pub(crate) fn look<T, C>(
        &self,
        known: impl Fn(&State) -> Look<T, C>,
        ask: impl Fn(&IndexReader, C) -> Result<T>,
    ) -> Result<T> {
        let mut first_try = true;
        let mut state = self.state();
        loop {
            state.check_readable()?;
            let context = match known(&state) {
                Look::Known(answer) => return Ok(answer),
                Look::Ask(context) => context,
            };
            let generation = state.visible.generation;
            match state.visible.reader.clone() {
                _ if state.visible.reopening => {}
                None if first_try => {}
                None => return Err(state.index_error()),
                Some(reader) => {
                    drop(state);
                    match ask(&reader, context) {
                        Err(Error::Io { path: Some(path), .. })
                            if first_try && path == self.layout.index() => {}
                        answer => return answer,
                    }
                    state = self.state();
                }
            }
            if !state.visible.reopening && state.visible.generation == generation {
                state.visible.reopening = true;
                first_try = false;
                self.committer_wake.notify_one();
            }
            while state.visible.reopening && state.phase == Phase::Open {
                state = wait_on(&self.index_back, state, IDLE);
            }
        }
    }

    /// The row of a blob that readers see (E3, E33).
    pub(crate) fn blob(&self, hash: &Hash) -> Result<Option<BlobRow>> {
        let known = |state: &State| match state.visible.overlay_blob(hash) {
            _ if state.is_hidden(hash) => Look::Known(None),
            Some(change) => Look::Known(change.row()),
            None => Look::Ask(()),
        };
        self.look(known, |reader, ()| reader.blob(hash))
    }

    /// The row of a tag that readers see.
    pub(crate) fn tag(&self, tag: &Tag) -> Result<Option<TagRow>> {
        let known = |state: &State| match state.visible.overlay_tag(tag) {
            _ if state.is_tag_hidden(tag) => Look::Known(None),
            Some(change) => Look::Known(change.row()),
            None => Look::Ask(()),
        };
        self.look(known, |reader, ()| reader.tag(tag))
    }

    /// Whether a tag is there, or is going to be.
    pub(crate) fn is_tag_taken(&self, tag: &Tag) -> Result<bool> {
        let queued = self.state().is_tag_queued(tag);
        Ok(queued || self.tag(tag)?.is_some())
    }

    /// Asks the index, without the state lock, for what a decision needs. What is asked for is small: it comes from
    /// memory but for a cold start.
    pub(crate) fn look_up(&self, keys: &Keys) -> Result<Looked> {
        let ask = |reader: &IndexReader, generation| {
            let mut looked = Looked { generation, ..Looked::default() };
            reader.rows_of(&keys.blobs, |hash, row| {
                looked.blobs.insert(hash, row);
            })?;
            for tag in &keys.tags {
                looked.tags.extend(reader.tag(tag)?.map(|row| (tag.clone(), row)));
            }
            Ok(looked)
        };
        self.look(|state| Look::Ask(state.visible.generation), ask)
    }

    /// Takes a group from the queue, writes and publishes it. Nobody else may be leading.
    fn lead(&self, mut state: MutexGuard<'_, State>) -> Outcome {
        let group = state.take_group();
        let kills = state.kills(&group);
        let durable_seq = state.durable_seq;
        state.leading = true;
        drop(state);
        let latch = LatchOnPanic(self);
        let (written, took) = self.write(&group, &kills, durable_seq);
        std::mem::forget(latch);
        if let Err(failure) = &written {
            tracing::warn!(failure = %failure.text(), "a group of writes failed");
        }
        let in_doubt = self.log().is_in_doubt();
        let mut state = self.state();
        state.leading = false;
        state.is_log_in_doubt = in_doubt;
        let outcome = match written {
            Ok(appended) => {
                self.publish(&mut state, group, &appended, took);
                Ok(())
            }
            Err(failure) => {
                self.fail(&mut state, group, &failure);
                Err(failure)
            }
        };
        if !state.queue.is_empty() || state.phase != Phase::Open {
            self.writer_wake.notify_one();
        }
        outcome
    }

    fn write(
        &self,
        group: &[Txn],
        kills: &[SmallVec<[Option<u32>; 1]>],
        durable_seq: u64,
    ) -> (Result<Appended, Failure>, Option<Duration>) {
        let mut log = self.log();
        let before = self.reserve.n_given_up();
        let mut appended = log.append(group, kills, durable_seq);
        if appended.as_ref().is_err_and(Failure::is_no_space)
            && group.iter().flat_map(|txn| &txn.ops).all(|queued| queued.op.is_removal())
            && self.reserve.give_up(&*self.vfs, before)
        {
            appended = log.append(group, kills, durable_seq);
        }
        let appended = match appended {
            Ok(appended) => appended,
            Err(failure) => return (Err(failure), None),
        };
        if self.options.durability == Durability::Relaxed {
            return (Ok(appended), None);
        }
        let begun = Instant::now();
        (log.sync().map(|()| appended), Some(begun.elapsed()))
    }

    /// Fails a group and all that is queued. A tag or a hash sequence whose removal was seen comes back, which a round of
    /// collection that has looked for it in the meantime does not know.
    fn fail(&self, state: &mut State, group: Vec<Txn>, failure: &Failure) {
        let mut failed = group.iter().chain(&state.queue).flat_map(|txn| &txn.ops);
        if failed.any(|queued| matches!(queued.op, Op::TagDelete { .. } | Op::Delete { .. })) {
            self.pins.spoil_round();
        }
        state.fail(group, failure);
    }

    fn publish(&self, state: &mut State, group: Vec<Txn>, appended: &Appended, took: Option<Duration>) {
        let was_clean = state.visible.active.rows() == 0;
        let blobs: Vec<_> = group.iter().flat_map(|txn| &txn.ops).filter_map(|op| op.op.blob()).collect();
        state.publish(group, appended);
        for (hash, _) in blobs {
            self.pins.changed(&hash);
        }
        if let Some(took) = took {
            state.durable_seq = appended.last.seq;
            state.mean_sync = (state.mean_sync * 7 + took) / 8;
        } else {
            let (bytes, since) = state.unsynced.unwrap_or((0, Instant::now()));
            state.unsynced = Some((bytes + appended.bytes, since));
            if bytes == 0 || bytes + appended.bytes >= writer::SYNC_BYTES {
                self.writer_wake.notify_one();
            }
        }
        // The committer counts the age of the changes from now on (E31).
        if was_clean
            || state.visible.active.rows() >= self.options.overlay_rows
            || state.log_behind >= crate::committer::LOG_BEHIND
            || !state.orphans.is_empty()
        {
            self.committer_wake.notify_one();
        }
    }

    /// Waits, as the committer, for something to do.
    pub(crate) fn wait_committer<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        wait: Duration,
    ) -> MutexGuard<'a, State> {
        wait_on(&self.committer_wake, state, wait)
    }

    /// Lets those go on who wait for the index, or for room in the overlay.
    pub(crate) fn index_changed(&self) {
        self.compactor_wake.notify_all();
        self.index_back.notify_all();
        self.overlay_room.notify_waiters();
    }

    /// Goes on to a later phase and wakes all who wait, so that they see it.
    pub(crate) fn enter(&self, phase: Phase) {
        self.state().phase = phase;
        self.writer_wake.notify_all();
        self.committer_wake.notify_all();
        self.compactor_wake.notify_all();
        self.index_back.notify_all();
        self.overlay_room.notify_waiters();
    }

    /// Closes the files of a store that is closed: handles to it may live on.
    pub(crate) fn close_files(&self) {
        self.log().close();
        self.files.forget_all();
    }

    /// Writes the last record of a clean shutdown. Nobody else writes any more.
    pub(crate) fn write_mark(&self) -> Outcome {
        let mut state = self.state();
        state.enqueue(vec![Op::Mark], &Looked::default(), SmallVec::new(), None, None);
        self.lead(state)
    }
}

fn wait_on<'a>(condvar: &Condvar, state: MutexGuard<'a, State>, wait: Duration) -> MutexGuard<'a, State> {
    condvar.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
}

/// Latches the store when a leader panics: what it has written is not known (E27).
struct LatchOnPanic<'a>(&'a Engine);

impl Drop for LatchOnPanic<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.leading = false;
        self.0.fail(&mut state, Vec::new(), &panicked(&self.0.layout));
    }
}

fn panicked(layout: &Layout) -> Failure {
    Failure::new("change", layout.root(), &std::io::Error::other("panicked")).fatal()
}
