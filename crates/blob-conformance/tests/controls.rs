//! Stores with a known defect: the suite must catch each of them.

mod backends;

use std::process::ExitCode;

use blob_conformance::{Suite, controls::Controls};

fn main() -> ExitCode {
    let mem = backends::in_memory(Suite::new("mem", |home| backends::open_mem(&home)));
    let fs = Suite::new("fs", |home| backends::open_fs(home, |_| {}));
    Controls::new(&mem, &backends::on_disk(fs, |_| {})).main()
}
