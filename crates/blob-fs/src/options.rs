//! How a store is opened.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::vfs::{RealVfs, Vfs};

/// How a store is opened. Start from [`Options::new`] and change what should differ.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of the store.
    pub dir: PathBuf,
    /// Whether a store that is not there is created.
    pub create: Create,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Blobs up to this size, in bytes, lie in the log; larger ones have files of their own. At most 8 MiB.
    pub inline_max: u64,
    /// Partial blobs of which up to so many bytes have come stay in memory until they are synced.
    pub partial_memory_max: u64,
    /// No blob is larger, in bytes. Checked before any file call.
    pub max_blob_size: u64,
    /// How many files are kept open between reads. Never more than a quarter of those that the process may have open.
    pub open_files: usize,
    /// How long a segment of the log gets, in bytes; at most 4 GiB - 1.
    pub segment_size: u64,
    /// How much memory the index may use for its pages, in bytes.
    pub index_cache: usize,
    /// How many changes are gathered in memory before they go to the index.
    pub overlay_rows: usize,
    /// How long changes wait in memory, at most, before they go to the index.
    pub overlay_age: Duration,
    /// What happens where the index or a part of the log is damaged or missing.
    pub rebuild: Rebuild,
    /// When the space of dead records comes back.
    pub compaction: Compaction,
    /// How much room on the disk is kept for removals, at most, in bytes; 0 for none. A store has an eighth of what it
    /// holds in reserve, and none below 4 MiB. When the disk is full this room is given up, and nothing but removals is
    /// taken until there is room to have it again; other writes fail with [`NoSpace`](blob_traits::Error::NoSpace).
    pub reserve: u64,
    /// The file system. Tests put a faulty one here.
    pub vfs: Arc<dyn Vfs>,
}

/// Whether a store that is not there is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// It is created.
    #[default]
    IfMissing,
    /// Opening fails with [`FileNotFound`](blob_traits::Error::FileNotFound).
    Never,
}

/// What happens where the index, which is derived from the log, or a part of the log is damaged or missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebuild {
    /// An index that cannot be used is put aside and built anew from the log, where that loses nothing. Where something
    /// is lost, or may be, opening fails and says what.
    #[default]
    WhenLossless,
    /// The store is opened with what is left, and [`Recovery::losses`](crate::Recovery::losses) says what is not. An
    /// index that can be used is kept: what it knows of lost records comes back with a
    /// [check that repairs](blob_traits::CheckMode::Repair). Until then nothing is collected.
    AcceptLoss,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What is acknowledged survives a power cut. Concurrent writers share one sync.
    #[default]
    Immediate,
    /// What is acknowledged survives the end of the process. A sync follows within a second or 32 MiB; after a power
    /// cut the store is as it was after some first part of its operations. [`sync`](blob_traits::Lifecycle::sync)
    /// makes all that came before it durable.
    Relaxed,
}

/// When the space of what is deleted or replaced in the log comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// By itself: a thread of its own rewrites segments of which more than so much is dead, in percent.
    Background {
        /// A lower number means less waste and more writing.
        max_dead_percent: u8,
    },
    /// When [`compact`](crate::FsStore::compact) is called.
    Manual,
}

impl Default for Compaction {
    /// In the background, when over half is dead.
    fn default() -> Self {
        Self::Background { max_dead_percent: 50 }
    }
}

impl Options {
    /// The defaults, for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            create: Create::IfMissing,
            durability: Durability::Immediate,
            inline_max: 64 << 10,
            partial_memory_max: 1 << 20,
            max_blob_size: 1 << 44,
            open_files: 256,
            segment_size: 256 << 20,
            index_cache: 32 << 20,
            overlay_rows: 65_536,
            overlay_age: Duration::from_secs(30),
            rebuild: Rebuild::default(),
            compaction: Compaction::default(),
            reserve: 32 << 20,
            vfs: Arc::new(RealVfs::default()),
        }
    }

    /// Brings values into the limits of the format.
    pub(crate) fn within_limits(mut self) -> Self {
        self.inline_max = self.inline_max.min(8 << 20);
        self.segment_size = self.segment_size.clamp(64 << 10, u64::from(u32::MAX));
        self.max_blob_size = self.max_blob_size.min(1 << 62);
        self.overlay_rows = self.overlay_rows.max(1);
        self
    }
}
