//! How fast is read: the clock that all reads of a run share.

use std::{
    num::NonZeroU64,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bao_tree::TreeNode;
use blob_traits::{Result, blocking::Watch};
use bytes::Bytes;
use futures_lite::future::{block_on, poll_fn};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::pieces::{Pair, Pieces};

/// So little is not waited for: sleeping is not as exact as that.
const SLACK: Duration = Duration::from_millis(10);
/// How often somebody who waits looks whether anybody waits for him.
const STEP: Duration = Duration::from_millis(50);
/// The bytes of a pair.
const PAIR: u64 = 64;

/// Admits bytes at a rate.
#[derive(Debug)]
pub(crate) struct Pace {
    rate: Option<NonZeroU64>,
    /// When the next bytes may be read.
    next: Mutex<Instant>,
    n_admitted: AtomicU64,
}

impl Pace {
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Self {
        Self { rate, next: Mutex::new(Instant::now()), n_admitted: AtomicU64::new(0) }
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.rate.is_some()
    }

    /// How many bytes have been admitted.
    pub(crate) fn n_admitted(&self) -> u64 {
        self.n_admitted.load(Ordering::Relaxed)
    }

    /// Admits so many bytes, and says when they may be read.
    fn admit(&self, n_bytes: u64) -> Option<Instant> {
        self.n_admitted.fetch_add(n_bytes, Ordering::Relaxed);
        let rate = self.rate?;
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // A slow stretch earns nothing for later.
        let due = (*next).max(Instant::now());
        *next = due + Duration::from_nanos(nanos(n_bytes, rate));
        Some(due)
    }

    /// Waits until so many bytes may be read.
    pub(crate) async fn wait(&self, n_bytes: u64) {
        if let Some(due) = self.admit(n_bytes) {
            sleep_until(due).await;
        }
    }

    /// The same on a thread that may block.
    ///
    /// # Errors
    /// [`Error::Cancelled`](blob_traits::Error::Cancelled) once nobody waits any more.
    fn wait_blocking(&self, n_bytes: u64, watch: &Watch) -> Result<()> {
        let Some(due) = self.admit(n_bytes) else { return Ok(()) };
        loop {
            let now = Instant::now();
            if due <= now + SLACK {
                return Ok(());
            }
            watch.check()?;
            block_on(sleep_until(due.min(now + STEP)));
        }
    }

    /// Takes note of bytes that were read already. Whoever reads more waits for what is returned.
    pub(crate) fn owe(&self, n_bytes: u64) -> Pause {
        let due = self.admit(n_bytes).filter(|due| *due > Instant::now() + SLACK);
        Pause(due.map(|due| Box::pin(sleep_until(due))))
    }
}

/// A wait, where there is one.
#[derive(Debug, Default)]
pub(crate) struct Pause(Option<Pin<Box<Sleep>>>);

impl Pause {
    /// Whether there is something to wait for.
    pub(crate) fn is_due(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) async fn wait(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self.0.as_mut().map(|sleep| sleep.as_mut().poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(())) | None => {
                self.0 = None;
                Poll::Ready(())
            }
        }
    }
}

fn nanos(n_bytes: u64, rate: NonZeroU64) -> u64 {
    let nanos = u128::from(n_bytes) * 1_000_000_000 / u128::from(rate.get());
    u64::try_from(nanos).unwrap_or(u64::MAX >> 1)
}

/// Pieces that are read no faster than that.
pub(crate) struct Paced<'a> {
    pub(crate) pieces: &'a mut dyn Pieces,
    pub(crate) pace: &'a Pace,
    pub(crate) watch: &'a Watch,
}

impl Pieces for Paced<'_> {
    fn pair(&mut self, parent: TreeNode) -> Result<Option<Pair>> {
        self.pace.wait_blocking(PAIR, self.watch)?;
        self.pieces.pair(parent)
    }

    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        self.pace.wait_blocking(len as u64, self.watch)?;
        self.pieces.group(offset, len)
    }

    fn stored_len(&mut self) -> Result<Option<u64>> {
        self.pieces.stored_len()
    }
}
