//! The `blob` command as a person or a script meets it.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests, which clippy.toml does not see"
)]

mod add_and_export;
mod bad_input;
mod bad_stores;
mod bao;
mod check;
mod export_api;
mod gc;
mod home;
mod hostile;
mod json;
mod list;
mod processes;
mod read;
mod tags;
mod validate;
mod why_and_du;
