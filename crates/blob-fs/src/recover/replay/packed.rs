//! Packed segments in recovery (E62 step 4) and in a rebuild (E64).

use std::ops::Range;

use blob_traits::{Error, Result, Tag};

use super::{Order, Replay, Stop};
use crate::{
    format::{
        record::Body,
        scan::{ScanFrom, ScanLimits, Scanned, ScannedRecord, SeqRule, SmallPayloads, scan},
    },
    overlay::Change,
    recover::Recovery,
    row::{BlobRow, Place, TagRow},
    segments::{self, PackedSegment, Segments},
};

impl Replay {
    /// Takes in packed segments: all of them into an index that is `new`, else those that the index does not know.
    pub(in crate::recover) fn take_packed(
        &mut self,
        segments: &Segments,
        new: bool,
        recovery: &mut Recovery,
    ) -> Result<()> {
        let stats = self.reader.stats()?.segments;
        if new && !segments.packed.is_empty() {
            self.order = Order::Any;
        }
        for packed in &segments.packed {
            let known = stats.get(&packed.id()).is_some_and(|stats| stats.applied);
            if new || !known || !packed.is_whole {
                let path = self.layout.segment(packed.id());
                self.take_segment(packed, new, recovery).map_err(|stop| stop.into_error(&path))?;
            }
        }
        Ok(())
    }

    fn take_segment(
        &mut self,
        packed: &PackedSegment,
        new: bool,
        recovery: &mut Recovery,
    ) -> Result<(), Stop> {
        let (id, header) = (packed.id(), &packed.header);
        let file = segments::open(&*self.vfs, &self.layout, id)?;
        let reads_all = new || !packed.is_whole;
        let (from, limits) = whole(packed, if reads_all { SmallPayloads::Read } else { SmallPayloads::Skip });
        let before = recovery.damaged.len();
        scan::<Stop>(&*file, header, from, limits, &mut |scanned| match scanned {
            Scanned::Damage(damage) => self.note_damage(id, damage.range, recovery),
            Scanned::Transaction(transaction) => {
                self.changed = true;
                for record in &transaction.records {
                    if new {
                        recovery.replayed_records += 1;
                        if is_removal(record) {
                            self.with_removals.insert(id);
                        } else {
                            self.apply(id, record, recovery)?;
                        }
                    } else if packed.is_whole || segments::is_right(record) {
                        // Where what it was made of may be there still, no row moves to a bad copy.
                        self.relocate(id, record)?;
                    }
                }
                self.commit_if_full()
            }
        })?;
        if !packed.is_whole && recovery.damaged.len() == before {
            self.note_damage(id, packed.size..packed.size, recovery)?;
        }
        Ok(())
    }

    /// Applies the removals in packed segments to an index that is new, once it has all that they may remove: the records
    /// before them may lie in any segment (E64).
    pub(in crate::recover) fn take_removals(
        &mut self,
        segments: &Segments,
        recovery: &mut Recovery,
    ) -> Result<()> {
        let with_removals = std::mem::take(&mut self.with_removals);
        if !with_removals.is_empty() {
            self.order = Order::Remains;
        }
        for packed in segments.packed.iter().filter(|packed| with_removals.contains(&packed.id())) {
            let path = self.layout.segment(packed.id());
            self.take_removals_of(packed, recovery).map_err(|stop| stop.into_error(&path))?;
        }
        Ok(())
    }

    fn take_removals_of(&mut self, packed: &PackedSegment, recovery: &mut Recovery) -> Result<(), Stop> {
        let id = packed.id();
        let file = segments::open(&*self.vfs, &self.layout, id)?;
        let (from, limits) = whole(packed, SmallPayloads::Skip);
        scan::<Stop>(&*file, &packed.header, from, limits, &mut |scanned| match scanned {
            Scanned::Damage(damage) => {
                let path = self.layout.segment(id);
                let meets =
                    |range: &Range<u64>| range.start < damage.range.end && damage.range.start < range.end;
                // Told of when all else was read, unless it is news.
                let is_known = recovery.damaged.iter().any(|known| known.path == path && meets(&known.range));
                if is_known { Ok(()) } else { self.note_damage(id, damage.range, recovery) }
            }
            Scanned::Transaction(transaction) => {
                for record in transaction.records.iter().filter(|record| is_removal(record)) {
                    self.apply(id, record, recovery)?;
                }
                self.commit_if_full()
            }
        })?;
        Ok(())
    }

    /// Lets the row that has this record's seq point to this copy of it.
    fn relocate(&mut self, segment: u32, record: &ScannedRecord) -> Result<(), Stop> {
        let seq = record.header.seq;
        // A PackEnd has the number after the last of what was compacted.
        let last = if matches!(record.body, Body::PackEnd { .. }) { seq.saturating_sub(1) } else { seq };
        if last > self.checkpoint.seq {
            return Err(Stop::Store(Error::DamagedStore {
                path: self.layout.index(),
                what: "it is older than the log".to_owned(),
            }));
        }
        let offset = u32::try_from(record.offset).unwrap_or(u32::MAX);
        let (place, hash) = (Place { segment, offset }, record.header.hash);
        match &record.body {
            Body::Small { .. } | Body::Large { .. } | Body::Referenced { .. } | Body::PartialBegin { .. } => {
                if let Some(row) = self.blob_row(&hash)?.filter(|row| row.seq == seq) {
                    self.overlay.blobs.insert(hash, Change::Set(BlobRow { place, ..row }));
                }
            }
            Body::TagSet { name, .. } => {
                let tag = Tag::from(name.as_slice());
                if let Some(row) = self.tag_row(&tag)?.filter(|row| row.seq == seq) {
                    self.put_tag(tag, Change::Set(TagRow { place, ..row }));
                }
            }
            Body::Delete(_) | Body::TagDelete(_) | Body::PackEnd { .. } | Body::Mark | Body::Unknown => {}
        }
        Ok(())
    }
}

/// How a packed segment is read from its first record to its last.
fn whole(packed: &PackedSegment, small: SmallPayloads) -> (ScanFrom, ScanLimits) {
    let header = &packed.header;
    let from = ScanFrom { offset: header.len(), next_seq: header.base_seq };
    let known_end = Some(packed.size);
    (from, ScanLimits { known_end, checkpoint_seq: u64::MAX, seqs: SeqRule::Ascending, small })
}

fn is_removal(record: &ScannedRecord) -> bool {
    matches!(record.body, Body::Delete(_) | Body::TagDelete(_))
}
