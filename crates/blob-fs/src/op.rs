//! What is queued for the log: operations, grouped into transactions.

use blob_traits::{Hash, HashAndFormat, Tag, TempTag};
use bytes::Bytes;
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::{
    failure::Failure,
    format::record::{CameFrom, FileIdentity, Record, padded_len},
    layout::FileNo,
    row::{BlobState, Origin},
};

/// One record to be.
#[derive(Debug)]
pub(crate) enum Op {
    Small { hash: Hash, data: Bytes, outboard: Vec<u8> },
    Large { hash: Hash, size: u64, no: FileNo, came_from: CameFrom },
    Referenced { hash: Hash, size: u64, no: FileNo, paths: Vec<FileIdentity> },
    PartialBegin { hash: Hash, no: FileNo, origin: Origin },
    Delete { hashes: Vec<Hash> },
    TagSet { tag: Tag, content: HashAndFormat },
    TagDelete { tags: Vec<Tag> },
    Mark,
}

impl Op {
    /// The blob that this makes be there, and how.
    pub(crate) fn blob(&self) -> Option<(Hash, BlobState)> {
        match self {
            Self::Small { hash, data, .. } => {
                Some((*hash, BlobState::Small { size: u32::try_from(data.len()).unwrap_or(u32::MAX) }))
            }
            Self::Large { hash, size, no, .. } => Some((*hash, BlobState::Large { size: *size, no: *no })),
            Self::Referenced { hash, size, no, .. } => {
                Some((*hash, BlobState::Referenced { size: *size, no: *no }))
            }
            Self::PartialBegin { hash, no, origin } => {
                Some((*hash, BlobState::Partial { no: *no, origin: *origin }))
            }
            Self::Delete { .. } | Self::TagSet { .. } | Self::TagDelete { .. } | Self::Mark => None,
        }
    }

    /// The keys whose last record this makes dead, in the order of `kills`.
    pub(crate) fn keys(&self) -> SmallVec<[Key; 1]> {
        match self {
            Self::Small { hash, .. }
            | Self::Large { hash, .. }
            | Self::Referenced { hash, .. }
            | Self::PartialBegin { hash, .. } => SmallVec::from_elem(Key::Blob(*hash), 1),
            Self::Delete { hashes } => hashes.iter().copied().map(Key::Blob).collect(),
            Self::TagSet { tag, .. } => SmallVec::from_elem(Key::Tag(tag.clone()), 1),
            Self::TagDelete { tags } => tags.iter().cloned().map(Key::Tag).collect(),
            Self::Mark => SmallVec::new(),
        }
    }

    /// Whether it makes nothing be there that was not.
    pub(crate) fn is_removal(&self) -> bool {
        matches!(self, Self::Delete { .. } | Self::TagDelete { .. } | Self::Mark)
    }

    /// Calls `f` with the record, whose `kills` are given per key.
    pub(crate) fn with_record<T>(&self, kills: &[u32], f: impl FnOnce(&Record<'_>, u32) -> T) -> T {
        let first = kills.first().copied().unwrap_or(0);
        match self {
            Self::Small { hash, data, outboard } => f(&Record::Small { hash: *hash, data, outboard }, first),
            Self::Large { hash, size, no, came_from } => {
                f(&Record::Large { hash: *hash, size: *size, no: *no, came_from: *came_from }, first)
            }
            Self::Referenced { hash, size, no, paths } => {
                f(&Record::Referenced { hash: *hash, size: *size, no: *no, paths }, first)
            }
            Self::PartialBegin { hash, no, origin } => {
                f(&Record::PartialBegin { hash: *hash, no: *no, came_from: origin.came_from() }, first)
            }
            Self::Delete { hashes } => {
                let entries: Vec<_> = hashes.iter().copied().zip(kills.iter().copied()).collect();
                f(&Record::Delete(&entries), 0)
            }
            Self::TagSet { tag, content } => f(
                &Record::TagSet {
                    target: content.hash,
                    format: u8::from(content.format.is_hash_seq()),
                    name: tag.as_ref(),
                },
                first,
            ),
            Self::TagDelete { tags } => {
                let entries: Vec<_> = kills.iter().copied().zip(tags.iter().map(AsRef::as_ref)).collect();
                f(&Record::TagDelete(&entries), 0)
            }
            Self::Mark => f(&Record::Mark, 0),
        }
    }

    /// The files that were made for this operation alone.
    pub(crate) fn new_files(&self) -> Option<Orphan> {
        match self {
            Self::Large { hash, no, came_from: CameFrom::Temp, .. } | Self::Referenced { hash, no, .. }
                if *no != FileNo::NONE =>
            {
                Some(Orphan { hash: *hash, no: *no, what: OrphanKind::All })
            }
            _ => None,
        }
    }

    /// How many bytes the record takes in the log, roughly.
    pub(crate) fn weight(&self) -> u64 {
        let payload = match self {
            Self::Small { data, outboard, .. } => data.len() + outboard.len(),
            Self::Referenced { paths, .. } => paths.iter().map(|p| 64 + p.path.as_os_str().len()).sum(),
            Self::Delete { hashes } => hashes.len() * 36,
            Self::TagDelete { tags } => tags.iter().map(|t| 6 + t.0.len()).sum(),
            Self::TagSet { tag, .. } => 1 + tag.0.len(),
            Self::Large { .. } | Self::PartialBegin { .. } | Self::Mark => 32,
        };
        padded_len(u32::try_from(payload).unwrap_or(u32::MAX))
    }
}

/// What a record is the last one of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    Blob(Hash),
    Tag(Tag),
}

/// Where the record lies that a new one makes dead (E56).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Killed {
    /// There is none.
    Nothing,
    /// In this segment.
    Segment(u32),
    /// It is queued too: the leader knows when it writes.
    Queued,
}

/// An operation with what was decided about it under the state lock.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) op: Op,
    pub(crate) seq: u64,
    /// One for each key of the operation.
    pub(crate) killed: SmallVec<[Killed; 1]>,
    /// Files that nobody needs once this is durable.
    pub(crate) orphans: Vec<Orphan>,
}

/// Files that are to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) hash: Hash,
    pub(crate) no: FileNo,
    pub(crate) what: OrphanKind,
}

/// Which files of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrphanKind {
    /// All of them, wherever they lie.
    All,
    /// The bits and pairs of a partial blob that became complete.
    Bits,
}

/// The files that a blob leaves behind when its state changes.
pub(crate) fn orphan(hash: Hash, old: BlobState, new: Option<BlobState>) -> Option<Orphan> {
    let no = old.file_no()?;
    let kept = new.and_then(BlobState::file_no) == Some(no);
    match (kept, old) {
        (false, _) => Some(Orphan { hash, no, what: OrphanKind::All }),
        (true, BlobState::Partial { .. }) if new.is_some_and(|new| new.complete_size().is_some()) => {
            Some(Orphan { hash, no, what: OrphanKind::Bits })
        }
        (true, _) => None,
    }
}

/// How a write ended.
pub(crate) type Outcome = Result<(), Failure>;

/// A run of operations that happens whole or not at all (E17).
#[derive(Debug)]
pub(crate) struct Txn {
    pub(crate) ops: Vec<Queued>,
    pub(crate) weight: u64,
    /// Who is told when it is durable (or, in Relaxed, written).
    pub(crate) done: Option<oneshot::Sender<Outcome>>,
    /// What is in flight is pinned until it is published (E23).
    pub(crate) _pins: SmallVec<[TempTag; 1]>,
    /// Its share of the queue (E28).
    pub(crate) _share: Option<OwnedSemaphorePermit>,
}
