//! The store on disk from outside: one module for each verb.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod altered;
mod drive;
mod home;
mod sample;

mod cancel;
mod claims;
mod delete;
mod export;
mod get;
mod hostile;
mod import;
mod import_file;
mod layout;
mod lifecycle;
mod listing;
mod partial;
mod progress;
mod queued;
mod race;
mod reference;
mod sweep;
mod tags;
