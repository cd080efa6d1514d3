//! How a validation runs: what it counts and reports, what it goes on after, and how it ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use blob_traits::{Error, ErrorInfo, Hash, Progress, RangeSpec, Result, ScanBlobs, Store, collect};
use blob_validate::{Ended, ValidateOptions, ValidateProgress, ValidateReport, ValidateStore, validate};
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::{import, validated};
use crate::{
    Failure, GROUP, Outcome, Sample, Trial,
    case::group,
    drop_at_every_await, group_ranges,
    harm::{Harm, Harmful, harmed},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: Store, ScanBlobs;
    validate_clean_store_all_ok_total_counts_complete_and_partial,
    validate_continues_after_io_error_reports_entry,
    validate_bad_tree_over_unreadable_bytes_is_not_taken_for_damage,
    validate_concurrent_delete_is_skipped_not_error,
    validate_event_grammar,
    validate_abort_event_on_fatal,
    validate_receiver_dropped_stops_promptly,
    drop_future_at_every_await_validate,
}

/// How long a run may go on when nobody wants it any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// Over the size at which several parts of a blob are looked at side by side.
const VERY_LARGE: usize = 20 << 20;

/// Validates, and gathers all events.
async fn reported<S: ValidateStore>(store: &S) -> (Result<ValidateReport>, Vec<ValidateProgress>) {
    let gathered = Arc::new(Mutex::new(Vec::new()));
    let to = gathered.clone();
    let progress = Progress::from_fn(move |event| {
        to.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    });
    let report = validate(store, ValidateOptions::default(), progress).await;
    let events = std::mem::take(&mut *gathered.lock().unwrap_or_else(PoisonError::into_inner));
    (report, events)
}

async fn validate_clean_store_all_ok_total_counts_complete_and_partial<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let complete: Vec<_> = trial.sizes().into_iter().filter(|size| *size > 0).map(Sample::new).collect();
    import(&store, &complete).await?;
    let sizes = [20_000, 100_000, trial.large() + 100_000];
    let partial: Vec<_> = (0..).zip(sizes).map(|(number, size)| Sample::numbered(size, number)).collect();
    let mut n_present = 0;
    for sample in &partial {
        sample.write(&store, &group_ranges(0..1)).await?;
        n_present += GROUP;
    }
    let begun = Sample::numbered(70_000, 7);
    store.get_or_create(begun.hash, begun.size()).await?;
    let (report, events) = reported(&store).await;
    let report = report?;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.ended, Ended::AllDone);
    let n_complete = collect(store.blobs().await?).await?.len() as u64;
    assert!(n_complete >= complete.len() as u64);
    let n_partial = collect(store.partial_blobs().await?).await?.len() as u64;
    assert_eq!((report.n_complete, report.n_partial, report.n_vanished), (n_complete, n_partial, 0));
    let n_bytes = complete.iter().map(Sample::size).sum::<u64>() + n_present;
    assert_eq!(report.n_bytes, n_bytes);
    let total = n_complete + n_partial;
    assert_eq!(events.first(), Some(&ValidateProgress::Starting { total }));
    assert_eq!(events.last(), Some(&ValidateProgress::AllDone));
    Ok(())
}

async fn validate_continues_after_io_error_reports_entry<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    let bad = samples.get(1).ok_or("too few")?;
    let unreadable = bad.group_range(1);
    store.make_unreadable(bad, &unreadable);
    let (report, events) = reported(&store).await;
    let report = report?;
    let [damaged] = &*report.damaged else { return Err(format!("{report:?}").into()) };
    assert_eq!((damaged.hash, &damaged.unreadable), (bad.hash, &unreadable));
    // What cannot be read may be what it should be.
    assert!(damaged.bad.is_empty() && damaged.n_bad_pairs == 0, "{damaged:?}");
    assert!(damaged.error.is_some());
    assert!(report.n_complete >= samples.len() as u64);
    assert_eq!(events.last(), Some(&ValidateProgress::AllDone));
    let errors = |event| matches!(event, &ValidateProgress::EntryDone { error: Some(_), .. });
    assert_eq!(events.iter().filter(|event| errors(event)).count(), 1);
    store.heal();
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

/// Nothing that is read proves anything while the disk fails, and nothing that is read proves the opposite.
async fn validate_bad_tree_over_unreadable_bytes_is_not_taken_for_damage<S: Store + ScanBlobs>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = (0..3).map(|number| Sample::numbered(200_000, number)).collect();
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    let [all, one, tree] = &*samples else { return Err("three were made".into()) };
    store.make_tree_unreadable(all);
    store.make_unreadable(all, &all.all_chunks());
    store.make_unreadable(one, &one.group_range(2));
    // The pair above groups 2 and 3.
    let pair = one.position_of_pair_above(2).ok_or("no pair")?;
    store.harm(&Harmful::tree(one, Harm::Zeroed(pair..pair + 64)));
    store.make_tree_unreadable(tree);
    let report = validated(&store).await?;
    for damaged in &report.damaged {
        assert!(damaged.bad.is_empty(), "{damaged:?}");
    }
    let unreadable = |sample: &Sample| {
        let found = report.damaged.iter().find(|damaged| damaged.hash == sample.hash);
        found.map(|damaged| damaged.unreadable.clone())
    };
    assert_eq!(unreadable(all), Some(all.all_chunks()));
    // Its sound neighbour cannot be proved as long as it is not there.
    let both = one.group_range(2) | one.group_range(3);
    let found = unreadable(one).ok_or("it is not reported")?;
    assert!(one.group_range(2).is_subset(&found) && found.is_subset(&both), "{found:?}");
    Ok(())
}

async fn validate_concurrent_delete_is_skipped_not_error<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    let sizes = trial.ways();
    for round in 0..4 {
        let mut samples: Vec<_> = (0..30_u64)
            .map(|number| {
                let size = dice.pick(&sizes).copied().filter(|_| number % 8 == 0).unwrap_or(5000);
                Sample::numbered(size, (round << 20) + number)
            })
            .collect();
        import(&store, &samples).await?;
        dice.shuffle(&mut samples);
        let (deleted, kept) = samples.split_at(15);
        // One event at a time: the run waits for the one who takes them.
        let (progress, mut events) = Progress::channel(1);
        let delete_at = dice.below(8);
        let deleting = async {
            let mut n = 0;
            while let Some(_event) = events.recv().await {
                if n == delete_at {
                    store.delete(deleted.iter().map(|sample| sample.hash).collect()).await?;
                }
                n += 1;
            }
            Ok::<_, Failure>(())
        };
        let validating = validate(&store, ValidateOptions::default(), progress);
        let (report, acted) = futures_lite::future::zip(validating, deleting).await;
        acted?;
        let report = report?;
        assert!(report.is_clean(), "{report:?}");
        assert!(report.n_complete >= kept.len() as u64, "what was there all the time was left out");
        store.delete(kept.iter().map(|sample| sample.hash).collect()).await?;
    }
    Ok(())
}

/// What has been reported of one blob.
#[derive(Debug)]
struct Reported {
    hash: Hash,
    size: u64,
    is_complete: bool,
    offset: u64,
    done: Option<Done>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Sound,
    Wrong,
    Ranges(RangeSpec),
}

/// Reads events by the rules; fails where one breaks them.
fn read_events(events: &[ValidateProgress]) -> Result<Vec<Reported>, Failure> {
    let (first, rest) = events.split_first().ok_or("no events")?;
    let (last, between) = rest.split_last().ok_or("one event alone")?;
    let ValidateProgress::Starting { total } = *first else { return Err(format!("{first:?} first").into()) };
    assert_eq!(*last, ValidateProgress::AllDone);
    let mut blobs = BTreeMap::<u64, Reported>::new();
    for event in between {
        let (id, is_complete) = match event {
            ValidateProgress::Entry { id, .. }
            | ValidateProgress::EntryProgress { id, .. }
            | ValidateProgress::EntryDone { id, .. } => (id, true),
            ValidateProgress::PartialEntry { id, .. }
            | ValidateProgress::PartialEntryProgress { id, .. }
            | ValidateProgress::PartialEntryDone { id, .. } => (id, false),
            other => return Err(format!("{other:?} in the middle").into()),
        };
        match event {
            ValidateProgress::Entry { hash, size, .. }
            | ValidateProgress::PartialEntry { hash, size, .. } => {
                let new = Reported { hash: *hash, size: *size, is_complete, offset: 0, done: None };
                assert!(blobs.insert(*id, new).is_none(), "number {id} is that of two blobs");
            }
            later => {
                let blob = blobs.get_mut(id).ok_or("an event of a blob that has not begun")?;
                assert!(blob.done.is_none() && blob.is_complete == is_complete, "{later:?} after {blob:?}");
                blob.note(later);
            }
        }
    }
    assert_eq!(blobs.len() as u64, total);
    assert!(blobs.values().all(|blob| blob.done.is_some()), "a blob has no end");
    Ok(blobs.into_values().collect())
}

impl Reported {
    #[track_caller]
    fn note(&mut self, event: &ValidateProgress) {
        match event {
            ValidateProgress::EntryProgress { offset, .. }
            | ValidateProgress::PartialEntryProgress { offset, .. } => {
                assert!(self.offset <= *offset && *offset <= self.size, "{offset} after {self:?}");
                self.offset = *offset;
            }
            ValidateProgress::EntryDone { error, .. } => {
                self.done = Some(if error.is_some() { Done::Wrong } else { Done::Sound });
            }
            ValidateProgress::PartialEntryDone { ranges, .. } => {
                self.done = Some(Done::Ranges(ranges.clone()));
            }
            _ => {}
        }
    }
}

async fn validate_event_grammar<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let mut complete: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    complete.push(Sample::new(VERY_LARGE));
    complete.extend((0..30).map(|number| Sample::numbered(700, number)));
    import(&store, &complete).await?;
    let partial = Sample::numbered(trial.large() + 100_000, 3);
    partial.write(&store, &group_ranges(0..3)).await?;
    store.sync().await?;
    let [wrong, wrong_part] =
        [complete.get(1).ok_or("none")?, &partial].map(|sample| Harmful::data(sample, Harm::Flipped(GROUP)));
    let damaged = wrong.sample.hash;
    let store = harmed(trial, store, &[wrong, wrong_part]).await?;
    let (report, events) = reported(&store).await;
    report?;
    let reported = read_events(&events)?;
    let hashes: BTreeSet<_> = reported.iter().map(|blob| blob.hash).collect();
    assert_eq!(hashes.len(), reported.len(), "a blob was reported twice");
    for sample in complete.iter().chain([&partial]) {
        let blob = reported.iter().find(|blob| blob.hash == sample.hash).ok_or("a blob was left out")?;
        assert_eq!((blob.size, blob.is_complete), (sample.size(), sample.hash != partial.hash));
        let valid = group_ranges(0..1) | group_ranges(2..3);
        let expected = match sample.hash {
            hash if hash == damaged => Done::Wrong,
            hash if hash == partial.hash => Done::Ranges(RangeSpec::new(&valid)),
            _ => Done::Sound,
        };
        assert_eq!(blob.done, Some(expected));
        if sample.size() > trial.large() as u64 && blob.is_complete {
            assert_eq!(blob.offset, sample.size(), "its last offset is not its size");
        }
    }
    Ok(())
}

async fn validate_abort_event_on_fatal<S: Store + ScanBlobs>(_: &Trial<S>, store: S) -> Outcome {
    import(&store, &[Sample::new(1000)]).await?;
    store.shutdown().await?;
    let (report, events) = reported(&store).await;
    assert!(matches!(report, Err(Error::Closed)), "{report:?}");
    assert_eq!(events.last(), Some(&ValidateProgress::Abort(ErrorInfo::from(&Error::Closed))));
    Ok(())
}

/// Tells the last event that somebody takes.
type IsLast = fn(&ValidateProgress) -> bool;

/// Takes events until one comes that `is_last`, and then no more.
async fn take_until(mut events: Receiver<ValidateProgress>, is_last: impl Fn(&ValidateProgress) -> bool) {
    while let Some(event) = events.recv().await {
        if is_last(&event) {
            return;
        }
    }
}

async fn validate_receiver_dropped_stops_promptly<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    samples.push(Sample::new(VERY_LARGE));
    import(&store, &samples).await?;
    let lasts: [IsLast; 4] = [
        |_| true,
        |event| matches!(event, ValidateProgress::Entry { .. }),
        |event| matches!(event, ValidateProgress::EntryProgress { .. }),
        |event| matches!(event, ValidateProgress::EntryDone { .. }),
    ];
    for is_last in lasts {
        let (progress, events) = Progress::channel(1);
        let validating = validate(&store, ValidateOptions::default(), progress);
        let (report, ()) =
            timeout(PATIENCE, futures_lite::future::zip(validating, take_until(events, is_last))).await?;
        assert!(matches!(report, Err(Error::Cancelled)), "{report:?}");
    }
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

/// That nothing goes on or stays open is what every trial is looked at for.
async fn drop_future_at_every_await_validate<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let samples = [Sample::new(1000), Sample::new(100_000), Sample::numbered(trial.large(), 2)];
    import(&store, &samples).await?;
    Sample::numbered(100_000, 1).write(&store, &group_ranges(0..2)).await?;
    let validating = async || Ok(validated(&store).await?);
    let report = drop_at_every_await(validating, async || Ok(())).await?;
    assert!(report.is_clean(), "{report:?}");
    assert!(report.n_complete >= samples.len() as u64);
    Ok(())
}
