//! Packed segments in recovery (E62 step 4) and in a rebuild (E64).

use std::collections::hash_map::Entry;

use blob_traits::{Error, Result, Tag};

use super::{Order, Replay, Stop};
use crate::{
    format::{
        record::Body,
        scan::{ScanFrom, ScanLimits, Scanned, ScannedRecord, SeqRule, SmallPayloads, scan},
    },
    op::Key,
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
        let from = ScanFrom { offset: header.len(), next_seq: header.base_seq };
        let limits = ScanLimits {
            known_end: Some(packed.size),
            checkpoint_seq: u64::MAX,
            seqs: SeqRule::Ascending,
            small: if new || !packed.is_whole { SmallPayloads::Read } else { SmallPayloads::Skip },
        };
        let before = recovery.damaged.len();
        scan::<Stop>(&*file, header, from, limits, &mut |scanned| match scanned {
            Scanned::Damage(damage) => self.note_damage(id, damage.range, recovery),
            Scanned::Transaction(transaction) => {
                self.changed = true;
                for record in &transaction.records {
                    if new {
                        recovery.replayed_records += 1;
                        self.apply(id, record, recovery)?;
                        self.note_removals(record);
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

    /// Remembers what is removed by a record: in other segments there may be records from before it.
    fn note_removals(&mut self, record: &ScannedRecord) {
        let seq = record.header.seq;
        let keys: Vec<Key> = match &record.body {
            Body::Delete(entries) => entries.iter().map(|(hash, _)| Key::Blob(*hash)).collect(),
            Body::TagDelete(entries) => {
                entries.iter().map(|(_, name)| Key::Tag(Tag::from(name.as_slice()))).collect()
            }
            _ => return,
        };
        for key in keys {
            match self.removed.entry(key) {
                Entry::Occupied(mut known) => *known.get_mut() = seq.max(*known.get()),
                Entry::Vacant(unknown) => drop(unknown.insert(seq)),
            }
        }
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
                    self.overlay.tags.insert(tag, Change::Set(TagRow { place, ..row }));
                }
            }
            Body::Delete(_) | Body::TagDelete(_) | Body::PackEnd { .. } | Body::Mark | Body::Unknown => {}
        }
        Ok(())
    }

    fn commit_if_full(&mut self) -> Result<(), Stop> {
        if self.overlay.rows() >= self.batch {
            self.commit()?;
        }
        Ok(())
    }
}
