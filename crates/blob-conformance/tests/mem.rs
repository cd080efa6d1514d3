//! The store in memory.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Harness, Suite};

fn main() -> ExitCode {
    let suite = backends::in_memory(Suite::new("mem", backends::open_mem));
    Harness::new().manifest(backends::manifest("mem")).suite(suite).main()
}
