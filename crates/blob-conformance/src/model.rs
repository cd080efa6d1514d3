//! Random histories against a plain reference.
//!
//! [`run_sequential`] drives a store and a reference model through random histories, one step after the other, and
//! compares what they show after each step. A history that fails is shrunk to a short one. [`run_concurrent`] lets
//! several tasks work on few blobs and tags, records what each call was told and when, and looks for an order of the
//! calls, one after the other, that explains it.
//!
//! Both follow from a seed. How many histories there are, and how long they get, is for the caller to say: few for
//! each change, many overnight.
//!
//! # Map
//!
//! - Sequential: `op` has the steps and how they come about, `universe` the blobs they are about, `world` a store
//!   beside its reference; `whole`, `writing`, `handles`, `tags`, `files` and `ending` apply the steps, each for one
//!   part of the interface. `partial` is the reference for a partial blob.
//! - Concurrent: `concurrent` makes programs, runs them and has `calls` record them, `spec` says what one call does to a store that
//!   does nothing else meanwhile, and `explain` searches.

mod calls;
mod concurrent;
mod ending;
mod explain;
mod files;
mod handles;
mod op;
mod partial;
mod sequential;
mod spec;
mod tags;
mod universe;
mod whole;
mod world;
mod writing;

use std::{
    fmt,
    path::{Path, PathBuf},
    pin::Pin,
};

pub use concurrent::run_concurrent;
pub use sequential::run_sequential;

/// A store that is being opened.
pub type Opening<S> = Pin<Box<dyn Future<Output = blob_traits::Result<S>> + Send>>;

/// What opens a store in a directory: creates it the first time, opens it again afterwards.
pub type Opener<S> = Box<dyn Fn(&Path) -> Opening<S> + Send + Sync>;

/// How histories are run.
pub struct Setup<S> {
    /// Opens a store.
    pub open: Opener<S>,
    /// Where each history makes a directory of its own, which it removes.
    pub dir: PathBuf,
    /// Whether a store can be opened again; otherwise histories leave that out.
    pub persistent: bool,
    /// Whether the store may use files of the user's in place; otherwise files that were imported or exported by
    /// reference are changed afterwards like others.
    pub references: bool,
    /// The sizes in bytes at which the store changes its ways.
    pub thresholds: Vec<u64>,
    /// What all chance follows from.
    pub seed: u64,
    /// How many histories are run.
    pub n_histories: u32,
    /// How many steps a history has, at most; for a concurrent one those of all tasks together.
    pub len: usize,
}

impl<S> fmt::Debug for Setup<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("dir", &self.dir)
            .field("seed", &self.seed)
            .field("n_histories", &self.n_histories)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// A history in which a store did not do what it promises. Prints with all of its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// How many steps it takes.
    pub n_steps: usize,
    text: String,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Disagreement {}

/// What was expected, and what was found instead.
type Check<T = ()> = Result<T, String>;

/// Compares.
fn expect<T: PartialEq + fmt::Debug>(what: &str, found: &T, expected: &T) -> Check {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what}: expected {}, found {}", brief(expected), brief(found)))
    }
}

/// Takes what must have worked.
fn done<T>(what: &str, result: blob_traits::Result<T>) -> Check<T> {
    result.map_err(|e| format!("{what}: expected success, found {} ({e})", e.code()))
}

/// Checks that a call was refused, with one of some codes.
fn refused<T: fmt::Debug>(what: &str, result: blob_traits::Result<T>, codes: &[&str]) -> Check {
    match result {
        Err(e) if codes.contains(&e.code()) => Ok(()),
        Err(e) => Err(format!("{what}: expected {}, found {} ({e})", codes.join(" or "), e.code())),
        Ok(found) => Err(format!("{what}: expected {}, found {}", codes.join(" or "), brief(&found))),
    }
}

/// Prints without filling the screen with bytes.
fn brief(what: &impl fmt::Debug) -> String {
    let text = format!("{what:?}");
    match text.char_indices().nth(400) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
