//! What an import reports.

use std::time::Duration;

use blob_traits::{
    BlobFormat, Delete, Import, ImportMode, ImportProgress, ImportSource, Map, Progress, Store,
};
use proptest::prelude::*;
use tokio::{sync::mpsc::Receiver, time::timeout};

use crate::{Outcome, Sample, Trial, case::group, groups::import::way::Way};

group! {
    "progress_cancel", for S: Store;
    import_progress_grammar,
    import_progress_names_the_file,
    progress_ids_unique_across_concurrent_imports,
    progress_offsets_monotonic_le_size,
    slow_progress_consumer_backpressure_no_deadlock,
}

/// Several steps long for any store that reports steps.
const LONG: usize = 5_000_000;

pub(super) async fn events_of<E: Send>(mut receiver: Receiver<E>) -> Vec<E> {
    let mut events = Vec::new();
    while let Some(event) = receiver.recv().await {
        events.push(event);
    }
    events
}

/// Where an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Begin,
    Copying(Option<u64>),
    Hashing(Option<u64>),
    Done,
}

/// Checks that the events of one import of a sample come in order, and each phase that reports ends with the total.
fn check_grammar(events: &[ImportProgress], sample: &Sample) {
    let (mut phase, total) = (Phase::Begin, sample.size());
    let is_ended = |last: Option<u64>| last.is_none_or(|last| last == total);
    for event in events {
        phase = match (phase, event) {
            (Phase::Begin, ImportProgress::Found { .. }) => Phase::Copying(None),
            (Phase::Copying(_), ImportProgress::CopyProgress { offset, .. }) => Phase::Copying(Some(*offset)),
            (Phase::Copying(last), ImportProgress::Size { size, .. }) if is_ended(last) && *size == total => {
                Phase::Hashing(None)
            }
            (Phase::Hashing(_), ImportProgress::OutboardProgress { offset, .. }) => {
                Phase::Hashing(Some(*offset))
            }
            (Phase::Hashing(last), ImportProgress::OutboardDone { hash, .. })
                if is_ended(last) && *hash == sample.hash =>
            {
                Phase::Done
            }
            _ => panic!("{event:?} in {phase:?}: {events:?}"),
        };
    }
    assert_eq!(phase, Phase::Done, "{events:?}");
}

fn id_of(event: &ImportProgress) -> u64 {
    match event {
        ImportProgress::Found { id, .. }
        | ImportProgress::CopyProgress { id, .. }
        | ImportProgress::Size { id, .. }
        | ImportProgress::OutboardProgress { id, .. }
        | ImportProgress::OutboardDone { id, .. } => *id,
    }
}

async fn import_progress_grammar<S: Map + Import + Delete>(trial: &Trial<S>, store: S) -> Outcome {
    let sizes = prop::sample::select([trial.ways(), vec![0, 1, 16_385]].concat());
    trial
        .for_all(16, (sizes, prop::sample::select(Way::ALL.to_vec())), async |(size, way)| {
            let sample = Sample::new(size);
            store.delete(vec![sample.hash]).await?;
            let (progress, receiver) = Progress::channel(1000);
            store.import(way.source(trial, &sample)?, BlobFormat::Raw.into(), progress).await?;
            let events = events_of(receiver).await;
            check_grammar(&events, &sample);
            let mut ids = events.iter().map(id_of);
            let first = ids.next();
            assert!(ids.all(|id| Some(id) == first), "several ids: {events:?}");
            Ok(())
        })
        .await
}

async fn import_progress_names_the_file<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let path = trial.user_file("an odd näme", b"bytes")?;
    for mode in [ImportMode::Copy, ImportMode::TryReference] {
        let (progress, receiver) = Progress::channel(1000);
        let source = ImportSource::File { path: path.clone(), mode };
        store.import(source, BlobFormat::Raw.into(), progress).await?;
        let events = events_of(receiver).await;
        let Some(ImportProgress::Found { name, .. }) = events.first() else { panic!("{events:?}") };
        assert_eq!(*name, path.display().to_string());
    }
    Ok(())
}

async fn progress_ids_unique_across_concurrent_imports<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (progress, receiver) = Progress::channel(10_000);
    let samples: Vec<_> = (0..12).map(|number| Sample::numbered(30_000, number)).collect();
    let mut tasks = Vec::new();
    for (sample, way) in samples.iter().zip(Way::ALL.into_iter().cycle()) {
        let (store, progress, source) = (store.clone(), progress.clone(), way.source(trial, sample)?);
        tasks.push(tokio::spawn(async move { store.import(source, BlobFormat::Raw.into(), progress).await }));
    }
    drop(progress);
    for task in tasks {
        task.await??;
    }
    let events = events_of(receiver).await;
    let mut ids: Vec<_> = events.iter().map(id_of).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), samples.len(), "imports share an id");
    for id in ids {
        let events: Vec<_> = events.iter().filter(|event| id_of(event) == id).cloned().collect();
        let is_its = |sample: &&Sample| matches!(events.last(), Some(ImportProgress::OutboardDone { hash, .. }) if *hash == sample.hash);
        let sample = samples.iter().find(is_its).ok_or("an import does not end")?;
        check_grammar(&events, sample);
    }
    Ok(())
}

async fn progress_offsets_monotonic_le_size<S: Map + Import + Delete>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(LONG);
    for way in Way::ALL {
        store.delete(vec![sample.hash]).await?;
        let (progress, receiver) = Progress::channel(10_000);
        store.import(way.source(trial, &sample)?, BlobFormat::Raw.into(), progress).await?;
        let events = events_of(receiver).await;
        let (mut copied, mut hashed) = (Vec::new(), Vec::new());
        for event in &events {
            match event {
                ImportProgress::CopyProgress { offset, .. } => copied.push(*offset),
                ImportProgress::OutboardProgress { offset, .. } => hashed.push(*offset),
                _ => {}
            }
        }
        for offsets in [copied, hashed] {
            assert!(offsets.is_sorted_by(|a, b| a < b), "{way:?}: {offsets:?}");
            assert!(offsets.last().is_none_or(|last| *last == sample.size()), "{way:?}: {offsets:?}");
        }
    }
    Ok(())
}

/// Room for one event: phases wait for it, offsets are left out, and the total comes all the same.
async fn slow_progress_consumer_backpressure_no_deadlock<S: Map + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in [1000, trial.large()] {
        let sample = Sample::new(size);
        for way in Way::ALL {
            store.delete(vec![sample.hash]).await?;
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
            let import = store.import(way.source(trial, &sample)?, BlobFormat::Raw.into(), progress);
            let Ok(imported) = timeout(Duration::from_secs(20), import).await else {
                return Err(format!("an import from {way:?} waits for ever").into());
            };
            assert_eq!(imported?.0.hash(), sample.hash);
            check_grammar(&consumer.await?, &sample);
        }
    }
    Ok(())
}
