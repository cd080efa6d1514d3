//! Checking what only the store knows of: in memory that is where tags point.

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Hash, Progress, ReportLevel, Result,
};

use crate::store::MemStore;

impl ConsistencyCheck for MemStore {
    /// There are no files that could disagree with the records: what is found is tags that point nowhere, which is
    /// allowed, so that nothing is ever repaired.
    async fn consistency_check(
        &self,
        _: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        progress.send(ConsistencyCheckProgress::Start).await?;
        let dangling = match self.dangling_tags() {
            Ok(dangling) => dangling,
            Err(e) => {
                progress.send(ConsistencyCheckProgress::Abort((&e).into())).await?;
                return Err(e);
            }
        };
        for (message, entry) in dangling {
            let level = ReportLevel::Warn;
            progress.send(ConsistencyCheckProgress::Update { message, entry: Some(entry), level }).await?;
        }
        progress.send(ConsistencyCheckProgress::Done).await
    }
}

impl MemStore {
    fn dangling_tags(&self) -> Result<Vec<(String, Hash)>> {
        let state = self.state()?;
        let dangling = state.tags.iter().filter(|(_, content)| self.find(&state, content.hash).is_none());
        Ok(dangling
            .map(|(tag, content)| {
                (format!("tag \"{tag}\" points to a blob that is not in the store"), content.hash)
            })
            .collect())
    }
}
