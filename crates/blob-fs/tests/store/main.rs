//! The store on disk from outside: one module for each verb.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod drive;
mod home;
mod sample;

mod get;
mod import;
mod import_file;
