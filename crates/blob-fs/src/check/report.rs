//! Telling what was found.

use blob_traits::{ConsistencyCheckProgress, Hash, Progress, ReportLevel, Result, blocking::Watch};

/// Where a check reports to. Each call fails with `Cancelled` once nobody listens.
pub(super) struct Report {
    progress: Progress<ConsistencyCheckProgress>,
    watch: Watch,
}

impl Report {
    pub(super) fn new(progress: Progress<ConsistencyCheckProgress>, watch: Watch) -> Self {
        Self { progress, watch }
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) fn check(&self) -> Result<()> {
        self.watch.check()
    }

    pub(super) fn trace(&self, message: String) -> Result<()> {
        self.send(ReportLevel::Trace, message, None)
    }

    pub(super) fn info(&self, message: String, entry: Option<Hash>) -> Result<()> {
        self.send(ReportLevel::Info, message, entry)
    }

    pub(super) fn warn(&self, message: String, entry: Option<Hash>) -> Result<()> {
        self.send(ReportLevel::Warn, message, entry)
    }

    pub(super) fn error(&self, message: String, entry: Option<Hash>) -> Result<()> {
        self.send(ReportLevel::Error, message, entry)
    }

    fn send(&self, level: ReportLevel, message: String, entry: Option<Hash>) -> Result<()> {
        self.watch.send(&self.progress, ConsistencyCheckProgress::Update { message, entry, level })
    }
}
