//! Proves that the blobs of a store are what their hashes say, finds every damaged range, and repairs what can be repaired.
//!
//! Works over any store that has the capabilities of [`ValidateStore`] and [`RepairStore`]; a backend needs no code of its own.
//! What only a backend knows of, its files and records, is checked by
//! [`ConsistencyCheck`](blob_traits::ConsistencyCheck).
//!
//! # Map
//!
//! - [`validate`](validate()) looks for damage, [`repair`](repair()) looks for it and mends it; [`ValidateExt`] and [`RepairExt`]
//!   are the same as methods.
//! - [`ValidateOptions`] say how much is looked at and how fast, [`RepairOptions`] where lost ranges may be found: a [`Source`] is
//!   another store, a file, or whoever sends verified streams.
//! - [`ValidateProgress`] and [`RepairProgress`] are what a run reports on its way, [`ValidateReport`] and [`RepairReport`] what it
//!   returns.
//! - `inspect` tells what of a blob is sound, `subtree` is the shape of the tree, `pieces` and `source` where bytes come from, `check`
//!   and `validate` do it for one blob and for all, `fill` and `repair` mend.
//!
//! # What is lost, and what is not
//!
//! A blob is proved from its root down, in chunk groups of 16 KiB. Where a pair of its tree is damaged it can mostly be told
//! what it was: the hash of each of its sides is stored in the pair below once more, in other words, and follows from the bytes
//! below. So damage to the tree alone costs no data, and damage to the data costs the groups that it hits. More is lost only
//! where the same side of a pair is damaged in all places that tell it: in the pair, in the one below it if there is one, and in the
//! bytes. Then nothing below that pair can be proved.
//!
//! # Example
//!
//! ```
//! use blob_traits::{MapMut, Progress, Result, Store, ScanBlobs, Demote};
//! use blob_validate::{RepairExt, RepairOptions, Source, ValidateExt, ValidateOptions};
//!
//! async fn scrub(store: impl Store + ScanBlobs + Demote, copy: impl Store) -> Result<()> {
//!     let report = store.validate(ValidateOptions::default(), Progress::none()).await?;
//!     for blob in &report.damaged {
//!         println!("{}: {blob}", blob.hash);
//!     }
//!     if !report.is_clean() {
//!         let mut options = RepairOptions::default();
//!         options.sources.push(Source::store("the copy", copy));
//!         let repaired = store.repair(options, Progress::none()).await?;
//!         println!("fetched {} bytes", repaired.n_fetched_bytes());
//!     }
//!     Ok(())
//! }
//! ```

mod check;
mod event;
mod fill;
mod inspect;
mod limits;
mod options;
mod pace;
mod pieces;
mod repair;
mod report;
mod source;
mod store;
mod subtree;
mod validate;

pub use event::{RepairProgress, ValidateProgress};
pub use options::{Budget, RepairOptions, Subset, ValidateOptions};
pub use repair::{RepairExt, repair};
pub use report::{
    DamagedBlob, Ended, FailedBlob, Fetched, Outcome, RepairReport, RepairedBlob, ValidateReport,
};
pub use source::{BaoStream, Source};
pub use store::{RepairStore, ValidateStore};
pub use validate::{ValidateExt, validate};
