//! The store in memory from outside: one module for each verb.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod sample;

mod delete;
mod export;
mod import;
mod import_file;
mod lifecycle;
mod list;
mod partial;
mod partial_claims;
mod partial_hostile;
mod progress;
mod read;
mod tags;
