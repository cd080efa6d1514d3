//! The vocabulary and the traits of a verified blob store.
//!
//! A blob is named by the root of its BLAKE3 hash tree and stored with that tree, so that any range of it, complete
//! or not, can be verified by itself. This crate says what a store can do; `blob-mem` and `blob-fs` do it.
//!
//! # Map
//!
//! - Vocabulary: [`Hash`](struct@Hash), [`BlobFormat`], [`HashAndFormat`], [`Tag`], [`HashSeq`], [`Collection`], [`RangeSpec`],
//!   [`EntryStatus`], [`BaoBlobSize`].
//! - Capabilities, which backends implement: [`Map`] and [`MapEntry`] look up and read; [`BlobStatus`], [`ListBlobs`],
//!   [`ReadTags`] tell; [`MapMut`], [`MapEntryMut`] and [`BaoBatchWriter`] write partial blobs; [`Import`] and [`Export`]
//!   move whole ones; [`WriteTags`], [`TempTags`], [`Delete`], [`Sweep`] decide what stays; [`ScanBlobs`], [`Demote`] and
//!   [`ConsistencyCheck`] are what proving and repairing rest on; [`Lifecycle`] ends.
//! - [`ReadableStore`], [`Store`] and [`FullStore`] are aliases over them. Generic code imports `Store`; code over a concrete backend
//!   imports the [`prelude`].
//! - Conveniences are blanket extension traits: [`MapExt`], [`MapMutExt`], [`ImportExt`], [`ExportExt`],
//!   [`ReadTagsExt`], [`WriteTagsExt`].
//! - Over other stores: [`dynamic::DynStore`] hides which backend it is, [`ReadOnly`] takes the writing away.
//! - For backends: [`TempTagRegistry`], [`PartialTree`], [`blocking`], [`tree`].
//!
//! # Why not
//!
//! - *one large trait*: a store for a test should take under a hundred lines, and a capability that is missing should
//!   be missing at compile time.
//! - *`dyn Store`*: the methods return `impl Future`, so that nothing is boxed where the backend is known. Where it is
//!   chosen at run time there is [`dynamic::DynStore`].
//! - *default methods*: an implementer would inherit a behaviour without having seen it; conveniences live in the
//!   extension traits, where nobody can override them.
//!
//! # Example
//!
//! Code over any store:
//!
//! ```
//! use blob_traits::{BlobFormat, Hash, Result, Store};
//!
//! async fn keep(store: &impl Store, text: &'static str) -> Result<Hash> {
//!     let pinned = store.import_bytes(text.into(), BlobFormat::Raw).await?;
//!     store.set_tag("greeting".into(), Some(pinned.hash_and_format())).await?;
//!     assert_eq!(store.read_range(pinned.hash(), 0..5).await?, text[..5]);
//!     Ok(pinned.hash())
//! }
//! ```

mod blob_size;
pub mod blocking;
mod check;
mod collection;
mod demote;
pub mod dynamic;
mod entry;
mod error;
mod export;
mod export_collection;
mod export_name;
mod format;
mod hash;
mod hash_seq;
mod import;
mod keep;
mod list;
mod map;
mod map_ext;
mod map_mut_ext;
mod partial;
mod progress;
mod range_spec;
mod read_only;
mod reader;
mod scan;
mod store;
mod sweep;
mod sync;
mod tag;
mod temp_tag;
mod verified;

pub use bao_tree;
pub use range_collections;

pub use blob_size::{BaoBlobSize, EntryStatus};
pub use check::{CheckMode, ConsistencyCheck, ConsistencyCheckProgress, ReportLevel};
pub use collection::{Collection, CollectionError};
pub use demote::{Damage, Demote};
pub use entry::{BaoBatchWriter, FallibleProgressBatchWriter, MapEntry, MapEntryMut, ReadBlob};
pub use error::{Error, ErrorInfo, InvalidBatch, Result};
pub use export::{ExistingTarget, Export, ExportFormat, ExportMode, ExportOptions, ExportProgress};
pub use export_collection::ExportExt;
pub use export_name::{ExportNameError, ExportNameReason, check_export_names};
pub use format::{BlobFormat, HashAndFormat, ParseHashAndFormatError};
pub use hash::{Hash, ParseHashError};
pub use hash_seq::{HashSeq, HashSeqError, HashSeqIter, HashSeqStream, parse_hash_seq};
pub use import::{Import, ImportExt, ImportMode, ImportOptions, ImportProgress, ImportSource};
pub use keep::{Delete, Lifecycle, TempTags, WriteTags, WriteTagsExt};
pub use list::{BoxStream, ListBlobs, ReadTags, ReadTagsExt, collect};
pub use map::{BlobStatus, Map, MapMut};
pub use map_ext::MapExt;
pub use map_mut_ext::MapMutExt;
pub use partial::{BatchPlan, PartialError, PartialTree, PlannedLeaf, PlannedParent, StoredParent};
pub use progress::{Cancelled, Progress};
pub use range_spec::{RangeSpec, RangeSpecError};
pub use read_only::{ReadOnly, ReadOnlyEntry};
pub use reader::BlobReader;
pub use scan::{Batch, Scan, ScanBlobs, ScanOf, Scanned, scan_by_hash};
pub use store::{FullStore, ReadableStore, Store};
pub use sweep::{Sweep, SweepBatch, SweepRound, Swept};
pub use tag::{MAX_TAG_LEN, Tag, TagRange};
pub use temp_tag::{CoveredHashes, Refused, SweepEpoch, TempTag, TempTagRegistry};

/// The hashing of the tree, for backends that build or check it themselves.
pub mod tree {
    pub use crate::verified::{parent_cv, read_groups, subtree_cv};
}

/// All traits, for code over a concrete backend.
pub mod prelude {
    pub use crate::{
        BaoBatchWriter, BlobStatus, ConsistencyCheck, Delete, Demote, Export, ExportExt, FullStore, Import,
        ImportExt, Lifecycle, ListBlobs, Map, MapEntry, MapEntryMut, MapExt, MapMut, MapMutExt, ReadBlob,
        ReadTags, ReadTagsExt, ReadableStore, ScanBlobs, Store, Sweep, SweepRound, TempTags, WriteTags,
        WriteTagsExt,
    };
}

/// The chunk group: 16 chunks of 1 KiB. Smaller subtrees are hashed again when they are needed, larger ones are kept
/// in the outboard.
pub const BLOCK_SIZE: bao_tree::BlockSize = bao_tree::BlockSize::from_chunk_log(4);

/// The same by the name that it has in iroh-blobs.
pub const IROH_BLOCK_SIZE: bao_tree::BlockSize = BLOCK_SIZE;
