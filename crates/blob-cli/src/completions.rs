//! `blob completions`: scripts for shells.

use std::io;

use clap::Command;
use clap_complete::Shell;

use crate::exit::Exit;

/// Prints the script.
pub(crate) fn run(shell: Shell, command: &mut Command) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, command, "blob", &mut script);
    match io::Write::write_all(&mut io::stdout(), &script) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Error,
        _ => Exit::Ok,
    }
}
