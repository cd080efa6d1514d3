//! Which records of the victims are kept (E57 step 3).

use std::collections::BTreeSet;

use blob_traits::{Error, Result, Tag};

use super::{Stop, Stopped, victims::Standing};
use crate::{
    engine::{Engine, Keys},
    format::{
        header::SegmentHeader,
        record::{Body, padded_len},
        scan::{ScanError, ScanFrom, ScanLimits, Scanned, ScannedRecord, SeqRule, SmallPayloads, scan},
    },
    op::Key,
    segments,
};

/// Rows are looked up so many at a time, which bounds how long the state lock is held.
const SLICE: usize = 256;

/// A segment to be rewritten, with what scanning it needs.
#[derive(Clone, Debug)]
pub(super) struct Victim {
    pub(super) header: SegmentHeader,
    pub(super) end: u64,
    pub(super) seqs: SeqRule,
}

impl Victim {
    pub(super) fn id(&self) -> u32 {
        self.header.segment
    }
}

/// What is kept of a victim.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) items: Vec<Item>,
    /// The bytes that they will take.
    pub(super) bytes: u64,
    /// The highest seq in the victim, kept or not.
    pub(super) last_seq: u64,
}

/// A record that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Item {
    pub(super) seq: u64,
    pub(super) segment: u32,
    pub(super) offset: u64,
    pub(super) keep: Keep,
}

/// What is kept of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Keep {
    /// All of it: a row names it.
    Live,
    /// What it removed, which may still be found elsewhere.
    Remains,
}

/// Reads a victim and decides about each of its records.
pub(super) fn plan(
    engine: &Engine,
    victim: &Victim,
    standing: &Standing,
    stop: &Stop<'_>,
    on_damage: OnDamage,
) -> Result<Plan, Stopped> {
    let mut plan = Plan::default();
    let mut slice = Vec::new();
    let file = segments::open(&*engine.vfs, &engine.layout, victim.id())?;
    visit(engine, &*file, victim, on_damage, &mut |record| {
        plan.last_seq = plan.last_seq.max(match record.body {
            Body::PackEnd { .. } => record.header.seq.saturating_sub(1),
            _ => record.header.seq,
        });
        slice.push(record);
        if slice.len() < SLICE {
            return Ok(());
        }
        stop.check()?;
        decide(engine, victim.id(), &mut slice, standing, &mut plan)
    })?;
    decide(engine, victim.id(), &mut slice, standing, &mut plan)?;
    Ok(plan)
}

/// What happens where a segment cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// It is left alone (E57 step 1).
    Stop,
    /// What can be read counts: the rest has been given up (E68).
    GoOn,
}

/// Hands on all records of a segment without the bytes of small blobs.
pub(super) fn visit(
    engine: &Engine,
    file: &dyn crate::vfs::VfsFile,
    victim: &Victim,
    on_damage: OnDamage,
    visit: &mut dyn FnMut(ScannedRecord) -> Result<(), Stopped>,
) -> Result<(), Stopped> {
    let from = ScanFrom { offset: victim.header.len(), next_seq: victim.header.base_seq };
    let limits = ScanLimits {
        known_end: Some(victim.end),
        checkpoint_seq: u64::MAX,
        seqs: victim.seqs,
        small: if on_damage == OnDamage::GoOn { SmallPayloads::Read } else { SmallPayloads::Skip },
    };
    let path = engine.layout.segment(victim.id());
    let scanned = scan(file, &victim.header, from, limits, &mut |scanned| match scanned {
        Scanned::Damage(_) if on_damage == OnDamage::GoOn => Ok(()),
        Scanned::Damage(_) => Err(Failed::Stopped(Stopped::Damaged(victim.id()))),
        Scanned::Transaction(transaction) => {
            let records = transaction.records.into_iter();
            let mut bare = records.map(|record| ScannedRecord { payload: Vec::new(), ..record });
            bare.try_for_each(&mut *visit).map_err(Failed::Stopped)
        }
    });
    match scanned {
        Ok(_) => Ok(()),
        Err(Failed::Stopped(stopped)) => Err(stopped),
        Err(Failed::Scan(ScanError::Io(e))) => Err(Error::io("read", path, e).into()),
        Err(Failed::Scan(ScanError::Unsupported { .. })) => Err(Stopped::Damaged(victim.id())),
    }
}

enum Failed {
    Stopped(Stopped),
    Scan(ScanError),
}

impl From<ScanError> for Failed {
    fn from(error: ScanError) -> Self {
        Self::Scan(error)
    }
}

fn decide(
    engine: &Engine,
    segment: u32,
    slice: &mut Vec<ScannedRecord>,
    standing: &Standing,
    plan: &mut Plan,
) -> Result<(), Stopped> {
    let keys: Vec<Option<Key>> = slice.iter().map(key).collect();
    let live = live_seqs(engine, &keys)?;
    for ((record, key), row) in slice.drain(..).zip(keys).zip(live) {
        let seq = record.header.seq;
        // It may mean anything that a newer release knows.
        if record.body == Body::Unknown || record.header.flags.unsynced {
            return Err(Stopped::Damaged(segment));
        }
        let (keep, bytes) = if key.is_some() && row == Some(seq) {
            (Keep::Live, record.header.padded_len())
        } else {
            let len = remains_len(&record, standing);
            if len == 0 {
                continue;
            }
            (Keep::Remains, padded_len(u32::try_from(len).unwrap_or(u32::MAX)))
        };
        plan.bytes += bytes;
        plan.items.push(Item { seq, segment, offset: record.offset, keep });
    }
    Ok(())
}

/// What a record is the last one of, if it is; removals are of nothing.
pub(super) fn key(record: &ScannedRecord) -> Option<Key> {
    match &record.body {
        Body::Small { .. } | Body::Large { .. } | Body::Referenced { .. } | Body::PartialBegin { .. } => {
            Some(Key::Blob(record.header.hash))
        }
        Body::TagSet { name, .. } => Some(Key::Tag(Tag::from(name.as_slice()))),
        Body::Delete(_) | Body::TagDelete(_) | Body::PackEnd { .. } | Body::Mark | Body::Unknown => None,
    }
}

/// The seqs of the rows of some keys.
fn live_seqs(engine: &Engine, keys: &[Option<Key>]) -> Result<Vec<Option<u64>>> {
    engine.decide_unrecorded(&to_look_up(keys.iter().flatten()), |state, looked| {
        keys.iter().map(|key| key.as_ref().and_then(|key| state.row_seq(key, looked))).collect()
    })
}

pub(super) fn to_look_up<'a>(keys: impl Iterator<Item = &'a Key>) -> Keys {
    let mut all = Keys::default();
    for key in keys {
        match key {
            Key::Blob(hash) => all.blobs.push(*hash),
            Key::Tag(tag) => all.tags.push(tag.clone()),
        }
    }
    all
}

/// How long the payload is of what remains of a dead record; 0: nothing has to.
fn remains_len(record: &ScannedRecord, standing: &Standing) -> usize {
    match remains(record, standing) {
        Some(Remains::Delete(entries)) => entries.len() * 36,
        Some(Remains::TagDelete(entries)) => entries.iter().map(|(_, name)| 6 + name.len()).sum(),
        None => 0,
    }
}

/// The removals in a dead record that are still needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remains {
    Delete(Vec<(blob_traits::Hash, u32)>),
    TagDelete(Vec<(u32, Vec<u8>)>),
}

/// What has to be kept of a record that is not live (E55).
pub(super) fn remains(record: &ScannedRecord, standing: &Standing) -> Option<Remains> {
    let (seq, kills) = (record.header.seq, record.header.kills);
    match &record.body {
        Body::Delete(entries) => {
            let needed: Vec<_> =
                entries.iter().filter(|(_, kills)| standing.needs(seq, *kills)).copied().collect();
            (!needed.is_empty()).then_some(Remains::Delete(needed))
        }
        Body::TagDelete(entries) => {
            let needed: Vec<_> =
                entries.iter().filter(|(kills, _)| standing.needs(seq, *kills)).cloned().collect();
            (!needed.is_empty()).then_some(Remains::TagDelete(needed))
        }
        _ if !standing.needs(seq, kills) => None,
        Body::Small { .. } | Body::Large { .. } | Body::Referenced { .. } | Body::PartialBegin { .. } => {
            Some(Remains::Delete(vec![(record.header.hash, kills)]))
        }
        Body::TagSet { name, .. } => Some(Remains::TagDelete(vec![(kills, name.clone())])),
        Body::PackEnd { .. } | Body::Mark | Body::Unknown => None,
    }
}

impl Remains {
    /// The segments for which it is kept.
    pub(super) fn held_for(&self, ids: &mut BTreeSet<u32>) {
        match self {
            Self::Delete(entries) => ids.extend(entries.iter().map(|(_, kills)| *kills)),
            Self::TagDelete(entries) => ids.extend(entries.iter().map(|(kills, _)| *kills)),
        }
    }
}
