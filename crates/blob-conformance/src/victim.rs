//! Cases in which a process is killed: the case runs in both processes and plays its part in each.
//!
//! ```text
//! if let Some(victim) = trial.victim() {
//!     let store = trial.open(&victim.home()).await?;
//!     // works, and acknowledges what is done
//! }
//! let acknowledged = trial.run_and_kill(&home, &Kill { .. })?;
//! ```

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Failure, Home, Trial};

const VICTIM: &str = "BLOB_CONFORMANCE_VICTIM";
const ROUND: &str = "BLOB_CONFORMANCE_VICTIM_ROUND";
const MARK: &str = "ACK ";

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kill {
    /// Handed to the process, so that it does something else each time.
    pub round: u64,
    /// After how many acknowledgements.
    pub after: usize,
    /// And how much later.
    pub delay: Duration,
}

/// The process that is killed, as seen from inside.
#[derive(Debug)]
pub struct Victim {
    dir: PathBuf,
    /// Which round it is.
    pub round: u64,
}

impl Victim {
    /// The home of the store to work with.
    pub fn home(&self) -> Home {
        Home::new(&self.dir)
    }

    /// Says that something is done.
    ///
    /// # Errors
    /// When the other process has ended: this one should, too.
    pub fn acknowledge(&self, what: &str) -> std::io::Result<()> {
        // In one write, which a kill does not cut.
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(format!("\n{MARK}{what}\n").as_bytes())?;
        stdout.flush()
    }
}

impl<S: Clone> Trial<S> {
    /// The part of the process that is to be killed, when this is it.
    pub fn victim(&self) -> Option<Victim> {
        let dir = env::var_os(VICTIM)?.into();
        let round = env::var(ROUND).ok()?.parse().ok()?;
        Some(Victim { dir, round })
    }

    /// Runs this case in another process, as its [`Victim`], and kills that one as `kill -9` does. Returns what it had
    /// acknowledged; it may have ended by itself.
    ///
    /// # Errors
    /// Those of the system; a skip where the store is a deliberately broken one, which another process does not know.
    pub fn run_and_kill(&self, home: &Home, kill: &Kill) -> Result<Vec<String>, Failure> {
        self.not_in_a_control()?;
        let mut child = Command::new(env::current_exe()?)
            .args(["--exact", &self.name, "--nocapture"])
            .env(VICTIM, home.dir())
            .env(ROUND, kill.round.to_string())
            // What it leaves behind goes with this trial.
            .env("TMPDIR", self.dir())
            .env_remove("BLOB_CONFORMANCE_REPORT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut acknowledged = Vec::new();
        for line in BufReader::new(child.stdout.take().ok_or("no standard output")?).lines() {
            let Ok(line) = line else { break };
            let Some(what) = line.strip_prefix(MARK) else { continue };
            acknowledged.push(what.to_owned());
            if acknowledged.len() == kill.after {
                wait(kill.delay);
                child.kill()?;
            }
        }
        child.wait()?;
        if acknowledged.len() < kill.after {
            return Err(format!("the other process ended by itself after {acknowledged:?}").into());
        }
        Ok(acknowledged)
    }
}

/// More precise than a sleep.
fn wait(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}
