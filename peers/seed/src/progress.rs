//! Progress: the seed's sender over ours, and the events of imports.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use blob_traits::{ImportProgress, Progress};
use futures_lite::future::block_on;
use iroh_blobs::{
    store::ImportProgress as Theirs,
    util::progress::{IdGenerator, ProgressSendError, ProgressSendResult, ProgressSender},
};

use crate::{convert::hash_to_ours, limit::within_patience};

/// Sends the seed's events as ours, and remembers whether one was refused: the seed's errors do not always tell.
pub(crate) struct Sender<T, O> {
    progress: Progress<O>,
    refused: Arc<AtomicBool>,
    to_ours: fn(T) -> O,
}

/// The sender of an import.
pub(crate) type ImportSender = Sender<Theirs, ImportProgress>;

impl ImportSender {
    pub(crate) fn of_import(progress: Progress<ImportProgress>) -> Self {
        Self::new(progress, to_ours)
    }
}

impl<T, O: Send + 'static> Sender<T, O> {
    pub(crate) fn new(progress: Progress<O>, to_ours: fn(T) -> O) -> Self {
        Self { progress, refused: Arc::default(), to_ours }
    }

    pub(crate) fn was_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    fn sent(&self, sent: blob_traits::Result<()>) -> ProgressSendResult<()> {
        sent.map_err(|_| {
            self.refused.store(true, Ordering::Release);
            ProgressSendError::ReceiverDropped
        })
    }
}

impl<T, O> Clone for Sender<T, O> {
    fn clone(&self) -> Self {
        Self { progress: self.progress.clone(), refused: self.refused.clone(), to_ours: self.to_ours }
    }
}

impl<T, O> fmt::Debug for Sender<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("refused", &self.refused).finish_non_exhaustive()
    }
}

impl<T: 'static, O: Send + 'static> IdGenerator for Sender<T, O> {
    fn new_id(&self) -> u64 {
        self.progress.new_id()
    }
}

impl<T: Send + Sync + 'static, O: Send + 'static> ProgressSender for Sender<T, O> {
    type Msg = T;

    async fn send(&self, event: T) -> ProgressSendResult<()> {
        self.sent(self.progress.send((self.to_ours)(event)).await)
    }

    fn try_send(&self, event: T) -> ProgressSendResult<()> {
        self.sent(self.progress.try_send((self.to_ours)(event)))
    }

    /// Blocks the thread, whichever it is: the seed's memory store calls this from asynchronous code.
    fn blocking_send(&self, event: T) -> ProgressSendResult<()> {
        let sent = block_on(within_patience(self.progress.send((self.to_ours)(event))));
        self.sent(sent.map_err(Into::into).and_then(|sent| sent))
    }
}

fn to_ours(event: Theirs) -> ImportProgress {
    match event {
        Theirs::Found { id, name } => ImportProgress::Found { id, name },
        Theirs::CopyProgress { id, offset } => ImportProgress::CopyProgress { id, offset },
        Theirs::Size { id, size } => ImportProgress::Size { id, size },
        Theirs::OutboardProgress { id, offset } => ImportProgress::OutboardProgress { id, offset },
        Theirs::OutboardDone { id, hash } => ImportProgress::OutboardDone { id, hash: hash_to_ours(hash) },
    }
}
