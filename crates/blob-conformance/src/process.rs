//! What needs a process of its own: a second owner of a store, a limit on open files, a kill.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
};

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::{Failure, Home, Trial, suite::Opener};

const HOLD: &str = "BLOB_CONFORMANCE_HOLD";
const HOLD_DIR: &str = "BLOB_CONFORMANCE_HOLD_DIR";
const ALONE: &str = "BLOB_CONFORMANCE_ALONE";

/// Opens a store and keeps it until standard input ends; what it says is printed.
pub(crate) type Holder = Box<dyn Fn(Home) -> ExitCode>;

pub(crate) fn holder<S: 'static>(open: Opener<S>) -> Holder {
    Box::new(move |home| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let Ok(runtime) = runtime else { return ExitCode::FAILURE };
        match runtime.block_on(open(home)) {
            Ok(_store) => {
                println!("open");
                // Ends when the other process ends, at the latest.
                let _ = std::io::stdin().lines().next();
                ExitCode::SUCCESS
            }
            Err(e) => {
                println!("{e}");
                ExitCode::FAILURE
            }
        }
    })
}

/// Does what a case in another process has started this one for.
pub(crate) fn act_as_holder(holders: &[(String, Holder)]) -> Option<ExitCode> {
    let (backend, dir) = (env::var(HOLD).ok()?, env::var_os(HOLD_DIR)?);
    let holder = holders.iter().find_map(|(name, holder)| (*name == backend).then_some(holder));
    Some(holder.map_or(ExitCode::FAILURE, |hold| hold(Home::new(dir))))
}

/// A store that another process has opened, or tried to.
#[derive(Debug)]
pub struct OtherProcess {
    child: Child,
    said: String,
}

impl OtherProcess {
    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has opened the store.
    pub fn is_open(&self) -> bool {
        self.said == "open"
    }

    /// Why it could not open the store.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Ends it as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// Those of the system.
    pub fn kill(mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What limits a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessLimit {
    /// Nothing does; the case does what other trials in the process would notice.
    Nothing,
    /// How many files it may have open.
    OpenFiles(u64),
    /// How many bytes of memory it may have for itself, touched or not. What asks for more ends the process.
    Memory(u64),
}

impl ProcessLimit {
    fn set(self) -> rustix::io::Result<()> {
        let (resource, n) = match self {
            Self::Nothing => return Ok(()),
            Self::OpenFiles(n) => (Resource::Nofile, n),
            Self::Memory(n) => (Resource::Data, n),
        };
        setrlimit(resource, Rlimit { current: Some(n), maximum: Some(n) })
    }
}

impl<S> Trial<S> {
    /// Opens the store of a directory in another process, and waits until it has, or has failed to.
    ///
    /// # Errors
    /// Those of the system; a skip where the store is a deliberately broken one, which another process does not know.
    pub fn open_elsewhere(&self, dir: &Path) -> Result<OtherProcess, Failure> {
        self.not_in_a_control()?;
        let mut child = Command::new(env::current_exe()?)
            .env(HOLD, &self.backend.name)
            .env(HOLD_DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let mut said = String::new();
        BufReader::new(stdout).read_line(&mut said)?;
        Ok(OtherProcess { child, said: said.trim_end().to_owned() })
    }

    /// Whether this process runs this trial alone, under a limit. Otherwise it has been run so in another process, and
    /// has passed there: the case is over.
    ///
    /// # Errors
    /// What the other process has said.
    pub fn is_alone(&self, limit: ProcessLimit) -> Result<bool, Failure> {
        self.not_in_a_control()?;
        if env::var_os(ALONE).is_some() {
            limit.set()?;
            return Ok(true);
        }
        let output = Command::new(env::current_exe()?)
            .args(["--exact", &self.name, "--nocapture"])
            .env(ALONE, "1")
            .env_remove("BLOB_CONFORMANCE_REPORT")
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && said.contains("1 passed") {
            return Ok(false);
        }
        Err(format!("in a process of its own: {said}{}", String::from_utf8_lossy(&output.stderr)).into())
    }

    pub(crate) fn not_in_a_control(&self) -> Result<(), Failure> {
        // What was printed so far must not be printed by the other process again.
        std::io::stdout().flush()?;
        if self.is_control {
            return Err(Failure::skipped("another process does not know of the fault"));
        }
        Ok(())
    }
}
