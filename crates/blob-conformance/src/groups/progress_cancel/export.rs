//! What an export reports.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use blob_traits::{
    BlobFormat, BlobStatus, Collection, Delete, Export, ExportExt, ExportMode, ExportOptions, ExportProgress,
    Hash, Import, ImportExt, Map, MapExt, Progress, Store,
};
use tokio::time::timeout;

use super::import::events_of;
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "progress_cancel", for S: Store;
    export_progress_grammar,
    export_progress_grammar_when_moved_out,
    export_progress_slow_consumer_no_deadlock,
    export_collection_progress_grammar_per_child,
}

const MODES: [ExportMode; 2] = [ExportMode::Copy, ExportMode::TryReference];

/// Checks `Start Progress* Done` of one export with ascending offsets that end with the size, if there are any.
/// Returns id and target.
fn check_grammar(events: &[ExportProgress], expected: Hash, size: u64) -> (u64, PathBuf) {
    let [ExportProgress::Start { id, hash, path, .. }, offsets @ .., ExportProgress::Done { id: done }] =
        events
    else {
        panic!("{events:?}")
    };
    assert_eq!((*hash, id), (expected, done), "{events:?}");
    let mut last = None;
    for event in offsets {
        let ExportProgress::Progress { id: same, offset } = event else { panic!("{events:?}") };
        assert!(same == id && last < Some(*offset) && *offset <= size, "{events:?}");
        last = Some(*offset);
    }
    assert!(last.is_none_or(|last| last == size), "{events:?}");
    (*id, path.clone())
}

async fn export_progress_grammar<S: Map + Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    for size in trial.ways().into_iter().chain([0, 5_000_000]) {
        let sample = Sample::new(size);
        sample.import(&store).await?;
        let target = trial.user(&size.to_string());
        let (progress, receiver) = Progress::channel(1000);
        store.export(sample.hash, target.clone(), ExportOptions::default(), progress).await?;
        let events = events_of(receiver).await;
        let (_, path) = check_grammar(&events, sample.hash, sample.size());
        assert_eq!(path, target);
        assert!(matches!(events.first(), Some(ExportProgress::Start { stable: false, .. })), "{events:?}");
    }
    Ok(())
}

async fn export_progress_grammar_when_moved_out<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    sample.import(&store).await?;
    // The second one cannot be moved any more.
    for name in ["first", "second"] {
        let target = trial.user(name);
        let (progress, receiver) = Progress::channel(1000);
        store.export(sample.hash, target.clone(), ExportMode::TryReference, progress).await?;
        let (_, path) = check_grammar(&events_of(receiver).await, sample.hash, sample.size());
        assert_eq!(path, target);
        assert!(store.read_to_bytes(sample.hash).await? == sample.data);
    }
    Ok(())
}

async fn export_progress_slow_consumer_no_deadlock<S: Map + Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in [1000, 3_000_000].map(Sample::new) {
        for mode in MODES {
            sample.import(&store).await?;
            let (progress, mut receiver) = Progress::channel(1);
            let consumer = tokio::spawn(async move {
                let mut events = Vec::new();
                while let Some(event) = receiver.recv().await {
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    events.push(event);
                }
                events
            });
            let target = trial.user(&format!("{mode:?} {}", sample.size()));
            let export = store.export(sample.hash, target, mode, progress);
            let Ok(exported) = timeout(Duration::from_secs(20), export).await else {
                return Err("an export waits for ever".into());
            };
            exported?;
            check_grammar(&consumer.await?, sample.hash, sample.size());
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

async fn export_collection_progress_grammar_per_child<S: Map + BlobStatus + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut collection = Collection::default();
    let mut pins = Vec::new();
    let samples: BTreeMap<_, _> = [("one", 10), ("two", 20_000), ("dir/three", trial.large())]
        .map(|(name, size)| (name, Sample::new(size)))
        .into();
    for (name, sample) in &samples {
        pins.push(store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?);
        collection.push((*name).to_owned(), sample.hash);
    }
    let root = collection.store(&store).await?;
    let target = trial.user("collection");
    let (progress, receiver) = Progress::channel(1000);
    store.export_collection(root.hash(), target.clone(), ExportMode::Copy, progress).await?;
    let mut by_id = BTreeMap::<_, Vec<_>>::new();
    for event in events_of(receiver).await {
        let (ExportProgress::Start { id, .. }
        | ExportProgress::Progress { id, .. }
        | ExportProgress::Done { id }) = &event;
        by_id.entry(*id).or_default().push(event);
    }
    assert_eq!(by_id.len(), samples.len(), "children share an id: {by_id:?}");
    for events in by_id.values() {
        let Some(ExportProgress::Start { hash, path, .. }) = events.first() else { panic!("{events:?}") };
        let found = samples.iter().find(|(_, sample)| sample.hash == *hash);
        let (name, sample) = found.ok_or("something else was exported")?;
        assert_eq!(*path, target.join(name));
        check_grammar(events, sample.hash, sample.size());
    }
    Ok(())
}
