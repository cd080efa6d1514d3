//! Repair that is dropped, killed, or fails on its way: what it has not done, the next one does.

use std::{
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
};

use blob_traits::{BlobStatus, EntryStatus, Error, FullStore, Hash, Map, MapExt, Progress};
use blob_validate::{BaoStream, Outcome as Left, RepairProgress, Source, ValidateProgress, repair};

use super::{assert_complete, import, repaired, validated, with_sources};
use crate::{
    Failure, GROUP, Home, Lasts, Outcome, Sample, Trial,
    case::group,
    drop_at_every_await,
    harm::{Harm, Harmful, harmed_in},
    harmed::Harmed,
    interrupted::{Work, fail_at_every_op, kill_at_any_time},
    ledger::everything_verifies,
};

group! {
    "validate_repair", for S: FullStore;
    repair_event_grammar,
    repair_receiver_dropped_stops_promptly,
    repair_drop_future_at_every_await,
    repair_kill_at_every_io_op_idempotent [needs Faults Files Persistence Durability],
    repair_that_fails_at_any_io_op_is_finished_by_the_next [needs Faults Files Persistence Durability],
    repair_killed_at_any_time_is_finished_by_the_next [needs Files Persistence Durability],
}

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

/// Repairs that everybody helps with.
struct Repairing<'a, S> {
    trial: &'a Trial<S>,
    /// How many times three blobs are harmed for each of them.
    n_harms: u64,
}

impl<S: FullStore> Work<S> for Repairing<'_, S> {
    type Scene = Vec<Harmful>;

    fn scene(&self, number: u64) -> Vec<Harmful> {
        (0..self.n_harms).flat_map(|which| harms(self.trial, number * self.n_harms + which)).collect()
    }

    async fn set_up(&self, home: &Home, store: S, scene: &Vec<Harmful>) -> Result<S, Failure> {
        import(&store, &samples(scene)).await?;
        Ok(harmed_in(self.trial, home, store, scene).await?.into_inner())
    }

    async fn act(&self, store: &S, scene: &Vec<Harmful>) -> Outcome {
        let report = repaired(store, vec![from_memory(&samples(scene))]).await?;
        if report.is_clean() { Ok(()) } else { Err(format!("{report:?}").into()) }
    }

    async fn check(&self, store: &S, scene: &Vec<Harmful>) -> Outcome {
        assert_sound_is_kept(store, scene).await?;
        self.act(store, scene).await?;
        let samples = samples(scene);
        for sample in &samples {
            assert_complete(store, sample).await?;
        }
        Ok(store.delete(samples.iter().map(|sample| sample.hash).collect()).await?)
    }
}

async fn fail_repair_at_every_op<S: FullStore>(trial: &Trial<S>, store: S, lasts: Lasts) -> Outcome {
    let store = fail_at_every_op(trial, store, lasts, &Repairing { trial, n_harms: 1 }).await?;
    assert!(validated(&store).await?.is_clean());
    everything_verifies(&store).await
}

async fn repair_kill_at_every_io_op_idempotent<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    fail_repair_at_every_op(trial, store, Lasts::UntilDisarmed).await
}

async fn repair_that_fails_at_any_io_op_is_finished_by_the_next<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    fail_repair_at_every_op(trial, store, Lasts::Once).await
}

async fn repair_killed_at_any_time_is_finished_by_the_next<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    kill_at_any_time(trial, store, &Repairing { trial, n_harms: 8 }).await
}
