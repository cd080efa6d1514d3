//! The conformance suite of the blob store: one set of cases that every backend is held to.
//!
//! A backend is registered in a test target with `harness = false`:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use blob_conformance::{Capability, Harness, Suite};
//! # use blob_mem::{MemOptions, MemStore};
//!
//! fn main() -> ExitCode {
//!     let suite = Suite::new("mem", |home| async move {
//!         let max_blob_size = home.max_blob_size().unwrap_or(1 << 48);
//!         Ok(MemStore::with_options(MemOptions { max_blob_size }))
//!     })
//!     .lacks(Capability::Persistence, "memory does not outlive its process");
//!     Harness::new().manifest("tests/mem.manifest").suite(suite).main()
//! }
//! ```
//!
//! `docs/adding-a-backend.md` walks through it.
//!
//! # Map
//!
//! - [`Harness`] is the program; a [`Suite`] is one configuration of a backend in it, opened in a [`Home`].
//! - [`groups`] has the cases. Each is a function over the traits that it needs, and gets a [`Trial`] and an empty store.
//! - [`model`] drives stores through random histories and compares them with a plain reference.
//! - [`controls`] has stores with known defects, each of which some case must catch.
//! - [`drop_at_every_await`] cancels an operation everywhere.
//! - [`Sample`] makes blobs and takes their verified streams apart, with code that is not the backend's; [`Dice`] makes
//!   numbers that depend on the seed alone.
//!
//! # How a case is run
//!
//! Once for each configuration, on a current-thread and on a multi-thread runtime of its own, with an empty store in a
//! directory of its own. Afterwards the store is closed, and the trial fails if a task still runs, a thread has panicked, a
//! file below its directory is still open, a temporary tag is held, or [`leftovers`](Suite::leftovers) finds something.

mod audit;
mod cancel;
mod case;
pub mod controls;
mod copied;
mod dice;
pub mod groups;
mod harm;
mod harmed;
mod harness;
mod home;
mod interrupted;
mod ledger;
mod manifest;
pub mod model;
mod panics;
mod process;
mod property;
mod report;
mod run;
mod sample;
mod suite;
mod trial;
mod victim;

pub use cancel::{drop_at_every_await, eventually};
pub use case::{Capability, Case, CaseFuture, Failure, Group, Handle, Outcome};
pub use dice::Dice;
pub use harness::Harness;
pub use home::{Fault, Faults, Home, Lasts, Operations};
pub use process::{OtherProcess, ProcessLimit};
pub use sample::{GROUP, Sample, chunks, error_of, groups as group_ranges, write_items};
pub use suite::Suite;
pub use trial::Trial;
pub use victim::{Kill, Victim};
