//! The check of what only a store knows of: its own files and records.

pub mod files;
pub mod repaired;
pub mod reports;

use std::sync::{Arc, Mutex, PoisonError};

use blob_traits::{
    CheckMode, ConsistencyCheck, ConsistencyCheckProgress, Hash, Progress, ReportLevel, Result, Store,
};

use crate::Group;

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    reports::group().and(files::group())
}

/// What a check has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    message: String,
    pub(crate) entry: Option<Hash>,
    pub(crate) level: ReportLevel,
}

/// Checks, and gathers all events.
async fn events<S: ConsistencyCheck>(
    store: &S,
    mode: CheckMode,
) -> (Result<()>, Vec<ConsistencyCheckProgress>) {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    let to = gathered.clone();
    let progress = Progress::from_fn(move |event| {
        to.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    });
    let checked = store.consistency_check(mode, progress).await;
    let events = std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
    (checked, events)
}

/// Checks; what is not as it should be, by what was said.
pub(crate) async fn troubles<S: ConsistencyCheck>(store: &S, mode: CheckMode) -> Result<Vec<Said>> {
    let (checked, events) = events(store, mode).await;
    checked?;
    let said = events.into_iter().filter_map(|event| match event {
        ConsistencyCheckProgress::Update { message, entry, level } => Some(Said { message, entry, level }),
        _ => None,
    });
    Ok(said.filter(|said| said.level >= ReportLevel::Warn).collect())
}
