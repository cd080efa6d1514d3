//! Rounds that fail, are given up, or come one after another.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use blob_gc::{
    Event, GcConfig, GcError, GcExt, GcMarkEvent, GcOptions, GcReport, GcStore, collect, collect_protecting,
};
use blob_traits::{
    BlobFormat, Cancelled, Error, HashAndFormat, Import, ImportExt, ImportMode, Progress, Store, Sweep,
    SweepRound, WriteTags,
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::{all, assert_gone, assert_kept, import, samples, sweep, sweep_after, tag_raw};
use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "gc", for S: Store, Sweep;
    gc_empty_store_noop_callback_called,
    gc_events_frame_every_round,
    gc_protected_cb_error_aborts_round,
    gc_protected_cb_is_asked_after_acts_are_noted,
    gc_round_error_does_not_kill_loop,
    gc_collector_goes_on_after_its_first_failed_round,
    gc_done_callback_every_round_with_outcome,
    gc_failed_rounds_wait_twice_as_long,
    gc_drop_future_stops_promptly_no_half_batch,
    gc_refused_event_ends_the_round_before_the_sweep,
    gc_two_loops_serialised_or_refused,
    gc_round_can_begin_after_one_that_was_dropped,
    gc_deletes_external_reference_entry_never_the_users_file [needs References],
}

type Done = Result<GcReport, &'static str>;

/// Says how rounds of a loop end.
fn reporting(period: Duration) -> (GcConfig, UnboundedReceiver<(Instant, Done)>) {
    let (sender, receiver) = unbounded_channel();
    let mut config = GcConfig::new(period);
    config.options = all();
    config.done_callback = Some(Box::new(move |outcome: &Result<GcReport, GcError>| {
        let done = outcome.as_ref().copied().map_err(|error| match error {
            GcError::Protected(_) => "protected",
            GcError::MalformedSequence { .. } => "malformed",
            _ => "other",
        });
        let _ = sender.send((Instant::now(), done));
    }));
    (config, receiver)
}

/// Lets a loop run until it has done some rounds.
async fn first_rounds(
    running: impl Future<Output = ()>,
    mut done: UnboundedReceiver<(Instant, Done)>,
    n: usize,
) -> Result<Vec<(Instant, Done)>, Failure> {
    let gathered = async {
        let mut rounds = Vec::new();
        while rounds.len() < n {
            rounds.extend(done.recv().await);
        }
        Some(rounds)
    };
    let ended = async {
        running.await;
        None
    };
    let rounds = timeout(Duration::from_secs(10), futures_lite::future::or(gathered, ended)).await?;
    rounds.ok_or_else(|| "the loop has ended".into())
}

async fn nothing_else() -> Result<Vec<HashAndFormat>, Error> {
    Ok(Vec::new())
}

async fn gc_empty_store_noop_callback_called<S: GcStore>(_: &Trial<S>, store: S) -> Outcome {
    // Nothing is kept, and nothing could go: that is no reason to refuse.
    let report = collect(&store, GcOptions::default(), Progress::none()).await?;
    assert_eq!((report.n_roots, report.n_live, report.n_seen), (0, 0, 0));
    assert_eq!(report.swept, blob_traits::Swept::default());
    let (config, done) = reporting(Duration::from_millis(1));
    let rounds = first_rounds(store.gc_run(config, nothing_else), done, 1).await?;
    assert!(rounds.iter().all(|(_, done)| done.is_ok_and(|report| report.n_seen == 0)));
    Ok(())
}

async fn gc_events_frame_every_round<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    import(&store, &samples(3)).await?;
    let (progress, mut events) = Progress::channel(100);
    let report = collect(&store, all(), progress).await?;
    let mut gathered = Vec::new();
    while let Some(event) = events.recv().await {
        gathered.push(event);
    }
    assert_eq!(gathered.first(), Some(&Event::GcStarted));
    assert_eq!(gathered.get(1), Some(&Event::Mark(GcMarkEvent::Marked { n_live: 0 })));
    assert_eq!(gathered.last(), Some(&Event::GcCompleted(report)));
    Ok(())
}

async fn gc_protected_cb_error_aborts_round<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    let garbage = Sample::new(100);
    import(&store, [&garbage]).await?;
    let fails = async || Err("not now".into());
    let refused = collect_protecting(&store, all(), Progress::none(), fails).await;
    assert!(matches!(refused, Err(GcError::Protected(_))));
    assert_kept(&store, [&garbage]).await?;
    // The round is over.
    sweep(&store).await?;
    assert_gone(&store, [&garbage]).await
}

/// What the caller lets go of once it was asked, and takes into its hands otherwise before, is not lost between them.
async fn gc_protected_cb_is_asked_after_acts_are_noted<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100);
    import(&store, [&sample]).await?;
    let protect = async || {
        drop(store.temp_tag(HashAndFormat::raw(sample.hash)));
        Ok(Vec::new())
    };
    collect_protecting(&store, all(), Progress::none(), protect).await?;
    assert_kept(&store, [&sample]).await
}

async fn gc_round_error_does_not_kill_loop<S: GcStore + Import + WriteTags>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let malformed = Sample::new(33);
    import(&store, [&malformed]).await?;
    store.set_tag("seq".into(), Some(HashAndFormat::hash_seq(malformed.hash))).await?;
    let (config, done) = reporting(Duration::from_millis(1));
    let rounds = first_rounds(store.gc_run(config, nothing_else), done, 3).await?;
    assert!(rounds.iter().all(|(_, done)| matches!(done, Err("malformed"))));
    Ok(())
}

async fn gc_collector_goes_on_after_its_first_failed_round<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let garbage = Sample::new(100);
    import(&store, [&garbage]).await?;
    let n_asked = AtomicU32::new(0);
    let protected = || {
        let is_first = n_asked.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if is_first { Err(Error::Cancelled) } else { Ok(Vec::new()) } }
    };
    let (config, done) = reporting(Duration::from_millis(1));
    let rounds = first_rounds(store.gc_run(config, protected), done, 2).await?;
    let outcomes: Vec<_> =
        rounds.iter().map(|(_, done)| done.map(|report| report.swept.n_complete)).collect();
    assert_eq!(outcomes, [Err("protected"), Ok(1)]);
    assert_gone(&store, [&garbage]).await
}

async fn gc_done_callback_every_round_with_outcome<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    import(&store, &samples(2)).await?;
    let n_asked = AtomicU32::new(0);
    let protected = || {
        let fails = n_asked.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        async move { if fails { Err("not now") } else { Ok(Vec::new()) } }
    };
    let (config, done) = reporting(Duration::from_millis(1));
    let rounds = first_rounds(store.gc_run(config, protected), done, 4).await?;
    let outcomes: Vec<_> =
        rounds.iter().map(|(_, done)| done.map(|report| report.swept.n_complete)).collect();
    assert_eq!(outcomes, [Ok(2), Err("protected"), Ok(0), Err("protected")]);
    Ok(())
}

async fn gc_failed_rounds_wait_twice_as_long<S: GcStore>(_: &Trial<S>, store: S) -> Outcome {
    let period = Duration::from_millis(4);
    let n_asked = AtomicU32::new(0);
    let protected = || {
        let fails = n_asked.fetch_add(1, Ordering::Relaxed) < 4;
        async move { if fails { Err("not now") } else { Ok(Vec::new()) } }
    };
    let begun = Instant::now();
    let (config, done) = reporting(period);
    let rounds = first_rounds(store.gc_run(config, protected), done, 6).await?;
    let ends: Vec<_> = [begun].into_iter().chain(rounds.iter().map(|(at, _)| *at)).collect();
    let gaps = ends.iter().zip(ends.iter().skip(1)).map(|(from, to)| to.duration_since(*from));
    // The timer is exact to a millisecond. The last is shorter again, which a busy machine may hide.
    for (gap, n_periods) in gaps.zip([1, 2, 4, 8, 16, 1]) {
        assert!(gap + Duration::from_millis(1) >= period * n_periods, "{gap:?} for {n_periods} periods");
    }
    Ok(())
}

async fn gc_drop_future_stops_promptly_no_half_batch<S: GcStore + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    let (live, garbage) = (Sample::numbered(100, 999), samples(20));
    let pin = live.import(&store).await?;
    for _ in 0..10 {
        import(&store, &garbage).await?;
        let limit = Duration::from_micros(dice.below(2000));
        let _ = timeout(limit, collect(&store, all(), Progress::none())).await;
        quiet(&store).await?;
        assert_kept(&store, [&live]).await?;
        let mut n_there = 0;
        for sample in &garbage {
            n_there += usize::from(store.get(&sample.hash).await?.is_some());
        }
        assert!(n_there == 0 || n_there == garbage.len(), "{n_there} of a batch are there");
    }
    sweep(&store).await?;
    assert_gone(&store, &garbage).await?;
    drop(pin);
    Ok(())
}

/// Waits until no round runs: one that nobody waits for ends with its batch.
async fn quiet<S: Sweep>(store: &S) -> Outcome {
    for _ in 0..2000 {
        match store.begin_sweep().await {
            Ok(_) => return Ok(()),
            Err(Error::SweepInProgress) => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(other) => return Err(other.into()),
        }
    }
    Err("a round that was dropped does not end".into())
}

async fn gc_refused_event_ends_the_round_before_the_sweep<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let garbage = Sample::new(100);
    import(&store, [&garbage]).await?;
    let progress = Progress::from_fn(|event| match event {
        Event::Mark(_) => Err(Cancelled),
        _ => Ok(()),
    });
    let ended = collect(&store, all(), progress).await;
    assert!(matches!(ended, Err(GcError::Store(Error::Cancelled))));
    assert_kept(&store, [&garbage]).await?;
    sweep(&store).await?;
    assert_gone(&store, [&garbage]).await
}

async fn gc_two_loops_serialised_or_refused<S: GcStore + Import>(_: &Trial<S>, store: S) -> Outcome {
    let garbage = Sample::new(100);
    import(&store, [&garbage]).await?;
    let second = async || {
        let refused = sweep(&store).await;
        assert!(matches!(refused, Err(GcError::Store(Error::SweepInProgress))));
        assert!(matches!(store.begin_sweep().await, Err(Error::SweepInProgress)));
        Ok(())
    };
    sweep_after(&store, second).await??;
    assert_gone(&store, [&garbage]).await
}

async fn gc_round_can_begin_after_one_that_was_dropped<S: GcStore + Import>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let [first, second] = [1, 2].map(|number| Sample::numbered(100, number));
    import(&store, [&first, &second]).await?;
    let round = store.begin_sweep().await?;
    round.sweep(vec![first.hash]).await?;
    // What a round has noted is its own.
    drop(store.temp_tag(HashAndFormat::raw(second.hash)));
    drop(round);
    assert_gone(&store, [&first]).await?;
    store.begin_sweep().await?.sweep(vec![second.hash]).await?;
    assert_gone(&store, [&second]).await
}

async fn gc_deletes_external_reference_entry_never_the_users_file<S: GcStore + Import + WriteTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let [garbage, live] = [1, 2].map(|number| Sample::numbered(trial.large(), number));
    for (name, sample) in [("garbage", &garbage), ("live", &live)] {
        let path = trial.user_file(name, &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?);
    }
    tag_raw(&store, "live", &live).await?;
    let report = sweep(&store).await?;
    assert_gone(&store, [&garbage]).await?;
    assert_kept(&store, [&live]).await?;
    assert_eq!(std::fs::read(trial.user("garbage"))?, garbage.data);
    assert_eq!(report.swept.logical_bytes, garbage.size());
    // Its space is the user's.
    assert!(report.swept.freed_bytes + report.swept.pending_bytes < garbage.size() / 2);
    Ok(())
}
