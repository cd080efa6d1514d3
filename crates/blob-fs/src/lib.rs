//! A verified blob store on disk: an append-only log with group commit, an index derived from it, and files for what
//! is large.
//!
//! What was acknowledged is durable. Opening costs the end of the log, not the store. `docs/engine.md` has the rules,
//! which the code cites by number (E1, E2, ...), and `docs/on-disk-format.md` the bytes.
//!
//! # Map
//!
//! - [`FsStore`] is opened with [`Options`] and has all capabilities of [`blob_traits`]; [`Recovery`] says what opening
//!   found.
//! - `format` has the bytes of the log; `layout` the names of files; [`vfs`] is the seam to the operating system.
//! - `engine` decides and writes in groups, `state` is what its lock guards, `log` appends, `committer` brings the log
//!   into the `index`, `recover` does so on opening; `reserve` has room for removals on a full disk.
//! - `entry`, `reader`, `outboard` read; `import`, `partial`, `reference`, `export`, `demote`, `tags`, `delete`, `sweep`, `list`,
//!   `scan` are the verbs; every act that makes something reachable goes through `pins`.
//!
//! # Example
//!
//! ```
//! use blob_fs::{FsStore, Options};
//! use blob_traits::{BlobFormat, Result, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! # let dir = tempfile::tempdir()?;
//! let store = FsStore::open(Options::new(dir.path().join("store"))).await?;
//! let pinned = store.import_bytes("hello".into(), BlobFormat::Raw).await?;
//! store.set_tag("greeting".into(), Some(pinned.hash_and_format())).await?;
//! assert_eq!(store.read_verified(pinned.hash(), 1..4).await?, "ell");
//! store.shutdown().await
//! # }
//! ```

mod by_hash;
mod check;
mod committer;
mod compact;
mod delete;
mod demote;
mod engine;
mod entry;
mod export;
mod failure;
mod files;
mod format;
mod handle;
mod hasher;
mod import;
mod index;
mod issued;
mod layout;
mod list;
mod lock;
mod log;
mod map;
mod op;
mod options;
mod outboard;
mod overlay;
mod partial;
mod pins;
mod quarantine;
mod reader;
mod recover;
mod reference;
mod reserve;
mod row;
mod scan;
mod segments;
mod state;
mod store;
mod sweep;
mod tags;
pub mod vfs;

pub use compact::{CompactOptions, CompactReport, Space};
pub use entry::Entry;
pub use options::{Compaction, Create, Durability, Options, Rebuild};
pub use outboard::FsOutboard;
pub use partial::FsBatchWriter;
pub use quarantine::Quarantined;
pub use reader::FsReader;
pub use recover::{DamagedRange, Loss, Recovery};
pub use store::FsStore;
pub use sweep::FsRound;
