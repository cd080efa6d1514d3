//! What a run has found and done.

use std::{fmt, ops::Range, path::PathBuf};

use bao_tree::ChunkRanges;
use blob_traits::{EntryStatus, ErrorInfo, Hash};

/// What validation has found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ValidateReport {
    /// Complete blobs that were looked at.
    pub n_complete: u64,
    /// Partial blobs that were looked at.
    pub n_partial: u64,
    /// Blobs that were deleted before it was their turn.
    pub n_vanished: u64,
    /// How many bytes of blobs were hashed.
    pub n_bytes: u64,
    /// Blobs that are not what their hashes say.
    pub damaged: Vec<DamagedBlob>,
    /// Blobs that could not be looked at.
    pub failed: Vec<FailedBlob>,
    /// Blobs of which an earlier repair had to take back ranges, and that are still not complete.
    pub demoted: Vec<Hash>,
    /// Whether everything was looked at.
    pub ended: Ended,
}

impl ValidateReport {
    /// Whether all that was looked at is as it should be.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.failed.is_empty() && self.demoted.is_empty()
    }
}

/// How far a run went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ended {
    /// Everything was looked at.
    #[default]
    AllDone,
    /// The budget was spent.
    BudgetSpent,
}

/// A blob that is not what its hash says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DamagedBlob {
    /// The blob.
    pub hash: Hash,
    /// Its size in bytes.
    pub size: u64,
    /// Complete or partial.
    pub status: EntryStatus,
    /// The file that has its bytes, where there is one.
    pub path: Option<PathBuf>,
    /// The chunks that are not what the hash says, or not there although they should be, in whole chunk groups.
    pub bad: ChunkRanges,
    /// The chunks that the system could not read.
    pub unreadable: ChunkRanges,
    /// How many pairs of its hash tree are not what they should be. Where only these are bad, no data is concerned.
    pub n_bad_pairs: u64,
    /// How many bytes are stored, where that is another number than its size.
    pub stored_len: Option<u64>,
    /// The first error of the store, where there was one.
    pub error: Option<ErrorInfo>,
}

impl DamagedBlob {
    /// The ranges of bytes that are bad or could not be read.
    pub fn lost_bytes(&self) -> Vec<Range<u64>> {
        to_bytes(&(&self.bad | &self.unreadable), self.size)
    }
}

impl fmt::Display for DamagedBlob {
    /// Says what is wrong, without the name of the blob.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (ranges, what) in [(&self.bad, "damaged"), (&self.unreadable, "unreadable")] {
            let ranges = to_bytes(ranges, self.size);
            if !ranges.is_empty() {
                let ranges: Vec<_> = ranges.iter().map(|r| format!("{}..{}", r.start, r.end)).collect();
                parts.push(format!("bytes {} {what}", ranges.join(", ")));
            }
        }
        match self.n_bad_pairs {
            0 => {}
            1 => parts.push("one pair of the hash tree damaged".to_owned()),
            n => parts.push(format!("{n} pairs of the hash tree damaged")),
        }
        if let Some(stored) = self.stored_len {
            parts.push(format!("{stored} bytes stored instead of {}", self.size));
        }
        if let Some(error) = &self.error {
            parts.push(error.message.clone());
        }
        f.write_str(&parts.join("; "))
    }
}

/// A blob that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedBlob {
    /// The blob.
    pub hash: Hash,
    /// Why.
    pub error: ErrorInfo,
}

/// What repair has found and done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RepairReport {
    /// What validation has found.
    pub found: ValidateReport,
    /// What became of each blob that was damaged, or had been demoted earlier.
    pub blobs: Vec<RepairedBlob>,
}

impl RepairReport {
    /// Whether no damage is left.
    pub fn is_clean(&self) -> bool {
        self.found.failed.is_empty() && self.blobs.iter().all(|blob| blob.outcome.is_clean())
    }

    /// How many bytes of blobs came from sources.
    pub fn n_fetched_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.fetched.n_bytes).sum()
    }
}

/// A blob that was repaired, as far as that went.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RepairedBlob {
    /// The blob.
    pub hash: Hash,
    /// What became of it.
    pub outcome: Outcome,
    /// What came from sources.
    pub fetched: Fetched,
    /// What went wrong with sources that did not help, one line each.
    pub failures: Vec<String>,
}

impl RepairedBlob {
    pub(crate) fn not_begun(hash: Hash) -> Self {
        Self { hash, outcome: Outcome::NotBegun, fetched: Fetched::default(), failures: Vec::new() }
    }
}

/// What came from sources, all of it proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of the blob.
    pub n_bytes: u64,
    /// Bytes of its hash tree.
    pub n_hash_bytes: u64,
}

/// What became of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is complete, and sound.
    Complete,
    /// It is partial, and what is there is sound.
    Partial {
        /// The ranges of bytes that are missing.
        missing: Vec<Range<u64>>,
    },
    /// Some of it still cannot be read, and may be sound: that was not changed.
    Unreadable,
    /// It was deleted meanwhile.
    Vanished,
    /// It could not be repaired.
    Failed(ErrorInfo),
    /// It is as it was, damaged or with ranges that an earlier repair took back: the budget was spent before it was its turn.
    NotBegun,
}

impl Outcome {
    /// Whether no damage is left.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Complete | Self::Vanished)
    }
}

/// Ranges of chunks as bytes of a blob.
pub(crate) fn to_bytes(ranges: &ChunkRanges, size: u64) -> Vec<Range<u64>> {
    let run = |bounds: &[bao_tree::ChunkNum]| {
        let at = |i: usize| bounds.get(i).map_or(size, |chunk| chunk.0.saturating_mul(1024).min(size));
        at(0)..at(1)
    };
    ranges.boundaries().chunks(2).map(run).collect()
}

/// How many bytes that is.
pub(crate) fn n_bytes(ranges: &ChunkRanges, size: u64) -> u64 {
    to_bytes(ranges, size).iter().map(|range| range.end - range.start).sum()
}
