//! The store in memory.

use std::process::ExitCode;

use blob_conformance::{Capability, Harness, Suite};
use blob_mem::{MemOptions, MemStore};

fn main() -> ExitCode {
    let suite = Suite::new("mem", |home| async move {
        let max_blob_size = home.max_blob_size().unwrap_or(1 << 48);
        Ok(MemStore::with_options(MemOptions { max_blob_size }))
    });
    let suite = suite
        .lacks(Capability::Persistence, "memory does not outlive its process")
        .lacks(Capability::Durability, "memory does not outlive its process")
        .lacks(Capability::Lock, "every open makes a store of its own")
        .lacks(Capability::Files, "it has no files")
        .lacks(Capability::References, "it copies every file")
        .lacks(Capability::MovesOut, "it keeps what it exports")
        .lacks(Capability::Faults, "it does no input or output of its own");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mem.manifest");
    Harness::new().manifest(manifest).suite(suite).main()
}
