//! The `blob` command.
fn main() {}
