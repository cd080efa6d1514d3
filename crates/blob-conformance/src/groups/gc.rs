//! Collection.

pub mod growth;
pub mod history;
pub mod interrupted;
pub mod kept;
pub mod options;
pub mod races;
pub mod reading;
pub mod reasons;
pub mod rounds;
pub mod space;
pub mod temp_tags;

use std::{
    sync::{Mutex, PoisonError, mpsc::channel},
    time::Duration,
};

use blob_gc::{Event, GcError, GcMarkEvent, GcOptions, GcReport, GcStore, NoRoots, collect};
use blob_traits::{EntryStatus, Hash, HashAndFormat, Import, Map, MapExt, Progress, Store, Sweep, WriteTags};
use tokio::sync::mpsc::unbounded_channel;

use crate::{Failure, Group, Outcome, Sample};

/// The cases of this group.
pub fn group<S: Store + Sweep>() -> Group<S> {
    kept::group()
        .and(growth::group())
        .and(reading::group())
        .and(races::group())
        .and(temp_tags::group())
        .and(rounds::group())
        .and(options::group())
        .and(reasons::group())
        .and(history::group())
        .and(interrupted::group())
        .and(space::group())
}

/// Deletes what nothing keeps, be it everything.
fn all() -> GcOptions {
    let mut options = GcOptions::default();
    options.no_roots = NoRoots::DeleteAll;
    options
}

/// A round of its own.
async fn sweep<S: GcStore>(store: &S) -> Result<GcReport, GcError> {
    collect(store, all(), Progress::none()).await
}

/// A round, in which something is done after marking and before anything is swept.
async fn sweep_after<S: GcStore>(
    store: &S,
    act: impl AsyncFnOnce() -> Outcome,
) -> Result<Result<GcReport, GcError>, Failure> {
    let (marked, mut is_marked) = unbounded_channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(Some(may_go));
    let progress = Progress::from_fn(move |event| {
        let is_first = |()| may_go.lock().unwrap_or_else(PoisonError::into_inner).take();
        let waiting =
            matches!(event, Event::Mark(GcMarkEvent::Marked { .. })).then_some(()).and_then(is_first);
        if let Some(may_go) = waiting {
            let _ = marked.send(());
            let _ = may_go.recv_timeout(Duration::from_secs(10));
        }
        Ok(())
    });
    let acting = async {
        // Nothing comes from a round that ends before.
        let acted = if is_marked.recv().await.is_some() { act().await } else { Ok(()) };
        let _ = go.send(());
        acted
    };
    let (collected, acted) = futures_lite::future::zip(collect(store, all(), progress), acting).await;
    acted.map(|()| collected)
}

/// A hash sequence.
fn sequence(children: impl IntoIterator<Item = Hash>) -> Sample {
    Sample::of(children.into_iter().flat_map(|hash| *hash.as_bytes()).collect::<Vec<_>>())
}

/// Some small blobs.
fn samples(n: u64) -> Vec<Sample> {
    (0..n).map(|number| Sample::numbered(100, number)).collect()
}

/// Imports blobs and lets go of them.
async fn import<'a, S: Import>(store: &S, samples: impl IntoIterator<Item = &'a Sample>) -> Outcome {
    for sample in samples {
        drop(sample.import(store).await?);
    }
    Ok(())
}

async fn tag_raw<S: WriteTags>(store: &S, name: &str, sample: &Sample) -> Outcome {
    Ok(store.set_tag(name.into(), Some(HashAndFormat::raw(sample.hash))).await?)
}

async fn tag_seq<S: WriteTags>(store: &S, name: &str, sample: &Sample) -> Outcome {
    Ok(store.set_tag(name.into(), Some(HashAndFormat::hash_seq(sample.hash))).await?)
}

async fn assert_kept<'a, S: Map>(store: &S, samples: impl IntoIterator<Item = &'a Sample>) -> Outcome {
    for sample in samples {
        assert_eq!(store.read_to_bytes(sample.hash).await?, sample.data, "{} has other bytes", sample.hash);
    }
    Ok(())
}

async fn assert_gone<'a, S: GcStore>(store: &S, samples: impl IntoIterator<Item = &'a Sample>) -> Outcome {
    for sample in samples {
        let status = store.entry_status(&sample.hash).await?;
        assert_eq!(status, EntryStatus::NotFound, "{} of {} bytes", sample.hash, sample.size());
    }
    Ok(())
}
