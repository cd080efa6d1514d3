//! A verified blob store that lives in memory and ends with its process.
//!
//! For tests, for caches, and as the plainest example of a backend: it has every capability of [`blob_traits`], and
//! nothing but maps behind one lock. The bytes of a blob are held once, and readers share them. Partial blobs take
//! memory for what was written, whatever size somebody claims for them.
//!
//! # Map
//!
//! [`MemStore`] is the store, [`MemOptions`] its limits, [`MemEntry`] the handle to a blob. Inside, a verb has a file
//! of its name: `import`, `export`, `list`, `tags`, `delete`, `sweep`, `scan`, `demote`, `check`, `lifecycle`; `partial` writes blobs piece by piece, and
//! everything that makes a blob reachable goes through `pins`.
//!
//! # What is kept
//!
//! The empty blob is always there; it is listed once somebody has imported it. Files are copied, also with
//! [`ImportMode::TryReference`](blob_traits::ImportMode::TryReference). After a shutdown nothing is left, except for
//! what open readers hold.
//!
//! # Example
//!
//! ```
//! use blob_mem::MemStore;
//! use blob_traits::{BlobFormat, Result, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<()> {
//! let store = MemStore::new();
//! let pinned = store.import_bytes("hello".into(), BlobFormat::Raw).await?;
//! store.set_tag("greeting".into(), Some(pinned.hash_and_format())).await?;
//! assert_eq!(store.read_range(pinned.hash(), 1..3).await?, "el");
//! # Ok(())
//! # }
//! ```

mod check;
mod delete;
mod demote;
mod entry;
mod export;
mod import;
mod lifecycle;
mod list;
mod partial;
mod pins;
mod scan;
mod store;
mod sweep;
mod tags;

pub use entry::{MemEntry, MemOutboard, MemReader};
pub use partial::MemBatchWriter;
pub use store::{MemOptions, MemStore};
pub use sweep::MemRound;
