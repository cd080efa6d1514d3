//! Repair that is dropped, killed, or fails on its way: what it has not done, the next one does.

use std::{
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use blob_traits::{BlobStatus, EntryStatus, Error, FullStore, Hash, Map, MapExt, Progress};
use blob_validate::{BaoStream, Outcome as Left, RepairProgress, Source, ValidateProgress, repair};

use super::{assert_complete, import, repaired, validated, with_sources};
use crate::{
    Fault, GROUP, Kill, Lasts, Operations, Outcome, Sample, Trial,
    case::group,
    drop_at_every_await,
    harm::{Harm, Harmful, harmed, harmed_in},
    harmed::Harmed,
    ledger::everything_verifies,
};

group! {
    "validate_repair", for S: FullStore;
    repair_event_grammar,
    repair_receiver_dropped_stops_promptly,
    repair_drop_future_at_every_await,
    repair_kill_at_every_io_op_idempotent [needs Faults Persistence Durability],
    repair_that_fails_at_any_io_op_is_finished_by_the_next [needs Faults Persistence Durability],
    repair_killed_at_any_time_is_finished_by_the_next [needs Files Persistence Durability],
}

/// No repair of these cases does more operations of one kind.
const MOST: u64 = 300;

/// Everybody has these blobs.
fn from_memory(samples: &[Sample]) -> Source {
    let samples = samples.to_vec();
    Source::stream("memory", move |hash, _, ranges| {
        let sample = samples.iter().find(|sample| sample.hash == hash).cloned();
        async move { Ok(sample.map(|sample| Box::new(Cursor::new(sample.encode(&ranges))) as BaoStream)) }
    })
}

/// A small blob and one in files, each damaged in its first chunk group; and one with a damaged tree.
fn harms(trial: &Trial<impl Clone>, number: u64) -> Vec<Harmful> {
    let size = trial.ways().into_iter().find(|size| *size >= 100_000).unwrap_or(100_000);
    let [small, large, other] =
        [(1000, 0), (size, 0), (size, 1)].map(|(size, which)| Sample::numbered(size, 2 * number + which));
    vec![
        Harmful::data(&small, Harm::Flipped(0)),
        Harmful::data(&large, Harm::Flipped(7)),
        Harmful::tree(&other, Harm::Flipped(0)),
    ]
}

fn samples(harms: &[Harmful]) -> Vec<Sample> {
    harms.iter().map(|harm| harm.sample.clone()).collect()
}

/// What is sound of these blobs is there, and nothing else is said to be.
async fn assert_sound_is_kept<S: Map + BlobStatus>(store: &S, harms: &[Harmful]) -> Outcome {
    for harm in harms {
        let sample = &harm.sample;
        let present = store.present_ranges(&sample.hash).await?.ok_or("a blob is gone")?;
        let present = present & sample.all_chunks();
        let sound = sample.all_chunks() - harm.hit();
        assert!(sound.is_subset(&present), "{present:?} of {}", sample.size());
        if store.entry_status(&sample.hash).await? == EntryStatus::Partial {
            let stream = store.export_bao(sample.hash, present.clone(), Vec::new()).await?;
            assert!(stream == sample.encode(&present), "it has other bytes");
        }
    }
    Ok(())
}

async fn repair_event_grammar<S: FullStore>(_: &Trial<S>, store: S) -> Outcome {
    let samples: Vec<_> = [1000, 100_000, 200_000].map(Sample::new).into();
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    let (found, unhelped) = samples.split_at(2);
    for sample in &samples {
        store.harm(&Harmful::data(sample, Harm::Flipped(0)));
    }
    let events = Arc::new(Mutex::new(Vec::new()));
    let to = events.clone();
    let progress = Progress::from_fn(move |event| {
        to.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        Ok(())
    });
    let options = with_sources(vec![from_memory(found)]);
    let report = repair(&store, options, progress).await?;
    let events = std::mem::take(&mut *events.lock().unwrap_or_else(PoisonError::into_inner));
    let n_looked = events.iter().take_while(|event| matches!(event, RepairProgress::Validate(_))).count();
    let (looked, repairing) = events.split_at(n_looked);
    assert_eq!(looked.last(), Some(&RepairProgress::Validate(ValidateProgress::AllDone)));
    // For each blob: Repairing, Fetched some times, Repaired.
    let mut current: Option<(u64, Hash, u64)> = None;
    let mut done = Vec::new();
    for event in repairing {
        current = match (event, current) {
            (RepairProgress::Repairing { id, hash, n_lost }, None) => {
                let sample = samples.iter().find(|sample| sample.hash == *hash).ok_or("who is that?")?;
                assert_eq!(*n_lost, sample.size().min(GROUP));
                Some((*id, *hash, 0))
            }
            (RepairProgress::Fetched { id, n_bytes }, Some((current, hash, before))) => {
                assert!(*id == current && *n_bytes >= before);
                Some((current, hash, *n_bytes))
            }
            (RepairProgress::Repaired { id, outcome }, Some((current, hash, _))) => {
                assert_eq!(*id, current);
                done.push((hash, outcome.clone()));
                None
            }
            (other, current) => return Err(format!("{other:?} after {current:?}").into()),
        };
    }
    assert!(current.is_none(), "a repair has no end");
    let reported: Vec<_> = report.blobs.iter().map(|blob| (blob.hash, blob.outcome.clone())).collect();
    assert_eq!(done, reported);
    let is_unhelped = |hash: &Hash| unhelped.iter().any(|sample| sample.hash == *hash);
    assert!(done.iter().all(|(hash, left)| (*left == Left::Complete) != is_unhelped(hash)), "{done:?}");
    Ok(())
}

async fn repair_receiver_dropped_stops_promptly<S: FullStore>(_: &Trial<S>, store: S) -> Outcome {
    type IsLast = fn(&RepairProgress) -> bool;
    let lasts: [IsLast; 4] = [
        |_| true,
        |event| matches!(event, RepairProgress::Validate(ValidateProgress::AllDone)),
        |event| matches!(event, RepairProgress::Repairing { .. }),
        |event| matches!(event, RepairProgress::Repaired { .. }),
    ];
    let store = Harmed::new(store);
    for (number, is_last) in (0..).zip(lasts) {
        let samples: Vec<_> = (0..4).map(|which| Sample::numbered(50_000, 10 * number + which)).collect();
        import(store.inner(), &samples).await?;
        for sample in &samples {
            store.harm(&Harmful::data(sample, Harm::Flipped(0)));
        }
        let (progress, mut events) = Progress::channel(1);
        let options = with_sources(vec![from_memory(&samples)]);
        let taking = async {
            while let Some(event) = events.recv().await {
                if is_last(&event) {
                    break;
                }
            }
            drop(events);
        };
        let (report, ()) = futures_lite::future::zip(repair(&store, options, progress), taking).await;
        assert!(matches!(report, Err(Error::Cancelled)), "{report:?}");
        // The next one finds what is left.
        repaired(&store, vec![from_memory(&samples)]).await?;
        for sample in &samples {
            assert_complete(&store, sample).await?;
        }
    }
    Ok(())
}

async fn repair_drop_future_at_every_await<S: FullStore>(_: &Trial<S>, store: S) -> Outcome {
    let harms: Vec<_> = [1000, 50_000].map(|size| Harmful::data(&Sample::new(size), Harm::Flipped(0))).into();
    let samples = samples(&harms);
    let store = Harmed::new(store);
    let harm_again = async || {
        store.heal();
        import(store.inner(), &samples).await?;
        for harm in &harms {
            store.harm(harm);
        }
        Outcome::Ok(())
    };
    harm_again().await?;
    let repairing = async || Ok(repaired(&store, vec![from_memory(&samples)]).await?);
    let check = async || {
        // What was taken back may not read as harmed any more, and what was not may be taken back yet.
        store.heal();
        assert_sound_is_kept(store.inner(), &harms).await?;
        let report = repaired(store.inner(), vec![from_memory(&samples)]).await?;
        assert!(report.is_clean(), "{report:?}");
        harm_again().await
    };
    let report = drop_at_every_await(repairing, check).await?;
    assert!(report.is_clean(), "{report:?}");
    for sample in &samples {
        assert_complete(&store, sample).await?;
    }
    Ok(())
}

/// Lets operation 1, 2, 3, ... of a repair fail; ends the store as a kill would; and repairs again.
async fn fail_at_every_op<S: FullStore>(trial: &Trial<S>, mut store: S, lasts: Lasts) -> Outcome {
    let (faults, mut number) = (trial.faults()?, 0);
    for what in [Operations::Writes, Operations::Syncs] {
        let mut n_fired = 0;
        for at in 1..=MOST {
            number += 1;
            let harms = harms(trial, number);
            let samples = samples(&harms);
            import(&store, &samples).await?;
            let harmed = harmed(trial, store, &harms).await?;
            faults.arm(Fault { at, what, lasts, errno: 5 });
            let report = repaired(&harmed, vec![from_memory(&samples)]).await;
            let has_fired = faults.has_fired();
            trial.abandon(harmed.into_inner());
            faults.disarm();
            store = trial.open_when_free(trial.home()).await?;
            if !has_fired {
                assert!(report?.is_clean(), "nothing failed");
            }
            assert_sound_is_kept(&store, &harms).await.map_err(|e| format!("{what:?} {at}: {e:?}"))?;
            let report = repaired(&store, vec![from_memory(&samples)]).await?;
            assert!(report.is_clean(), "{what:?} {at}: {report:?}");
            for sample in &samples {
                assert_complete(&store, sample).await?;
            }
            store.delete(samples.iter().map(|sample| sample.hash).collect()).await?;
            if !has_fired {
                break;
            }
            n_fired += 1;
        }
        assert!((1..MOST).contains(&n_fired), "{n_fired} operations failed");
    }
    assert!(validated(&store).await?.is_clean());
    everything_verifies(&store).await
}

/// From one operation on nothing gets through any more, as if the process had ended there.
async fn repair_kill_at_every_io_op_idempotent<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    fail_at_every_op(trial, store, Lasts::UntilDisarmed).await
}

async fn repair_that_fails_at_any_io_op_is_finished_by_the_next<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    fail_at_every_op(trial, store, Lasts::Once).await
}

async fn repair_killed_at_any_time_is_finished_by_the_next<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let all = |round| (0..8).flat_map(|which| harms(trial, 16 * round + 2 * which)).collect::<Vec<_>>();
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        victim.acknowledge("begin")?;
        repaired(&store, vec![from_memory(&samples(&all(victim.round)))]).await?;
        return Ok(());
    }
    drop(store);
    let (home, mut dice) = (trial.other_home("killed"), trial.dice());
    for round in 0..4 {
        let harms = all(round);
        let samples = samples(&harms);
        let store = trial.open(&home).await?;
        import(&store, &samples).await?;
        let store = harmed_in(trial, &home, store, &harms).await?.into_inner();
        store.shutdown().await?;
        trial.abandon(store);
        let delay = Duration::from_micros(dice.below(30_000));
        trial.run_and_kill(&home, &Kill { round, after: 1, delay })?;
        let store = trial.open(&home).await?;
        assert_sound_is_kept(&store, &harms).await?;
        let report = repaired(&store, vec![from_memory(&samples)]).await?;
        assert!(report.is_clean(), "{report:?}");
        for sample in &samples {
            assert_complete(&store, sample).await?;
        }
        store.shutdown().await?;
        trial.abandon(store);
    }
    Ok(())
}
