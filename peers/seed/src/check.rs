//! The seed's check of its own database and files, and its blobs one by one.

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Error, ErrorInfo, Progress, ReportLevel, Result,
    Scan, ScanBlobs, ScanOf, scan_by_hash,
};
use iroh_blobs::{
    store::{ConsistencyCheckProgress as Theirs, ReportLevel as TheirLevel, Store},
    util::progress::ProgressSender as _,
};

use crate::{convert::hash_to_ours, failure::About, progress::Sender, store::Seed};

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
        let sender = Sender::new(progress, to_ours);
        let checking = self.store().consistency_check(mode == CheckMode::Repair, sender.clone().boxed());
        let checked = self.call(About::Store, checking).await;
        if sender.was_refused() { Err(Error::Cancelled) } else { checked }
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
