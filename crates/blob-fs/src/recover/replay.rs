//! Applies what the log says to the index (E62 steps 5 to 7).

mod packed;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use blob_traits::{BlobFormat, Error, Hash, HashAndFormat, Result, Tag};

use super::{DamagedRange, Recovery};
use crate::{
    committer::{move_pair, remove_orphan},
    format::{
        record::{Body, CameFrom, Place as RecordPlace, encode_header, outboard_len},
        scan::{ScanError, Scanned, ScannedRecord},
    },
    index::{Commit, Index, IndexReader},
    layout::{FileNo, Layout},
    op::{Key, Orphan, OrphanKind, orphan},
    overlay::{Change, Overlay},
    row::{BlobRow, BlobState, Checkpoint, Origin, Place, TagRow},
    state::Move,
    vfs::Vfs,
};

/// Rows that are gathered before they go to the index.
const BATCH: usize = 65_536;

/// The index on its way to the end of the log.
#[derive(Debug)]
pub(super) struct Replay {
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    index: Index,
    reader: IndexReader,
    overlay: Overlay,
    checkpoint: Checkpoint,
    moves: Vec<Move>,
    orphans: Vec<Orphan>,
    /// Large blobs without their files, unless a later record says otherwise.
    lost: Vec<(Hash, BlobState)>,
    /// What removals in packed segments say, while an index is built: records before them may be read later (E64).
    removed: HashMap<Key, u64>,
    order: Order,
    changed: bool,
}

/// In which order records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// In that of their seqs: each replaces what came before.
    Ascending,
    /// Packed segments first, then the log: seqs have to be compared.
    Any,
}

impl Replay {
    pub(super) fn new(vfs: Arc<dyn Vfs>, layout: Layout, index: Index) -> Result<Self> {
        let (reader, checkpoint, orphans) = (index.reader()?, index.checkpoint()?, index.unlink()?);
        let (overlay, moves, changed) = (Overlay::default(), Vec::new(), !orphans.is_empty());
        let (lost, removed, order) = (Vec::new(), HashMap::new(), Order::Ascending);
        Ok(Self {
            vfs,
            layout,
            index,
            reader,
            overlay,
            checkpoint,
            moves,
            orphans,
            lost,
            removed,
            order,
            changed,
        })
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// Damage is remembered before anything behind it is committed: a later opening does not come by here again (E53).
    fn note_damage(
        &self,
        segment: u32,
        range: std::ops::Range<u64>,
        recovery: &mut Recovery,
    ) -> Result<(), Stop> {
        recovery.damaged.push(DamagedRange { path: self.layout.segment(segment), range });
        Ok(self.index.note_damage()?)
    }

    /// Takes what a scan found.
    pub(super) fn take(
        &mut self,
        segment: u32,
        key: &[u8; 32],
        scanned: Scanned,
        recovery: &mut Recovery,
    ) -> Result<(), Stop> {
        let transaction = match scanned {
            Scanned::Damage(damage) => {
                return self.note_damage(segment, damage.range, recovery);
            }
            Scanned::Transaction(transaction) => transaction,
        };
        for record in &transaction.records {
            recovery.replayed_records += 1;
            self.apply(segment, record, recovery)?;
        }
        if let Some(last) = transaction.records.last() {
            let place = RecordPlace { key, segment, offset: last.offset };
            let header = encode_header(place, &last.header);
            self.changed = true;
            self.checkpoint = Checkpoint {
                segment,
                start: last.offset,
                end: transaction.end,
                seq: last.header.seq,
                check: header.last_chunk().copied().unwrap_or_default(),
            };
        }
        if self.overlay.rows() >= BATCH {
            self.commit()?;
        }
        Ok(())
    }

    fn apply(&mut self, segment: u32, record: &ScannedRecord, recovery: &mut Recovery) -> Result<(), Stop> {
        let seq = record.header.seq;
        let hash = record.header.hash;
        if record.header.flags.unsynced {
            return Err(Stop::Store(Error::UnsupportedFormat {
                path: self.layout.segment(segment),
                found: "a record whose files may not be durable".to_owned(),
                supported: "records without that flag".to_owned(),
            }));
        }
        let offset = u32::try_from(record.offset).map_err(|_| Error::DamagedStore {
            path: self.layout.segment(segment),
            what: "it is longer than a segment can be".to_owned(),
        })?;
        let place = Place { segment, offset };
        let set = |state| Change::Set(BlobRow { seq, place, state });
        match &record.body {
            Body::Small { data_len } => {
                let data = record.payload.get(..*data_len as usize).unwrap_or_default();
                if Hash::new(data) == hash {
                    self.set_blob(hash, seq, set(BlobState::Small { size: *data_len }))?;
                } else {
                    recovery.damaged_blobs.push(hash);
                    // It may have been a hash sequence, and what it lists is not known any more (E53).
                    self.index.note_damage()?;
                }
            }
            Body::Large { size, no, came_from } => {
                let state = BlobState::Large { size: *size, no: *no };
                if self.set_blob(hash, seq, set(state))? {
                    self.moves.push(Move { hash, no: *no, from: *came_from });
                    if !self.files_are_there(hash, *no, *size, *came_from)? {
                        self.lost.push((hash, state));
                    }
                }
            }
            Body::Referenced { size, no, .. } => {
                let state = BlobState::Referenced { size: *size, no: *no };
                if self.set_blob(hash, seq, set(state))? && *no != FileNo::NONE {
                    self.moves.push(Move { hash, no: *no, from: CameFrom::Temp });
                }
            }
            Body::PartialBegin { no, came_from } => {
                let origin = Origin::of(*came_from);
                self.set_blob(hash, seq, set(BlobState::Partial { no: *no, origin }))?;
            }
            Body::Delete(entries) => {
                for (hash, _) in entries {
                    self.set_blob(*hash, seq, Change::Removed)?;
                }
            }
            Body::TagSet { format, name } => {
                let format = if *format == 0 { BlobFormat::Raw } else { BlobFormat::HashSeq };
                let row = TagRow { seq, place, content: HashAndFormat { hash, format } };
                self.set_tag(Tag::from(name.as_slice()), seq, Change::Set(row))?;
            }
            Body::TagDelete(entries) => {
                for (_, name) in entries {
                    self.set_tag(Tag::from(name.as_slice()), seq, Change::Removed)?;
                }
            }
            Body::PackEnd { .. } | Body::Mark | Body::Unknown => {}
        }
        Ok(())
    }

    /// Whether the files of a large blob are there and of the right length.
    fn files_are_there(&self, hash: Hash, no: FileNo, size: u64, came_from: CameFrom) -> Result<bool, Error> {
        let layout = &self.layout;
        let (data, outboard) = match came_from {
            CameFrom::Temp => (layout.temp_data(&hash, no), layout.temp_outboard(&hash, no)),
            CameFrom::Partial => (layout.partial_data(&hash, no), layout.partial_outboard(&hash, no)),
            CameFrom::Data => (layout.data(&hash, no), layout.data_outboard(&hash, no)),
        };
        let outboard_len = outboard_len(size);
        Ok(self.has_len(&[layout.data(&hash, no), data], size)?
            && (outboard_len == 0
                || self.has_len(&[layout.data_outboard(&hash, no), outboard], outboard_len)?))
    }

    /// Whether the first of these names that is taken is that of a file of this length.
    fn has_len(&self, paths: &[PathBuf; 2], len: u64) -> Result<bool, Error> {
        for path in paths {
            match self.vfs.stat(path) {
                Ok(stat) => return Ok(stat.size == len),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", path, e)),
            }
        }
        Ok(false)
    }

    /// Makes this the last that is known of a blob; `false`: something later is known.
    fn set_blob(&mut self, hash: Hash, seq: u64, change: Change<BlobRow>) -> Result<bool, Stop> {
        let old = self.blob_row(&hash)?;
        if self.is_stale(|| Key::Blob(hash), old.map(|old| old.seq), seq) {
            // Files of a state that has passed. They should have gone long ago. A copy of what is known has not passed.
            let is_copy = old.is_some_and(|old| old.seq == seq);
            let stale = change
                .row()
                .filter(|_| !is_copy)
                .and_then(|stale| orphan(hash, stale.state, old.map(|old| old.state)));
            self.orphans.extend(stale);
            return Ok(false);
        }
        let new = change.row().map(|row| row.state);
        if let Some(orphan) = old.and_then(|old| orphan(hash, old.state, new)) {
            if orphan.what == OrphanKind::All {
                self.moves.retain(|moved| moved.no != orphan.no);
            }
            self.orphans.push(orphan);
        }
        self.overlay.blobs.insert(hash, change);
        Ok(true)
    }

    fn set_tag(&mut self, tag: Tag, seq: u64, change: Change<TagRow>) -> Result<(), Stop> {
        if self.order == Order::Any {
            let old = self.tag_row(&tag)?.map(|row| row.seq);
            if self.is_stale(|| Key::Tag(tag.clone()), old, seq) {
                return Ok(());
            }
        }
        self.overlay.tags.insert(tag, change);
        Ok(())
    }

    fn blob_row(&self, hash: &Hash) -> Result<Option<BlobRow>> {
        match self.overlay.blobs.get(hash) {
            Some(change) => Ok(change.row()),
            None => self.reader.blob(hash),
        }
    }

    fn tag_row(&self, tag: &Tag) -> Result<Option<TagRow>> {
        match self.overlay.tags.get(tag) {
            Some(change) => Ok(change.row()),
            None => self.reader.tag(tag),
        }
    }

    /// Whether something is known of a key that came after `seq`, or is the same record in a packed segment (E66).
    fn is_stale(&self, key: impl FnOnce() -> Key, row_seq: Option<u64>, seq: u64) -> bool {
        self.order == Order::Any
            && (row_seq.is_some_and(|known| known >= seq)
                || (!self.removed.is_empty() && self.removed.get(&key()).is_some_and(|known| *known >= seq)))
    }

    fn commit(&mut self) -> Result<()> {
        let mut dirs = std::collections::BTreeSet::new();
        for moved in std::mem::take(&mut self.moves) {
            move_pair(&*self.vfs, &self.layout, &moved)?;
            dirs.insert(self.layout.data_subdir(&moved.hash));
            dirs.insert(self.layout.data_dir());
        }
        dirs.into_iter()
            .try_for_each(|dir| self.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e)))?;
        let (overlay, checkpoint) = (&self.overlay, self.checkpoint);
        self.index.commit(&Commit { overlay, checkpoint, unlink: &self.orphans, segments: &[] })?;
        self.overlay = Overlay::default();
        self.reader = self.index.reader()?;
        Ok(())
    }

    /// Brings all that was read into the index and removes the files that nobody needs.
    pub(super) fn finish(mut self, recovery: &mut Recovery) -> Result<(Index, Checkpoint)> {
        if self.changed {
            self.commit()?;
        }
        for (hash, state) in std::mem::take(&mut self.lost) {
            if self.reader.blob(&hash)?.is_some_and(|row| row.state == state) {
                recovery.damaged_blobs.push(hash);
            }
        }
        if !self.orphans.is_empty() {
            for orphan in std::mem::take(&mut self.orphans) {
                remove_orphan(&*self.vfs, &self.layout, &orphan)?;
                recovery.removed_files += 1;
            }
            self.commit()?;
        }
        Ok((self.index, self.checkpoint))
    }
}

/// Why replaying stopped.
#[derive(Debug)]
pub(super) enum Stop {
    Scan(ScanError),
    Store(Error),
}

impl From<ScanError> for Stop {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl Stop {
    pub(super) fn into_error(self, path: &Path) -> Error {
        match self {
            Self::Store(error) => error,
            Self::Scan(ScanError::Io(e)) => Error::io("read", path, e),
            Self::Scan(ScanError::Unsupported { offset, cause }) => Error::UnsupportedFormat {
                path: path.to_owned(),
                found: format!("{cause} at offset {offset}"),
                supported: "records of version 1".to_owned(),
            },
        }
    }
}
