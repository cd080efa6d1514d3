//! The store on disk, in the configurations that differ most in what they do with a blob.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Harness, Suite};
use blob_fs::{CompactOptions, Durability, FsStore, Options};
use blob_traits::Result;

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
    let suite = Suite::new(name, move |home| backends::open_fs(home, change));
    backends::on_disk(suite, change).compacts(compacted)
}

async fn compacted(store: FsStore) -> Result<()> {
    store.compact(CompactOptions::default()).await.map(drop)
}
