//! Applies what the log says to the index (E62 steps 5 to 7).

mod files;
mod packed;

use std::{collections::BTreeSet, path::Path, sync::Arc};

use blob_traits::{BlobFormat, Error, Hash, HashAndFormat, Result, Tag};

use self::files::Lost;
use super::{DamagedRange, Recovery};
use crate::{
    committer::move_pair,
    format::{
        record::{Body, CameFrom, Place as RecordPlace, encode_header},
        scan::{ScanError, Scanned, ScannedRecord},
    },
    index::{Commit, Index, IndexReader, Unlink},
    layout::{FileNo, Layout},
    op::{Orphan, OrphanKind, orphan},
    overlay::{Change, Overlay},
    row::{BlobRow, BlobState, Checkpoint, Origin, Place, TagRow},
    state::Move,
    vfs::Vfs,
};

/// So many bytes of names of tags are gathered at most before they go to the index.
const NAME_BYTES: usize = 16 << 20;

/// The index on its way to the end of the log. What it holds in memory does not grow with the log (E64).
#[derive(Debug)]
pub(super) struct Replay {
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    index: Index,
    reader: IndexReader,
    overlay: Overlay,
    checkpoint: Checkpoint,
    /// How long the names of the tags in the overlay are.
    name_bytes: usize,
    moves: Vec<Move>,
    /// Files that go in the end, and are not in the index yet.
    orphans: Vec<Orphan>,
    lost: Lost,
    /// Records up to this one were in the index before.
    began_at: u64,
    /// Packed segments whose removals are still to be applied, while an index is built.
    with_removals: BTreeSet<u32>,
    order: Order,
    changed: bool,
    /// How many rows, moves or files are gathered before they go to the index.
    batch: usize,
}

/// In which order records come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// In that of their seqs: each replaces what came before.
    Ascending,
    /// Packed segments first, then the log; or the index is ahead of its checkpoint: seqs have to be compared.
    Any,
    /// What remains of records in packed segments, after all else: it comes after the record that has its seq.
    Remains,
}

impl Replay {
    pub(super) fn new(vfs: Arc<dyn Vfs>, layout: Layout, index: Index, batch: usize) -> Result<Self> {
        let (reader, checkpoint) = (index.reader()?, index.checkpoint()?);
        let order = if index.is_ahead()? { Order::Any } else { Order::Ascending };
        let changed = !index.unlink(1)?.is_empty();
        Ok(Self {
            vfs,
            layout,
            index,
            reader,
            overlay: Overlay::default(),
            checkpoint,
            name_bytes: 0,
            moves: Vec::new(),
            orphans: Vec::new(),
            lost: Lost::default(),
            began_at: checkpoint.seq,
            with_removals: BTreeSet::new(),
            order,
            changed,
            batch,
        })
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        self.checkpoint
    }

    /// How much it holds that is not in the index.
    #[cfg(test)]
    pub(super) fn n_held(&self) -> usize {
        self.overlay.rows() + self.moves.len() + self.orphans.len() + self.lost.len()
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
        self.commit_if_full()
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
                    self.note_if_lost(hash, state, *came_from)?;
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

    /// Makes this the last that is known of a blob; `false`: something later is known.
    fn set_blob(&mut self, hash: Hash, seq: u64, change: Change<BlobRow>) -> Result<bool, Stop> {
        let old = self.blob_row(&hash)?;
        if self.is_stale(old.map(|old| old.seq), seq) {
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
        if self.order != Order::Ascending {
            let old = self.tag_row(&tag)?.map(|row| row.seq);
            if self.is_stale(old, seq) {
                return Ok(());
            }
        }
        self.put_tag(tag, change);
        Ok(())
    }

    fn put_tag(&mut self, tag: Tag, change: Change<TagRow>) {
        self.name_bytes += tag.as_ref().len();
        self.overlay.tags.insert(tag, change);
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
    fn is_stale(&self, row_seq: Option<u64>, seq: u64) -> bool {
        match self.order {
            Order::Ascending => false,
            Order::Any => row_seq.is_some_and(|known| known >= seq),
            Order::Remains => row_seq.is_some_and(|known| known > seq),
        }
    }

    fn commit_if_full(&mut self) -> Result<(), Stop> {
        let held = self.overlay.rows().max(self.moves.len()).max(self.orphans.len());
        if held >= self.batch || self.name_bytes >= NAME_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        let mut dirs = BTreeSet::new();
        for moved in std::mem::take(&mut self.moves) {
            move_pair(&*self.vfs, &self.layout, &moved)?;
            dirs.insert(self.layout.data_subdir(&moved.hash));
            dirs.insert(self.layout.data_dir());
        }
        dirs.into_iter()
            .try_for_each(|dir| self.vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e)))?;
        let (overlay, checkpoint) = (&self.overlay, Some(self.checkpoint));
        let unlink = Unlink::Add(&self.orphans);
        self.index.commit(&Commit { overlay, checkpoint, unlink, segments: &[] })?;
        self.orphans.clear();
        (self.overlay, self.name_bytes) = (Overlay::default(), 0);
        self.reader = self.index.reader()?;
        Ok(())
    }

    /// Brings all that was read into the index and removes the files that nobody needs.
    pub(super) fn finish(mut self, recovery: &mut Recovery) -> Result<(Index, Checkpoint)> {
        if self.changed {
            self.commit()?;
        }
        self.report_lost(recovery)?;
        self.remove_orphans(recovery)?;
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
