//! What keeps the process alive and every call finite where the seed does not.

use std::{io, time::Duration};

use futures_lite::future::or;
use futures_timer::Delay;

/// How long any call may take. When the seed's actor has ended, calls that were queued wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6);

/// How many bytes a stream may have, and how far into the memory of a memory store an item may lie. The seed takes as
/// much as comes, until the process is killed.
pub(crate) const MAX_IN_MEMORY: u64 = 1 << 30;

/// Gives up on a call that hangs, by a clock that a test's runtime cannot stop or advance.
pub(crate) async fn within_patience<T>(call: impl Future<Output = T>) -> io::Result<T> {
    let hung = async {
        Delay::new(PATIENCE).await;
        Err(hung())
    };
    or(async { Ok(call.await) }, hung).await
}

pub(crate) fn hung() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the seed does not answer")
}

pub(crate) fn too_much() -> io::Error {
    io::Error::other("the seed has no limit; the adapter ends this before memory is exhausted")
}
