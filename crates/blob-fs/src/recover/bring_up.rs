//! Brings the index up to the end of the log: the one that is there, if it can be used, or a new one (E37, E64).

use std::{
    io,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Result};

use super::{DamagedRange, Loss, Recovery, Replay, clean, read_log};
use crate::{
    format::record::{Place, decode_header},
    index::Index,
    layout::{FileNo, Layout},
    log::Tail,
    options::{Options, Rebuild},
    quarantine,
    row::Checkpoint,
    segments::{self, Flaw, LogSegment, Segments, Wrong, lossy},
    vfs::Vfs,
};

/// What an opening goes by.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) options: &'a Options,
    pub(super) layout: &'a Layout,
    pub(super) segments: &'a Segments,
    /// So many rows go to the index at once.
    pub(super) batch: usize,
}

/// An index that has all of the log.
pub(super) struct Found {
    pub(super) store_id: [u8; 16],
    pub(super) index: Index,
    pub(super) tail: Tail,
    /// Its checkpoint, before and now.
    pub(super) before: Checkpoint,
    pub(super) published: Checkpoint,
    /// No seq up to this one is given again.
    pub(super) floor: u64,
}

impl Opening<'_> {
    fn vfs(&self) -> &dyn Vfs {
        &*self.options.vfs
    }

    fn accepts_loss(&self) -> bool {
        self.options.rebuild == Rebuild::AcceptLoss
    }

    /// Uses the index, or builds it anew. What turns out to be missing is added to the flaws, where that is accepted.
    pub(super) fn bring_up(&self, flaws: &mut Vec<Flaw>, recovery: &mut Recovery) -> Result<Found> {
        if !clean::exists(self.vfs(), &self.layout.index())? {
            return self.rebuild(None, 0, recovery);
        }
        let mut attempt = recovery.clone();
        match self.with_index(flaws, &mut attempt) {
            Ok(found) => {
                *recovery = attempt;
                return Ok(found);
            }
            Err(Error::DamagedStore { path, what }) => {
                let loses = path != self.layout.index();
                if loses && !self.accepts_loss() {
                    return Err(Error::DamagedStore { path, what });
                }
                let what = segments::without_advice(what);
                if loses {
                    recovery.losses.push(Loss { path, what: what.clone() });
                }
                recovery.rebuilt_because = Some(what);
            }
            Err(e) => return Err(e),
        }
        let floor = self.last_seq_of_index();
        self.check_for_log(recovery)?;
        let aside = quarantine::put_aside(self.vfs(), self.layout, &self.layout.index())?;
        recovery.quarantined.push(aside.clone());
        self.rebuild(Some(&aside), floor, recovery)
    }

    /// Uses the index that is there.
    ///
    /// # Errors
    /// [`Error::DamagedStore`] about the index where a rebuild loses nothing by that, about something else where it
    /// does.
    fn with_index(&self, flaws: &mut Vec<Flaw>, recovery: &mut Recovery) -> Result<Found> {
        let segments = self.segments;
        let id = segments.store_id();
        // What is damaged is not to be found out later: rows that have gone look as if there never had been any.
        if self.accepts_loss() {
            self.prove_index()?;
        }
        let index = Index::open(&self.options.vfs, self.layout, id.as_ref(), self.options.index_cache)?;
        if index.is_unfinished()? && !segments.is_empty() {
            // It was being built when the process ended.
            drop(index);
            let path = self.layout.index();
            self.vfs().remove_file(&path).map_err(|e| Error::io("remove", path, e))?;
            return self.rebuild(None, 0, recovery);
        }
        let reader = index.reader()?;
        let checkpoint = index.checkpoint()?;
        if segments.is_empty() && checkpoint != Checkpoint::default() {
            return Err(lossy(self.layout.log_dir(), "the index refers to a log, and there are no segments"));
        }
        segments.check(self.vfs(), &checkpoint, self.layout)?;
        let stats = reader.stats()?.segments;
        let missing =
            stats.iter().filter(|(id, s)| s.live > 0 && !segments.is_known(**id)).map(|(id, _)| *id);
        for id in missing {
            let is_told = flaws.iter().filter_map(Flaw::lost_ids).any(|ids| ids.contains(&id));
            if !is_told {
                let wrong = Wrong::Missing { first: id, last: id };
                flaws.push(Flaw::new(self.layout.segment(id), wrong, "the segment is missing"));
            }
        }
        if let Some(flaw) = flaws.first().filter(|_| !self.accepts_loss()) {
            return Err(flaw.to_error());
        }
        drop(reader);
        let store_id = index.store_id()?;
        let (replay, tail) = self.replay(index, recovery)?;
        let before = checkpoint;
        let (index, published) = replay.finish(recovery)?;
        Ok(Found { store_id, index, tail, before, published, floor: 0 })
    }

    fn prove_index(&self) -> Result<()> {
        let what = match Index::is_sound(self.vfs(), self.layout, self.options.index_cache, || true) {
            Ok(true) => return Ok(()),
            Ok(false) => "pages of it are not what was written".to_owned(),
            // Whether the log can be read shows by itself.
            Err(Error::Io { source, .. }) => format!("it cannot be read: {source}"),
            Err(e) => return Err(e),
        };
        Err(Error::DamagedStore { path: self.layout.index(), what })
    }

    /// Reads the log into an index, from its checkpoint on.
    fn replay(&self, index: Index, recovery: &mut Recovery) -> Result<(Replay, Tail)> {
        let mut replay = Replay::new(self.options.vfs.clone(), self.layout.clone(), index, self.batch)?;
        let checkpoint = replay.checkpoint();
        replay.take_packed(self.segments, recovery.rebuilt_index, recovery)?;
        let tail = read_log(self.vfs(), self.layout, self.segments, &checkpoint, &mut replay, recovery)?;
        replay.take_removals(self.segments, recovery)?;
        Ok((replay, tail))
    }

    /// Builds an index out of the log (E64). The one that was put aside comes back where this is given up.
    fn rebuild(&self, aside: Option<&Path>, floor: u64, recovery: &mut Recovery) -> Result<Found> {
        let segments = self.segments;
        let store_id = segments.store_id().unwrap_or_else(|| clean::new_store_id(self.vfs()));
        recovery.rebuilt_index = aside.is_some() || !segments.is_empty();
        let index = Index::open(&self.options.vfs, self.layout, Some(&store_id), self.options.index_cache)?;
        let read = self.replay(index, recovery).and_then(|(replay, tail)| {
            self.refuse_loss(recovery)?;
            Ok((replay, tail))
        });
        let (replay, tail) = match read {
            Err(e @ (Error::UnsupportedFormat { .. } | Error::DamagedStore { .. })) => {
                // The store is left as it was (E16, E64).
                let _ = self.vfs().remove_file(&self.layout.index());
                if let Some(aside) = aside {
                    self.vfs()
                        .rename(aside, &self.layout.index())
                        .map_err(|e| Error::io("put back", aside, e))?;
                }
                return Err(e);
            }
            read => read?,
        };
        let (index, published) = replay.finish(recovery)?;
        let index = self.without_waste(index)?;
        let floor = segments.last_seq().max(floor);
        Ok(Found { store_id, index, tail, before: Checkpoint::default(), published, floor })
    }

    /// Gives back the room of the rows that a new index had for a while. It is still unfinished: a crash has it begun again.
    fn without_waste(&self, index: Index) -> Result<Index> {
        let (vfs, layout) = (&self.options.vfs, self.layout);
        if !index.is_wasteful(&**vfs)? {
            return Ok(index);
        }
        let mut no = [0; 8];
        vfs.random(&mut no);
        let no = FileNo(u64::from_le_bytes(no));
        let (new, temp) = match index.rewritten(vfs, layout, no, self.options.index_cache) {
            // It goes on as it is.
            Err(Error::NoSpace { .. }) => return Ok(index),
            rewritten => rewritten?,
        };
        vfs.replace(&temp, &layout.index()).map_err(|e| Error::io("replace", layout.index(), e))?;
        vfs.sync_dir(layout.root()).map_err(|e| Error::io("sync", layout.root(), e))?;
        Ok(new)
    }

    /// A new index knows no more than what can be read.
    fn refuse_loss(&self, recovery: &Recovery) -> Result<()> {
        if self.accepts_loss() {
            return Ok(());
        }
        let is_needed = |damaged: &&DamagedRange| !self.segments.is_spare(&damaged.path, self.layout);
        let needed: Vec<_> = recovery.damaged.iter().filter(is_needed).collect();
        if let Some(damaged) = needed.first() {
            let more = match needed.len() {
                1 => String::new(),
                n => format!(", nor can {} more ranges of the log", n - 1),
            };
            let what = format!(
                "bytes {} to {} cannot be read{more}, and there is no index that knows what lay there",
                damaged.range.start, damaged.range.end
            );
            return Err(lossy(damaged.path.clone(), &what));
        }
        Ok(())
    }

    /// Without a log nothing is known of files that are there.
    fn check_for_log(&self, recovery: &mut Recovery) -> Result<()> {
        if !self.segments.is_empty() {
            return Ok(());
        }
        let has_files = |dir: PathBuf| match self.vfs().read_dir(&dir) {
            Ok(names) => Ok(!names.is_empty()),
            Err(e) => Err(Error::io("list", dir, e)),
        };
        if has_files(self.layout.data_dir())? || has_files(self.layout.partial_dir())? {
            let what = "there are files of blobs, and no segments that know of them";
            if !self.accepts_loss() {
                return Err(lossy(self.layout.log_dir(), what));
            }
            recovery.losses.push(Loss { path: self.layout.log_dir(), what: what.to_owned() });
        }
        Ok(())
    }

    /// How far the index had come, where it can tell.
    fn last_seq_of_index(&self) -> u64 {
        Index::last_seq(self.vfs(), self.layout, self.options.index_cache).unwrap_or(0)
    }
}

impl Segments {
    fn is_empty(&self) -> bool {
        self.log.is_empty() && self.packed.is_empty()
    }

    /// Whether a segment is a damaged copy of others that are all still there.
    fn is_spare(&self, path: &Path, layout: &Layout) -> bool {
        let is_there = |id: &u32| {
            self.log.iter().any(|segment| segment.id() == *id)
                || self.packed.iter().any(|packed| packed.id() == *id)
        };
        let copies = self.packed.iter().filter(|packed| !packed.is_whole && !packed.replaces.is_empty());
        copies
            .filter(|packed| layout.segment(packed.id()) == path)
            .any(|packed| packed.replaces.iter().all(is_there))
    }

    /// No record that is known of has a higher seq.
    fn last_seq(&self) -> u64 {
        let log = self.log.iter().map(|segment| segment.header.base_seq);
        let packed = self.packed.iter().map(|packed| packed.built_at.max(packed.header.base_seq));
        log.chain(packed).max().unwrap_or(0)
    }

    /// Whether the log is the one that the index speaks of (E37).
    fn check(&self, vfs: &dyn Vfs, checkpoint: &Checkpoint, layout: &Layout) -> Result<()> {
        if checkpoint.segment == 0 {
            return Ok(());
        }
        let Some(segment) = self.log.iter().find(|segment| segment.id() == checkpoint.segment) else {
            if self.is_known(checkpoint.segment) {
                // Compacted away since: the index is an old one.
                let what = "it is older than the log".to_owned();
                return Err(Error::DamagedStore { path: layout.index(), what });
            }
            return Err(lossy(
                layout.segment(checkpoint.segment),
                "the segment is missing, and the index knows of it",
            ));
        };
        if segment.has(vfs, checkpoint, layout)? {
            return Ok(());
        }
        Err(lossy(layout.segment(checkpoint.segment), "it does not have the record that the index has last"))
    }
}

impl LogSegment {
    /// Whether the record of a checkpoint is where that says.
    fn has(&self, vfs: &dyn Vfs, checkpoint: &Checkpoint, layout: &Layout) -> Result<bool> {
        let mut bytes = [0; 80];
        let read = segments::open(vfs, layout, self.id())?.read_exact_at(&mut bytes, checkpoint.start);
        match read {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other.map_err(|e| Error::io("read", layout.segment(self.id()), e))?,
        }
        let place = Place { key: &self.header.key, segment: self.id(), offset: checkpoint.start };
        let Ok(header) = decode_header(&bytes, place) else { return Ok(false) };
        let ends = checkpoint.start.checked_add(header.padded_len()) == Some(checkpoint.end);
        let same = header.seq == checkpoint.seq && bytes.last_chunk() == Some(&checkpoint.check);
        Ok(ends && same && self.size >= checkpoint.end)
    }
}
