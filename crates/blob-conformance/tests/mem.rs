//! The store in memory.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Harness, Suite};

fn main() -> ExitCode {
    let suite = backends::in_memory(Suite::new("mem", |home| backends::open_mem(&home)));
    Harness::new().manifest(backends::manifest("mem")).suite(suite).main()
}
