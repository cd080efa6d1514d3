//! Opening broken stores: what a defect does before there is a store, and from one to the next.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use blob_traits::{Delete, FullStore, Hash, HashAndFormat, Result, TempTags, dynamic::DynStore};

use super::{Broken, Defect, broken::lock};
use crate::{Home, Suite, groups, suite::Backend};

/// What outlives the stores of a home.
struct Past<S> {
    is_begun: AtomicBool,
    has_shut_down: Arc<AtomicBool>,
    temp_tags: Mutex<Vec<HashAndFormat>>,
    open: Mutex<Option<Broken<S>>>,
    latest_import: Mutex<Option<Arc<Mutex<Option<Hash>>>>>,
}

impl<S> Default for Past<S> {
    fn default() -> Self {
        Self {
            is_begun: AtomicBool::new(false),
            has_shut_down: Arc::default(),
            temp_tags: Mutex::default(),
            open: Mutex::new(None),
            latest_import: Mutex::new(None),
        }
    }
}

impl<S: FullStore> Suite<S> {
    /// The same backend with a defect, or none, held to all cases.
    pub(crate) fn broken(&self, defect: Option<Defect>) -> Suite<DynStore> {
        let open = self.backend.open.clone();
        let mut suite = Suite::without_cases(self.backend.name.clone(), move |home| {
            let open = open.clone();
            async move {
                match defect {
                    None => Ok(DynStore::new(open(home).await?)),
                    Some(defect) => {
                        Ok(DynStore::new(open_broken(&home, defect, open(seen(&home, defect))).await?))
                    }
                }
            }
        });
        let Backend { lacks, thresholds, leftovers, .. } = self.backend.clone();
        suite.backend = Backend { lacks, thresholds, leftovers, ..suite.backend };
        suite.waived.clone_from(&self.waived);
        groups::all().into_iter().fold(suite, Suite::group)
    }
}

/// The home as a store with this defect sees it.
fn seen(home: &Home, defect: Defect) -> Home {
    if defect == Defect::LimitIgnored { home.without_limit() } else { home.clone() }
}

async fn open_broken<S: FullStore>(
    home: &Home,
    defect: Defect,
    opening: impl Future<Output = Result<S>>,
) -> Result<Broken<S>> {
    let past = home.keep(Past::<S>::default);
    if defect == Defect::TwoOwners {
        let open = lock(&past.open).clone();
        if let Some(open) = open.filter(|store| !store.has_shut_down()) {
            return Ok(open);
        }
    }
    let store = Broken::new(opening.await?, defect);
    let is_first = !past.is_begun.swap(true, Ordering::Relaxed);
    match defect {
        Defect::SyncDropped if !is_first && !past.has_shut_down.load(Ordering::Relaxed) => {
            store.lose_partial_blobs().await?;
        }
        Defect::TemporaryTagsKept => {
            let held = std::mem::take(&mut *lock(&past.temp_tags));
            for content in held {
                store.temp_tag(content).leak();
            }
        }
        Defect::LatestLostByKill => {
            let latest = lock(&past.latest_import).replace(store.latest_import());
            if !is_first && !past.has_shut_down.load(Ordering::Relaxed) {
                let latest = latest.and_then(|latest| *lock(&latest));
                store.delete(latest.into_iter().collect()).await?;
            }
        }
        Defect::TwoOwners => *lock(&past.open) = Some(store.clone()),
        _ => {}
    }
    past.has_shut_down.store(false, Ordering::Relaxed);
    let at_end = move |held: Vec<HashAndFormat>| {
        past.has_shut_down.store(true, Ordering::Relaxed);
        *lock(&past.temp_tags) = held;
        *lock(&past.open) = None;
    };
    Ok(store.at_shutdown(at_end))
}
