//! The store on disk, in the configurations that differ most in what they do with a blob.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Harness, Suite};
use blob_fs::{Durability, FsStore, Options};

fn main() -> ExitCode {
    Harness::new()
        .manifest(backends::manifest("fs"))
        .suite(suite("fs", |_| {}))
        .suite(suite("fs-inline-all", |options| options.inline_max = 8 << 20))
        .suite(suite("fs-inline-none", |options| options.inline_max = 0))
        .suite(suite("fs-relaxed", |options| options.durability = Durability::Relaxed))
        .main()
}

fn suite(name: &str, change: fn(&mut Options)) -> Suite<FsStore> {
    backends::on_disk(Suite::new(name, move |home| backends::open_fs(home, change)), change)
}
