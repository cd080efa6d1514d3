//! How much of each segment is live (E54): changed in the commit that changes the rows, and computed anew when it does
//! not belong to them.

use std::collections::BTreeMap;

use blob_traits::TagRange;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::{BLOBS, Index, IndexReader, META, TAGS, contained};
use crate::{
    format::record::Fields,
    row::{BlobRow, TagRow},
};

pub(super) const SEGMENTS: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("segments");

/// In the place of a segment's id: the files of large blobs.
pub(crate) const FILES: u32 = 0;
/// The checkpoint that the table belongs to. A release that does not know the table leaves it behind.
const COUNTED_AT: &str = "segments";

/// What is known of a segment, apart from what its header says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SegmentStats {
    /// A packed segment all of whose rows are in the index.
    pub(crate) applied: bool,
    /// The bytes of records that rows name.
    pub(crate) live: u64,
    /// The bytes of removals that a packed segment had to keep.
    pub(crate) held: u64,
    /// The segments for which it had to.
    pub(crate) held_for: Vec<u32>,
}

/// What compaction has to say about a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SegmentNote {
    /// All rows of this packed segment are in the index with this commit.
    Applied { id: u32, held: u64, held_for: Vec<u32> },
    /// It has gone.
    Removed(u32),
    /// The bytes that are live were counted wrongly, by so many.
    Corrected { id: u32, by: i128 },
    /// Damage of the log was dealt with (E53).
    Repaired,
}

/// The table of a whole index.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllStats {
    pub(crate) segments: BTreeMap<u32, SegmentStats>,
    /// The bytes of the files of large blobs, outboards included.
    pub(crate) files: u64,
}

impl AllStats {
    /// All that rows name, in the log and in files.
    pub(crate) fn live_bytes(&self) -> u64 {
        let in_log: u64 = self.segments.values().map(|stats| stats.live).sum();
        in_log.saturating_add(self.files)
    }
}

impl SegmentStats {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.applied)];
        bytes.extend_from_slice(&self.live.to_le_bytes());
        bytes.extend_from_slice(&self.held.to_le_bytes());
        self.held_for.iter().for_each(|id| bytes.extend_from_slice(&id.to_le_bytes()));
        bytes
    }

    /// What cannot be read is taken for nothing: these are numbers to steer by.
    fn decode(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let applied = fields.u8() == Some(1);
        let (live, held) = (fields.u64().unwrap_or(0), fields.u64().unwrap_or(0));
        let held_for = std::iter::from_fn(|| fields.u32()).collect();
        Self { applied, live, held, held_for }
    }
}

/// What a commit changes in the table.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<u32, i128>);

impl Tally {
    /// A row comes, or (`sign` -1) goes.
    pub(super) fn blob(&mut self, row: Option<BlobRow>, sign: i128) {
        let Some(row) = row else { return };
        *self.0.entry(row.place.segment).or_default() += sign * i128::from(row.state.log_len());
        *self.0.entry(FILES).or_default() += sign * i128::from(row.state.file_len());
    }

    /// A row comes, or (`sign` -1) goes.
    pub(super) fn tag(&mut self, name: &[u8], row: Option<TagRow>, sign: i128) {
        let Some(row) = row else { return };
        *self.0.entry(row.place.segment).or_default() += sign * i128::from(TagRow::log_len(name.len()));
    }

    pub(super) fn apply(
        self,
        table: &mut Table<'_, u32, &'static [u8]>,
        notes: &[SegmentNote],
    ) -> Result<(), redb::Error> {
        for (id, change) in self.0 {
            correct(table, id, change)?;
        }
        for note in notes {
            match note {
                SegmentNote::Applied { id, held, held_for } => {
                    let live = read(table, *id)?.live;
                    let held_for = held_for.clone();
                    write(table, *id, &SegmentStats { applied: true, live, held: *held, held_for })?;
                }
                SegmentNote::Removed(id) => drop(table.remove(id)?),
                SegmentNote::Corrected { id, by } => correct(table, *id, *by)?,
                SegmentNote::Repaired => {}
            }
        }
        Ok(())
    }
}

fn read(table: &Table<'_, u32, &'static [u8]>, id: u32) -> Result<SegmentStats, redb::Error> {
    Ok(table.get(id)?.map(|stats| SegmentStats::decode(stats.value())).unwrap_or_default())
}

fn correct(table: &mut Table<'_, u32, &'static [u8]>, id: u32, by: i128) -> Result<(), redb::Error> {
    let mut stats = read(table, id)?;
    let live = i128::from(stats.live).saturating_add(by).max(0);
    stats.live = u64::try_from(live).unwrap_or(u64::MAX);
    write(table, id, &stats)
}

fn write(
    table: &mut Table<'_, u32, &'static [u8]>,
    id: u32,
    stats: &SegmentStats,
) -> Result<(), redb::Error> {
    if *stats == SegmentStats::default() {
        table.remove(id)?;
    } else {
        table.insert(id, stats.encode().as_slice())?;
    }
    Ok(())
}

/// Notes in a transaction that the table belongs to this checkpoint.
pub(super) fn note_counted(txn: &WriteTransaction, checkpoint: &[u8]) -> Result<(), redb::Error> {
    txn.open_table(META)?.insert(COUNTED_AT, checkpoint)?;
    Ok(())
}

impl Index {
    /// Sees to it that the table of segments is there and belongs to the rows (E54).
    pub(super) fn ensure_segments(&self) -> Result<(), blob_traits::Error> {
        let counted = self.meta(COUNTED_AT)?;
        if counted.is_some() && counted == self.meta("checkpoint")? {
            return Ok(());
        }
        contained("count the segments of", &self.path, || self.count_segments())
    }

    fn count_segments(&self) -> Result<(), redb::Error> {
        let mut txn = self.db.begin_write()?;
        txn.set_quick_repair(true);
        let mut tally = Tally::default();
        for row in txn.open_table(BLOBS)?.iter()? {
            tally.blob(BlobRow::decode(row?.1.value()), 1);
        }
        for row in txn.open_table(TAGS)?.iter()? {
            let (name, row) = row?;
            tally.tag(name.value(), TagRow::decode(row.value()), 1);
        }
        {
            let mut table = txn.open_table(SEGMENTS)?;
            let mut before = BTreeMap::new();
            for entry in table.iter()? {
                let (id, stats) = entry?;
                before.insert(id.value(), SegmentStats { live: 0, ..SegmentStats::decode(stats.value()) });
            }
            for (id, stats) in before {
                write(&mut table, id, &stats)?;
            }
            tally.apply(&mut table, &[])?;
        }
        let checkpoint = txn.open_table(META)?.get("checkpoint")?.map(|value| value.value().to_vec());
        note_counted(&txn, &checkpoint.unwrap_or_default())?;
        Ok(txn.commit()?)
    }

    /// Changes the table alone.
    pub(crate) fn note_segments(&self, notes: &[SegmentNote]) -> Result<(), blob_traits::Error> {
        let change = || {
            let mut txn = self.db.begin_write()?;
            txn.set_quick_repair(true);
            Tally::default().apply(&mut txn.open_table(SEGMENTS)?, notes)?;
            Ok::<_, redb::Error>(txn.commit()?)
        };
        contained("commit to", &self.path, change)
    }
}

impl IndexReader {
    /// By how much the live bytes of each segment, and of the files, are more than what was counted.
    pub(crate) fn miscounted(&self) -> Result<Vec<(u32, i128)>, blob_traits::Error> {
        let mut tally = Tally::default();
        for row in self.blobs()? {
            tally.blob(Some(row?.1), 1);
        }
        for row in self.tags(&TagRange::all())? {
            let (name, row) = row?;
            tally.tag(name.as_ref(), Some(row), 1);
        }
        let counted = self.stats()?;
        for (id, stats) in counted.segments {
            *tally.0.entry(id).or_default() -= i128::from(stats.live);
        }
        *tally.0.entry(FILES).or_default() -= i128::from(counted.files);
        Ok(tally.0.into_iter().filter(|(_, by)| *by != 0).collect())
    }

    /// The whole table of segments.
    pub(crate) fn stats(&self) -> Result<AllStats, blob_traits::Error> {
        let read = || {
            let mut all = AllStats::default();
            for entry in self.segments.iter()? {
                let (id, stats) = entry?;
                let (id, stats) = (id.value(), SegmentStats::decode(stats.value()));
                if id == FILES {
                    all.files = stats.live;
                } else {
                    all.segments.insert(id, stats);
                }
            }
            Ok::<_, redb::Error>(all)
        };
        contained("read", &self.path, read)
    }
}
