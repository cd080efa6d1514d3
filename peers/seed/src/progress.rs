//! Progress of imports: the seed's sender over ours.

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

/// Sends the seed's events, and remembers whether one was refused: the seed's errors do not always tell.
#[derive(Clone)]
pub(crate) struct Sender {
    progress: Progress<ImportProgress>,
    refused: Arc<AtomicBool>,
}

impl Sender {
    pub(crate) fn new(progress: Progress<ImportProgress>) -> Self {
        Self { progress, refused: Arc::default() }
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

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.progress.fmt(f)
    }
}

impl IdGenerator for Sender {
    fn new_id(&self) -> u64 {
        self.progress.new_id()
    }
}

impl ProgressSender for Sender {
    type Msg = Theirs;

    async fn send(&self, event: Theirs) -> ProgressSendResult<()> {
        self.sent(self.progress.send(to_ours(event)).await)
    }

    fn try_send(&self, event: Theirs) -> ProgressSendResult<()> {
        self.sent(self.progress.try_send(to_ours(event)))
    }

    /// Blocks the thread, whichever it is: the seed's memory store calls this from asynchronous code.
    fn blocking_send(&self, event: Theirs) -> ProgressSendResult<()> {
        let sent = block_on(within_patience(self.progress.send(to_ours(event))));
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
