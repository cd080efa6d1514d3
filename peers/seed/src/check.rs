//! The seed's check of its own database and files, and its blobs one by one.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Error, ErrorInfo, Progress, ReportLevel, Result,
    Scan, ScanBlobs, ScanOf, scan_by_hash,
};
use futures_lite::future::block_on;
use iroh_blobs::{
    store::{ConsistencyCheckProgress as Theirs, ReportLevel as TheirLevel, Store},
    util::progress::{IdGenerator, ProgressSendError, ProgressSendResult, ProgressSender},
};

use crate::{convert::hash_to_ours, failure::About, limit::within_patience, store::Seed};

impl<S: Store> ScanBlobs for Seed<S> {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Self::Entry>> {
        scan_by_hash(self, which).await
    }
}

impl<S: Store> ConsistencyCheck for Seed<S> {
    async fn consistency_check(
        &self,
        mode: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        let sender = Sender { progress, refused: Arc::default() };
        let checking = self.store().consistency_check(mode == CheckMode::Repair, sender.clone().boxed());
        let checked = self.call(About::Store, checking).await;
        if sender.refused.load(Ordering::Acquire) { Err(Error::Cancelled) } else { checked }
    }
}

/// Sends the seed's events, and remembers whether one was refused.
#[derive(Clone)]
struct Sender {
    progress: Progress<ConsistencyCheckProgress>,
    refused: Arc<AtomicBool>,
}

impl Sender {
    fn sent(&self, sent: Result<()>) -> ProgressSendResult<()> {
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

    fn blocking_send(&self, event: Theirs) -> ProgressSendResult<()> {
        let sent = block_on(within_patience(self.progress.send(to_ours(event))));
        self.sent(sent.map_err(Into::into).and_then(|sent| sent))
    }
}

fn to_ours(event: Theirs) -> ConsistencyCheckProgress {
    match event {
        Theirs::Start => ConsistencyCheckProgress::Start,
        Theirs::Update { message, entry, level } => {
            let level = match level {
                TheirLevel::Trace => ReportLevel::Trace,
                TheirLevel::Info => ReportLevel::Info,
                TheirLevel::Warn => ReportLevel::Warn,
                TheirLevel::Error => ReportLevel::Error,
            };
            ConsistencyCheckProgress::Update { message, entry: entry.map(hash_to_ours), level }
        }
        Theirs::Done => ConsistencyCheckProgress::Done,
        Theirs::Abort(error) => {
            let error = Error::from(std::io::Error::other(error.to_string()));
            ConsistencyCheckProgress::Abort(ErrorInfo::from(&error))
        }
    }
}
