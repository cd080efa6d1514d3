//! The stores of iroh-blobs 0.35 under the traits of `blob-traits`, so that the conformance suite can be run on them.
//!
//! iroh-blobs 0.35 is what this project grew from, its *seed*. [`Seed`] wraps its memory store and its file store. It
//! translates; it does not repair or hide what they do. A case that fails on it is to be a fault of the seed, or a
//! promise that the seed never made, and not a fault of this adapter. For that to be checked, here is all that is
//! not a plain translation.
//!
//! # What the adapter adds
//!
//! | ours | what the seed has | what the adapter does |
//! | --- | --- | --- |
//! | `present_ranges` | nothing | all chunks of a complete blob; of a partial one those that bao-tree's `valid_ranges` finds in its data and outboard, which are whole chunk groups |
//! | `insert_complete` refuses a blob with holes | promotes what it is given | nothing with [`Promotion::AsAsked`]; with [`Promotion::WhenValid`] it hashes first, and refuses with `Incomplete` |
//! | import and tag in one step | two calls | `import`, then `set_tag` |
//! | progress of an import from memory | none | none |
//! | an export's `Start` and `Done` | a callback with offsets | sends both; `stable` where a reference was asked for, no offset came, and the blob is not inlined: that the seed moves; `Start` of such an export comes when this is known |
//! | `ExistingTarget::Refuse` | nothing | looks before the export, with the race that this has; for `Replace` nothing |
//! | `entry_status_sync` | the same, may block for ever | calls it on a thread |
//! | `TempTag` counted by our registry | its own `TempTag` | holds one of the seed's for each content that ours hold; lets go of it before the next call to the seed, the first that could notice; `temp_tags` is the seed's answer |
//! | `set_tag` with `None` | `delete_tag` | calls it |
//! | any range of tags | from (included), to (excluded) | bounds that are the other way round become their successors; an empty range becomes the one from the empty tag to itself |
//! | `shutdown` returns a result | returns nothing | succeeds |
//! | `scan` | nothing | one blob after the other, by hash |
//! | `consistency_check` | the same | translates its events |
//! | `was_demoted` | nothing | `false`: it cannot demote |
//! | size limits | none | none |
//! | listings in ascending order | an iterator | a stream in the iterator's order |
//!
//! Errors are translated by their kind and by what the call was about:
//!
//! | the seed's | ours |
//! | --- | --- |
//! | `NotFound`, of the seed itself | `NotFound` for a blob, `TagNotFound` for `rename_tag` |
//! | `NotFound`, `PermissionDenied`, `IsADirectory`, `AlreadyExists` about a file | `FileNotFound`, `PermissionDenied`, `IsADirectory`, `TargetExists` |
//! | `InvalidInput` about a relative path | `RelativePath` |
//! | `InvalidInput` from an import of another path (a directory or a missing file: it does not tell which) | `NotAFile` |
//! | any from an import whose progress event was refused | `Cancelled` |
//! | `Other` after a shutdown: its actor is gone | `Closed` |
//! | the database is open already | `Locked` |
//! | a full disk | `NoSpace` |
//! | all else | `Io` |
//!
//! So that a suite comes to its end:
//!
//! - Every call to the seed ends after 6 seconds with `TimedOut`. When the file store's actor has ended, on shutdown or
//!   by an error, calls in its queue are never answered; a call right after a shutdown, a second shutdown for example,
//!   may find itself there.
//! - A stream of more than 1 GiB is ended. A leaf that lies beyond 1 GiB in the memory store, and a parent that lies
//!   beyond 1 GiB in an outboard, are refused. The seed would allocate until the process is killed.
//! - Progress events that the seed sends in a blocking way block the thread, as they do with its own channel; ours would
//!   panic where the memory store does that in asynchronous code.
//!
//! # Threads
//!
//! Readers, outboards and writers of the seed have futures that are not `Send`, and borrow their entry. Each is opened on
//! a thread of its own, inside the caller's runtime, and stays there until it is dropped: its state between calls is the
//! seed's, a dropped call is dropped there, a panic comes out of the call that caused it, and dropping returns when
//! the seed's object is gone. The file store uses the runtime's blocking pool in them; with a pool of one thread, an
//! extension method that occupies this thread waits for itself.
//!
//! # Example
//!
//! ```
//! use blob_seed::{Promotion, Seed};
//! use blob_traits::{BlobFormat, Store};
//!
//! async fn hello(store: impl Store) -> blob_traits::Result<()> {
//!     let pin = store.import_bytes("hello".into(), BlobFormat::Raw).await?;
//!     assert_eq!(store.read_to_bytes(pin.hash()).await?, "hello");
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> blob_traits::Result<()> {
//! hello(Seed::memory(Promotion::AsAsked)).await
//! # }
//! ```

mod store;

mod check;
mod entry;
mod export;
mod import;
mod lifecycle;
mod list;
mod map;
mod outboard;
mod reader;
mod tags;
mod writer;

mod convert;
mod failure;
mod limit;
mod pins;
mod progress;
mod served;

pub use entry::SeedEntry;
pub use iroh_blobs::store::{fs, fs::InlineOptions, mem};
pub use outboard::SeedOutboard;
pub use reader::SeedReader;
pub use store::{Promotion, Seed};
pub use writer::SeedWriter;
