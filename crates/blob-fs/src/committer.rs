//! The committer: brings what the log says into the index, moves files to their place before that and removes those
//! that nobody needs after it (E5, E30, E31, E35, E41, E51). One thread; the only one that writes the index.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::PathBuf,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use blob_traits::{Error, Result};

use crate::{
    engine::{Engine, IDLE},
    failure::Failure,
    files::FileKey,
    format::record::CameFrom,
    index::{Commit, Index, SegmentNote, Unlink},
    layout::FileNo,
    op::{Orphan, OrphanKind},
    overlay::Overlay,
    reserve::ROWS_IN_NEED,
    row::Checkpoint,
    state::{Move, Phase},
    vfs::Vfs,
};

/// A commit follows when so many bytes of the log are not in the index (E31).
pub(crate) const LOG_BEHIND: u64 = 256 << 20;
/// How long to wait after a commit that failed, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often to look whether files that are to be removed are still read, and whether there is room for the reserve.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The state of the committer's thread.
#[derive(Debug)]
pub(crate) struct Committer {
    engine: Arc<Engine>,
    index: Option<Index>,
    store_id: [u8; 16],
    /// Begun and not finished, because it failed.
    job: Option<Job>,
    /// When changes began to wait.
    waiting_since: Option<Instant>,
    retry: Option<(Instant, Duration)>,
    /// The name of the index stands for another file than a power cut may leave it with.
    is_name_unsynced: bool,
}

/// What one commit covers.
#[derive(Debug)]
struct Job {
    overlay: Arc<Overlay>,
    checkpoint: Checkpoint,
    moves: Vec<Move>,
    notes: Vec<SegmentNote>,
    /// How many commits were begun, this one included.
    number: u64,
    /// How much of the log it brings in.
    bytes: u64,
}

impl Committer {
    pub(crate) fn new(engine: Arc<Engine>, index: Index, store_id: [u8; 16]) -> Self {
        Self {
            engine,
            index: Some(index),
            store_id,
            job: None,
            waiting_since: None,
            retry: None,
            is_name_unsynced: false,
        }
    }

    /// Runs until the store closes, then, if it closes in good order, commits what is left.
    ///
    /// # Errors
    /// That of the last commit; what it would have brought into the index is in the log.
    pub(crate) fn run(mut self) -> Result<()> {
        loop {
            self.remove_orphans();
            self.tend_reserve_if_given_up();
            let engine = self.engine.clone();
            let mut state = engine.state();
            match state.phase {
                Phase::Closed => return Ok(()),
                _ if state.visible.reopening => {
                    drop(state);
                    if let Err(e) = self.reopen() {
                        self.back_off(&e);
                    }
                    continue;
                }
                Phase::Closing => {
                    drop(state);
                    // Handles may have gone since, and the next opening has less to do.
                    self.remove_orphans();
                    while self.commit()? {}
                    self.tend_reserve_if_given_up();
                    return Ok(());
                }
                Phase::Open | Phase::Draining => {}
            }
            if state.compaction.shrinks.1 < state.compaction.shrinks.0 && self.retry.is_none() {
                drop(state);
                self.shrink_or_back_off();
                continue;
            }
            if state.verification.is_due() {
                drop(state);
                self.verify();
                continue;
            }
            let now = Instant::now();
            let wanted = std::mem::take(&mut state.commit_wanted);
            let dirty = state.visible.active.rows() > 0 || self.job.is_some();
            self.waiting_since = dirty.then(|| self.waiting_since.unwrap_or(now));
            let crowded =
                state.visible.active.rows() >= engine.options.overlay_rows || state.log_behind >= LOG_BEHIND;
            let due = match (self.retry, self.waiting_since) {
                _ if wanted => Some(now),
                (Some((at, _)), _) => Some(at),
                (None, Some(_)) if crowded || self.job.is_some() => Some(now),
                (None, since) => since.map(|since| since + engine.options.overlay_age),
            };
            if due.is_some_and(|due| due <= now) {
                drop(state);
                self.commit_or_back_off();
                continue;
            }
            let wait = due.map_or(IDLE, |due| due.saturating_duration_since(now));
            let look_again = !state.orphans.is_empty() || engine.reserve.is_given_up();
            let wait = if look_again { wait.min(LOOK_AGAIN) } else { wait };
            drop(engine.wait_committer(state, wait));
        }
    }

    fn commit_or_back_off(&mut self) {
        match self.commit() {
            Ok(_) => {
                self.retry = None;
                self.engine.state().index_trouble = None;
            }
            Err(e) => {
                self.back_off(&e);
                // redb refuses to go on after an error (E35).
                if self.index.is_some()
                    && let Err(e) = self.reopen()
                {
                    tracing::warn!(error = %e, "the index could not be opened again");
                }
            }
        }
    }

    fn shrink_or_back_off(&mut self) {
        let wanted = self.engine.state().compaction.shrinks.0;
        if let Err(e) = self.shrink() {
            self.back_off(&e);
            // Whichever file has the name by now is the index.
            if let Err(e) = self.reopen() {
                tracing::warn!(error = %e, "the index could not be opened again");
            }
        }
        self.engine.state().compaction.shrinks.1 = wanted;
        self.engine.index_changed();
    }

    /// Writes the index anew if it is mostly room that nobody needs.
    fn shrink(&mut self) -> Result<()> {
        let Engine { vfs, layout, options, .. } = &*self.engine;
        let Some(index) = self.index.as_ref() else { return Ok(()) };
        if self.engine.reserve.is_given_up() || !index.is_wasteful(&**vfs)? {
            return Ok(());
        }
        let no = self.engine.new_file_no();
        let (new, temp) = match index.rewritten(vfs, layout, no, options.index_cache) {
            // It goes on as it is.
            Err(Error::NoSpace { .. }) => return Ok(()),
            rewritten => rewritten?,
        };
        self.is_name_unsynced = true;
        vfs.replace(&temp, &layout.index()).map_err(|e| Error::io("replace", layout.index(), e))?;
        let reader = Arc::new(new.reader()?);
        let mut state = self.engine.state();
        state.visible.reader = Some(reader);
        state.visible.generation += 1;
        drop(state);
        self.index = Some(new);
        self.sync_name()
    }

    /// Proves the pages of the index on the disk, which nobody else writes to.
    fn verify(&self) {
        let Engine { vfs, layout, options, .. } = &*self.engine;
        let n_wanted = self.engine.state().verification.n_wanted;
        // A bad index stays in memory with this.
        let engine = Arc::downgrade(&self.engine);
        let goes_on = move || engine.upgrade().is_some_and(|engine| engine.state().phase == Phase::Open);
        let is_sound = Index::is_sound(&**vfs, layout, options.index_cache, goes_on);
        if let (Ok(false), Some(index)) = (&is_sound, &self.index) {
            index.leave();
        }
        let outcome = is_sound.map_err(|e| Failure::of("read", &layout.index(), &e));
        self.engine.state().verification.end(n_wanted, outcome);
        self.engine.index_changed();
    }

    /// Before anything is committed to a new file, its name is certain: the log may lose what the old one needs.
    fn sync_name(&mut self) -> Result<()> {
        if self.is_name_unsynced {
            let root = self.engine.layout.root();
            self.engine.vfs.sync_dir(root).map_err(|e| Error::io("sync", root, e))?;
            self.is_name_unsynced = false;
        }
        Ok(())
    }

    fn back_off(&mut self, error: &Error) {
        tracing::warn!(error = %error, "the index could not be committed; trying again");
        let pause = self.retry.map_or(RETRY.0, |(_, pause)| (pause * 2).min(RETRY.1));
        self.retry = Some((Instant::now() + pause, pause));
        let trouble = Failure::of("commit to", &self.engine.layout.index(), error);
        let mut state = self.engine.state();
        state.index_trouble = Some(trouble);
        state.index_failures += 1;
        drop(state);
        self.engine.index_changed();
    }

    /// Brings into the index what failed last time, or else all that is published; `false`: there is nothing.
    fn commit(&mut self) -> Result<bool> {
        if self.index.is_none() {
            self.reopen()?;
        }
        let Some(job) = self.job.take().or_else(|| self.freeze()) else { return Ok(false) };
        self.waiting_since = None;
        let engine = self.engine.clone();
        let before = engine.reserve.n_given_up();
        let mut committed = self.commit_job(&job);
        if matches!(committed, Err(Error::NoSpace { .. })) && engine.reserve.give_up(&*engine.vfs, before) {
            // redb refuses to go on after an error (E35).
            committed = self.reopen().and_then(|()| self.commit_job(&job));
        }
        if committed.is_err() {
            self.job = Some(job);
        }
        committed.map(|()| true)
    }

    /// Takes the active overlay out of the way of new changes.
    fn freeze(&mut self) -> Option<Job> {
        let mut state = self.engine.state();
        if !state.has_uncommitted() || state.visible.frozen.is_some() {
            return None;
        }
        let overlay = Arc::new(std::mem::take(&mut state.visible.active));
        state.visible.frozen = Some(overlay.clone());
        let bytes = std::mem::take(&mut state.log_behind);
        let moves = std::mem::take(&mut state.moves);
        let notes = std::mem::take(&mut state.compaction.notes);
        state.commits.0 += 1;
        Some(Job { overlay, checkpoint: state.published, moves, notes, number: state.commits.0, bytes })
    }

    fn commit_job(&mut self, job: &Job) -> Result<()> {
        self.sync_name()?;
        if self.engine.state().durable_seq < job.checkpoint.seq {
            self.engine.sync_log().map_err(|failure| failure.to_error())?;
        }
        self.move_files(&job.moves)?;
        let covered = |(seq, orphan): &(u64, Orphan)| (*seq <= job.checkpoint.seq).then_some(*orphan);
        let unlink: Vec<Orphan> = self.engine.state().orphans.iter().filter_map(covered).collect();
        let index =
            self.index.as_ref().ok_or_else(|| Error::Failed { what: "the index is closed".to_owned() })?;
        let (nothing, mut overlay) = (Overlay::default(), &*job.overlay);
        if self.engine.reserve.is_given_up() {
            self.commit_ahead(index, overlay, &unlink)?;
            overlay = &nothing;
        }
        let (checkpoint, segments) = (Some(job.checkpoint), &*job.notes);
        let unlink = Unlink::Only(&unlink);
        index.commit(&Commit { overlay, checkpoint, unlink, segments })?;
        let reader = Arc::new(index.reader()?);
        let mut state = self.engine.state();
        state.visible.reader = Some(reader);
        state.visible.frozen = None;
        state.visible.generation += 1;
        state.committed = job.checkpoint;
        state.commits.1 = job.number;
        state.compaction.is_due = true;
        drop(state);
        self.engine.index_changed();
        tracing::debug!(rows = job.overlay.rows(), log_bytes = job.bytes, "committed to the index");
        self.tend_reserve();
        Ok(())
    }

    /// Brings rows into the index a few at a time, so that each step needs little room; the checkpoint follows (E61).
    fn commit_ahead(&self, index: &Index, overlay: &Overlay, unlink: &[Orphan]) -> Result<()> {
        for part in overlay.in_parts(ROWS_IN_NEED) {
            let unlink = Unlink::Only(unlink);
            index.commit(&Commit { overlay: &part, checkpoint: None, unlink, segments: &[] })?;
            // An older transaction would keep all pages that are replaced. The frozen overlay is still asked before it.
            let reader = Arc::new(index.reader()?);
            let mut state = self.engine.state();
            state.visible.reader = Some(reader);
            state.visible.generation += 1;
        }
        Ok(())
    }

    fn tend_reserve_if_given_up(&self) {
        if self.engine.reserve.is_given_up() {
            self.tend_reserve();
        }
    }

    /// Keeps as much in reserve as is right for what the store holds.
    pub(crate) fn tend_reserve(&self) {
        let Engine { vfs, layout, reserve, .. } = &*self.engine;
        let reader = self.engine.state().visible.reader.clone();
        let Some(Ok(stats)) = reader.map(|reader| reader.stats()) else { return };
        let mut n_bytes = stats.live_bytes();
        // What is dead takes room until it has been compacted, which takes some, too.
        if reserve.is_given_up() || reserve.is_too_large_for(n_bytes) {
            let Ok(stored) = self.engine.stored_bytes() else { return };
            n_bytes = stored;
        }
        reserve.tend(&**vfs, layout, n_bytes);
    }

    /// Closes and opens the index.
    fn reopen(&mut self) -> Result<()> {
        let reader = {
            let mut state = self.engine.state();
            state.visible.reopening = true;
            state.visible.generation += 1;
            state.visible.reader.take()
        };
        drop(reader);
        self.index = None;
        let Engine { vfs, layout, options, .. } = &*self.engine;
        // Without an id none is created: an index that has gone is not replaced by an empty one.
        let opened = Index::open(vfs, layout, None, options.index_cache).and_then(|index| {
            index.check_store(&self.store_id)?;
            Ok((index.reader()?, index))
        });
        let mut state = self.engine.state();
        state.visible.reopening = false;
        let opened = opened.map(|(reader, index)| {
            if state.verification.found_damage {
                index.leave();
            }
            state.visible.reader = Some(Arc::new(reader));
            state.visible.generation += 1;
            self.index = Some(index);
        });
        if let Err(e) = &opened {
            state.index_trouble = Some(Failure::of("open", &layout.index(), e));
        }
        drop(state);
        self.engine.index_changed();
        opened
    }

    /// Moves files to `data/` and makes that durable, while nobody makes the loss of their old names durable (E41).
    fn move_files(&self, moves: &[Move]) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        let engine = &self.engine;
        let _excluded = engine.moving.write().unwrap_or_else(PoisonError::into_inner);
        for moved in moves {
            move_pair(&*engine.vfs, &engine.layout, moved)?;
        }
        let into: BTreeSet<PathBuf> = moves.iter().map(|m| engine.layout.data_subdir(&m.hash)).collect();
        let dirs = into.into_iter().chain([engine.layout.data_dir()]);
        dirs.into_iter().try_for_each(|dir| engine.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e)))
    }

    /// Removes files that a durable record has made useless and that nobody reads any more (E5, E51).
    fn remove_orphans(&self) {
        let ready: Vec<_> = {
            let mut state = self.engine.state();
            let ready: Vec<_> =
                state.orphans.iter().filter(|orphan| state.is_removable(orphan)).copied().collect();
            let gone: HashSet<FileNo> = ready
                .iter()
                .filter(|(_, orphan)| orphan.what == OrphanKind::All)
                .map(|(_, orphan)| orphan.no)
                .collect();
            state.moves.retain(|moved| !gone.contains(&moved.no));
            ready
        };
        if ready.is_empty() {
            return;
        }
        let mut removed = HashSet::new();
        for (seq, orphan) in &ready {
            self.engine.files.forget(FileKey::Data(orphan.no));
            self.engine.files.forget(FileKey::Outboard(orphan.no));
            self.engine.files.forget(FileKey::Pairs(orphan.no));
            if let Err(e) = remove_orphan(&*self.engine.vfs, &self.engine.layout, orphan) {
                tracing::warn!(error = %e, hash = %orphan.hash, "a file could not be removed; trying again later");
                break;
            }
            self.engine.exported.forget(orphan.no);
            removed.insert((*seq, orphan.no));
        }
        let mut state = self.engine.state();
        state.orphans.retain(|(seq, orphan)| !removed.contains(&(*seq, orphan.no)));
        state.n_failed_removals += u64::from(removed.len() < ready.len());
        drop(state);
        self.engine.index_changed();
    }
}

/// Moves the files of a complete blob from where they were written to `data/`. Done already is fine.
pub(crate) fn move_pair(vfs: &dyn Vfs, layout: &crate::layout::Layout, moved: &Move) -> Result<()> {
    let Move { hash, no, from } = moved;
    let pairs = match from {
        CameFrom::Data => return Ok(()),
        CameFrom::Temp => [
            (layout.temp_data(hash, *no), layout.data(hash, *no)),
            (layout.temp_outboard(hash, *no), layout.data_outboard(hash, *no)),
        ],
        CameFrom::Partial => [
            (layout.partial_data(hash, *no), layout.data(hash, *no)),
            (layout.partial_outboard(hash, *no), layout.data_outboard(hash, *no)),
        ],
    };
    match vfs.create_dir(&layout.data_subdir(hash)) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Error::io("create", layout.data_subdir(hash), e));
        }
        _ => {}
    }
    for (from, to) in pairs {
        match vfs.rename(&from, &to) {
            Ok(()) => {}
            // Moved before, removed since, or a referenced blob's data, which is not ours.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            // A crash has left both names of the one file that ever has this number.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                vfs.remove_file(&from).map_err(|e| Error::io("remove", from, e))?;
            }
            Err(e) => return Err(Error::io("move into data", from, e)),
        }
    }
    Ok(())
}

/// Removes the files of a number, wherever they lie. None there is fine.
pub(crate) fn remove_orphan(vfs: &dyn Vfs, layout: &crate::layout::Layout, orphan: &Orphan) -> Result<()> {
    let Orphan { hash, no, what } = orphan;
    let (bits, pairs) = (layout.partial_bits(hash, *no), layout.partial_pairs(hash, *no));
    let paths = match what {
        OrphanKind::Bits => vec![bits, pairs],
        OrphanKind::All => vec![
            layout.data(hash, *no),
            layout.data_outboard(hash, *no),
            layout.temp_data(hash, *no),
            layout.temp_outboard(hash, *no),
            layout.partial_data(hash, *no),
            layout.partial_outboard(hash, *no),
            bits,
            pairs,
        ],
    };
    for path in paths {
        match vfs.remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", path, e)),
            _ => {}
        }
    }
    Ok(())
}
