//! Interop: the tests of our formats beside those of iroh-blobs, and the tidiness of the workspace they are in.

use crate::sh::{self, Result};

pub(crate) fn run() -> Result<()> {
    sh::run(&mut sh::cargo_in_peers("peers/Cargo.toml", ["fmt", "--all", "--check"]))?;
    sh::run(&mut sh::cargo_in_peers("peers/interop/Cargo.toml", ["test", "--locked"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked"];
    sh::run(sh::cargo_in_peers("peers/Cargo.toml", clippy).args(["--", "-D", "warnings"]))
}
