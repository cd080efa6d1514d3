//! Deciding, and having what was decided written (E19-E23).

use std::{sync::MutexGuard, time::Duration};

use blob_traits::{Error, Result};
use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Decision, Engine, Keys, QUEUE_KIB};
use crate::{
    failure::Failure,
    op::{Op, Outcome},
    reserve::refusal,
    state::{Looked, State},
};

/// A caller leads its own group only when a sync is faster than this (E22).
const LEAD_BELOW: Duration = Duration::from_micros(200);
/// And when the group is smaller than this.
const LEAD_BYTES: u64 = 256 << 10;
/// Who has something decided (E22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// It must not hold its thread up for long.
    Task,
    /// It may block.
    Thread,
}

enum Waiting {
    Done(Outcome),
    For(oneshot::Receiver<Outcome>),
}

impl Engine {
    /// Decides something under the state lock and, where that needs records, has them written; returns when they are
    /// durable (in Relaxed: written). Dropping the future leaves what was decided in the queue (E23).
    pub(crate) async fn transact<T>(
        &self,
        keys: &Keys,
        weight: u64,
        decide: impl FnOnce(&mut State, &Looked) -> Result<Decision<T>>,
    ) -> Result<T> {
        self.transact_as(Caller::Task, keys, None, weight, decide).await
    }

    async fn transact_as<T>(
        &self,
        caller: Caller,
        keys: &Keys,
        mut looked_up: Option<Looked>,
        weight: u64,
        decide: impl FnOnce(&mut State, &Looked) -> Result<Decision<T>>,
    ) -> Result<T> {
        let share = self.admit(weight).await?;
        let mut failures_before = None;
        let (value, waiting) = loop {
            let looked = looked_up.take().map_or_else(|| self.look_up(keys), Ok)?;
            let room = self.overlay_room.notified();
            {
                let mut state = self.state();
                state.check_writable()?;
                if looked.generation != state.visible.generation {
                    continue;
                }
                if state.visible.rows() < self.options.overlay_rows.saturating_mul(2) {
                    break self.decided(caller, state, &looked, share, decide)?;
                }
                // Who waits in vain for the commit that makes room learns why (E35).
                if *failures_before.get_or_insert(state.index_failures) < state.index_failures {
                    return Err(state.index_error());
                }
                state.commit_wanted = true;
            }
            self.committer_wake.notify_one();
            room.await;
        };
        match waiting {
            Waiting::Done(outcome) => outcome,
            // The sender goes without a word only with the whole engine.
            Waiting::For(receiver) => receiver.await.map_err(|_| Error::Closed)?,
        }
        .map_err(|failure| failure.to_error())?;
        Ok(value)
    }

    /// Decides something under the state lock that needs no record.
    pub(crate) fn decide_unrecorded<T>(
        &self,
        keys: &Keys,
        decide: impl FnOnce(&mut State, &Looked) -> T,
    ) -> Result<T> {
        loop {
            let looked = self.look_up(keys)?;
            let mut state = self.state();
            state.check_readable()?;
            if looked.generation == state.visible.generation {
                return Ok(decide(&mut state, &looked));
            }
        }
    }

    /// [`transact`](Self::transact) for threads that may block.
    pub(crate) fn transact_blocking<T>(
        &self,
        keys: &Keys,
        weight: u64,
        decide: impl FnOnce(&mut State, &Looked) -> Result<Decision<T>>,
    ) -> Result<T> {
        futures_lite::future::block_on(self.transact_as(Caller::Thread, keys, None, weight, decide))
    }

    /// [`transact_blocking`](Self::transact_blocking) for who has looked the keys up before.
    pub(crate) fn transact_looked<T>(
        &self,
        keys: &Keys,
        looked: Looked,
        weight: u64,
        decide: impl FnOnce(&mut State, &Looked) -> Result<Decision<T>>,
    ) -> Result<T> {
        futures_lite::future::block_on(self.transact_as(Caller::Thread, keys, Some(looked), weight, decide))
    }

    /// Waits for room in the queue (E28).
    async fn admit(&self, weight: u64) -> Result<OwnedSemaphorePermit> {
        let kib = u32::try_from(weight / 1024).unwrap_or(QUEUE_KIB).saturating_add(1).min(QUEUE_KIB);
        self.queue_room.clone().acquire_many_owned(kib).await.map_err(|_| Error::Closed)
    }

    fn decided<T>(
        &self,
        caller: Caller,
        mut state: MutexGuard<'_, State>,
        looked: &Looked,
        share: OwnedSemaphorePermit,
        decide: impl FnOnce(&mut State, &Looked) -> Result<Decision<T>>,
    ) -> Result<(T, Waiting)> {
        let (ops, pins, value) = match decide(&mut state, looked)? {
            // A group that failed may still be found in the log and make it untrue that nothing is to be done.
            Decision::Nothing(value) if state.is_log_in_doubt => (vec![Op::Mark], SmallVec::new(), value),
            Decision::Nothing(value) => return Ok((value, Waiting::Done(Ok(())))),
            Decision::Join(hash, value) => {
                let joined = state.join(&hash);
                return Ok((value, joined.map_or(Waiting::Done(Ok(())), Waiting::For)));
            }
            Decision::Write(ops, pins, value) => (ops, pins, value),
        };
        if self.reserve.is_given_up() && !ops.iter().all(Op::is_removal) {
            state.refuse(&ops);
            drop((state, pins));
            // It looks whether there is room again.
            self.committer_wake.notify_one();
            let (path, refusal) = (self.layout.log_dir(), refusal(&self.layout.reserve()));
            return Ok((value, Waiting::Done(Err(Failure::new("append to", &path, &refusal)))));
        }
        let alone = state.queue.is_empty() && !state.leading;
        let is_quick =
            || state.mean_sync < LEAD_BELOW && ops.iter().map(Op::weight).sum::<u64>() < LEAD_BYTES;
        if alone && (caller == Caller::Thread || is_quick()) {
            state.enqueue(ops, looked, pins, Some(share), None);
            return Ok((value, Waiting::Done(self.lead(state))));
        }
        let (done, receiver) = oneshot::channel();
        state.enqueue(ops, looked, pins, Some(share), Some(done));
        drop(state);
        self.writer_wake.notify_one();
        Ok((value, Waiting::For(receiver)))
    }
}
