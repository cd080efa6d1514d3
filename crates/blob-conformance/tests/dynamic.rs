//! Stores of one erased type: what it forwards behaves as the store itself.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Harness, Suite};
use blob_traits::dynamic::DynStore;

fn main() -> ExitCode {
    let mem =
        Suite::new("dyn-mem", |home| async move { Ok(DynStore::new(backends::open_mem(&home).await?)) });
    let fs =
        Suite::new("dyn-fs", |home| async move { Ok(DynStore::new(backends::open_fs(home, |_| {}).await?)) });
    Harness::new()
        .manifest(backends::manifest("dynamic"))
        .suite(backends::in_memory(mem))
        .suite(backends::on_disk(fs, |_| {}))
        .main()
}
