//! Processes that are killed while they work.

use std::time::{Duration, Instant};

use blob_traits::{
    BaoBatchWriter, BlobFormat, EntryStatus, HashAndFormat, ImportSource, MapEntryMut, Progress, Store, Tag,
    bao_tree::ChunkRanges, collect,
};

use crate::{
    Dice, Failure, Home, Kill, Outcome, Sample, Trial, Victim,
    case::group,
    group_ranges,
    ledger::{Has, Ledger, everything_verifies},
};

group! {
    "crash", for S: Store;
    acked_import_survives_kill [needs Persistence Durability],
    acked_import_with_tag_survives_kill [needs Persistence Durability],
    acked_tag_survives_kill [needs Persistence Durability],
    acked_sync_of_partial_survives_kill [needs Persistence Durability],
    acked_promotion_survives_kill [needs Persistence Durability],
    acked_delete_survives_kill [needs Persistence Durability],
    status_complete_implies_bytes_verify_after_kill [needs Persistence Durability],
    kill_during_export_leaves_the_target_whole_or_absent [needs Persistence Durability],
    kill_during_first_create_reopens [needs Persistence Durability],
    kill_during_open_recovery_reopens [needs Persistence Durability],
}

const ROUNDS: u64 = 3;
/// More than a process gets done before it is killed.
const MANY: u64 = 10_000;

/// The blob that number `number` of a round is about.
fn sample<S: Clone>(trial: &Trial<S>, round: u64, number: u64) -> Sample {
    let sizes = trial.ways();
    let size = usize::try_from(number).ok().and_then(|n| sizes.get(n % sizes.len()));
    Sample::numbered(size.copied().unwrap_or(1000), (round << 32) + number)
}

fn after_some(dice: &mut Dice, round: u64) -> Kill {
    let after = 1 + dice.index(8);
    Kill { round, after, delay: Duration::from_micros(dice.below(3000)) }
}

/// Rounds of a case in which the victim does one thing after the other, and acknowledges the number of each.
///
/// `note` writes down what holds once number n of a round was acknowledged, and what may hold of the first that was not.
async fn rounds<S: Store>(
    trial: &Trial<S>,
    store: S,
    work: impl AsyncFn(&S, u64, u64) -> Outcome,
    note: impl Fn(&mut Ledger, u64, u64, Acked),
) -> Outcome {
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        for number in 0..MANY {
            work(&store, victim.round, number).await?;
            victim.acknowledge(&number.to_string())?;
        }
        return Ok(());
    }
    drop(store);
    let (home, mut ledger, mut dice) = (trial.other_home("killed"), Ledger::default(), trial.dice());
    for round in 0..ROUNDS {
        let acked = trial.run_and_kill(&home, &after_some(&mut dice, round))?.len() as u64;
        (0..acked).for_each(|number| note(&mut ledger, round, number, Acked::Yes));
        note(&mut ledger, round, acked, Acked::Perhaps);
        let store = trial.open(&home).await?;
        ledger.settle(&store).await?;
        ledger.check_all(&store).await?;
        trial.abandon(store);
    }
    Ok(())
}

/// Whether an operation was acknowledged, or may have been under way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Acked {
    Yes,
    Perhaps,
}

impl Acked {
    fn note(self, ledger: &mut Ledger, sample: &Sample, has: Has) {
        match self {
            Self::Yes => ledger.is(sample, has),
            Self::Perhaps => ledger.may_be(sample, has),
        }
    }

    fn note_tag(self, ledger: &mut Ledger, tag: &Tag, content: HashAndFormat) {
        match self {
            Self::Yes => ledger.tag(tag, Some(content), &Ok(())),
            Self::Perhaps => ledger.tag::<()>(tag, Some(content), &Err(blob_traits::Error::Cancelled)),
        }
    }
}

async fn acked_import_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let work = async |store: &S, round, number| {
        sample(trial, round, number).import(store).await?;
        Ok(())
    };
    rounds(trial, store, work, |ledger, round, number, acked| {
        acked.note(ledger, &sample(trial, round, number), Has::Complete);
    })
    .await
}

async fn acked_import_with_tag_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let name = |round, number| Tag::from(format!("{round}/{number}"));
    let work = async |store: &S, round, number| {
        let source = ImportSource::Bytes(sample(trial, round, number).data);
        store.import_tagged(source, BlobFormat::Raw, name(round, number), Progress::none()).await?;
        Ok(())
    };
    let home = trial.other_home("killed");
    let is_victim = trial.victim().is_some();
    rounds(trial, store, work, |ledger, round, number, acked| {
        let sample = sample(trial, round, number);
        acked.note(ledger, &sample, Has::Complete);
        acked.note_tag(ledger, &name(round, number), HashAndFormat::raw(sample.hash));
    })
    .await?;
    if is_victim {
        return Ok(());
    }
    let store = trial.open(&home).await?;
    let (tags, blobs) = (collect(store.tags(..).await?).await?, collect(store.blobs().await?).await?);
    assert_eq!(tags.len(), blobs.len(), "a blob came without its tag, or a tag without its blob");
    Ok(())
}

/// The same tag all the time: what was acknowledged is not undone, neither by the kill nor by the one before.
async fn acked_tag_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let (tag, content) = (Tag::from("tag"), |round, number| {
        HashAndFormat::hash_seq(Sample::numbered(10, (round << 32) + number).hash)
    });
    let work = async |store: &S, round, number| {
        Ok(store.set_tag("tag".into(), Some(content(round, number))).await?)
    };
    rounds(trial, store, work, |ledger, round, number, acked| {
        acked.note_tag(ledger, &tag, content(round, number));
    })
    .await
}

/// Blobs of 4 groups and more, the first two of which are written and synced.
fn partial_sample(round: u64, number: u64) -> Sample {
    Sample::numbered(if number.is_multiple_of(2) { 60_000 } else { 300_000 }, (round << 32) + number)
}

async fn acked_sync_of_partial_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let work = async |store: &S, round, number| {
        let sample = partial_sample(round, number);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&group_ranges(0..2))).await?;
        Ok(writer.sync().await?)
    };
    rounds(trial, store, work, |ledger, round, number, acked| {
        let least = if acked == Acked::Yes { group_ranges(0..2) } else { ChunkRanges::empty() };
        acked.note(ledger, &partial_sample(round, number), Has::Partial(least));
    })
    .await
}

async fn acked_promotion_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let work = async |store: &S, round, number| {
        let sample = partial_sample(round, number);
        sample.write(store, &group_ranges(1..4)).await?;
        sample.write(store, &ChunkRanges::all()).await?;
        let entry = store.get_mut(&sample.hash).await?.ok_or("it is gone")?;
        Ok(store.insert_complete(entry).await?)
    };
    rounds(trial, store, work, |ledger, round, number, acked| {
        let sample = partial_sample(round, number);
        acked.note(ledger, &sample, Has::Complete);
        if acked == Acked::Perhaps {
            ledger.may_be(&sample, Has::Partial(ChunkRanges::empty()));
        }
    })
    .await
}

async fn acked_delete_survives_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let work = async |store: &S, round, number| {
        let sample = sample(trial, round, number);
        sample.import(store).await?;
        Ok(store.delete(vec![sample.hash]).await?)
    };
    rounds(trial, store, work, |ledger, round, number, acked| {
        let sample = sample(trial, round, number);
        acked.note(ledger, &sample, Has::Nothing);
        if acked == Acked::Perhaps {
            ledger.may_be(&sample, Has::Complete);
        }
    })
    .await
}

/// One of several tasks that do different things in the same store.
async fn mixed_work<S: Store>(store: S, sample: impl Fn(u64) -> Sample, task: u64) -> Outcome {
    for number in 0..MANY {
        let sample = sample(number);
        match task {
            0 => drop(sample.import(&store).await?),
            1 => {
                let (all, stream) = (ChunkRanges::all(), sample.encode(&ChunkRanges::all()));
                store.import_bao(sample.hash, sample.size(), all, stream).await?;
            }
            2 => {
                sample.import(&store).await?;
                store.delete(vec![sample.hash]).await?;
            }
            _ => {
                sample.write(&store, &group_ranges(0..1)).await?;
                store.sync().await?;
            }
        }
    }
    Ok(())
}

async fn status_complete_implies_bytes_verify_after_kill<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        victim.acknowledge("open")?;
        let work = |task| {
            let sample = move |number| sample(trial, victim.round * 4 + task, number);
            mixed_work(store.clone(), sample, task)
        };
        let both = futures_lite::future::try_zip(work(0), work(1));
        futures_lite::future::try_zip(both, futures_lite::future::try_zip(work(2), work(3))).await?;
        return Ok(());
    }
    drop(store);
    let (home, mut dice) = (trial.other_home("killed"), trial.dice());
    for round in 0..ROUNDS {
        let delay = Duration::from_micros(dice.below(30_000));
        trial.run_and_kill(&home, &Kill { round, after: 1, delay })?;
        let store = trial.open(&home).await?;
        everything_verifies(&store).await?;
        trial.abandon(store);
    }
    Ok(())
}

async fn kill_during_export_leaves_the_target_whole_or_absent<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (home, sample) = (trial.other_home("killed"), Sample::new(trial.large()));
    let targets = |home: &Home| home.dir().with_file_name("user");
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        for number in 0..MANY {
            let target = targets(&victim.home()).join(format!("{}-{number}", victim.round));
            store.export(sample.hash, target, blob_traits::ExportMode::Copy, Progress::none()).await?;
            victim.acknowledge(&number.to_string())?;
        }
        return Ok(());
    }
    drop(store);
    let prepared = trial.open(&home).await?;
    sample.import(&prepared).await?;
    trial.abandon(prepared);
    let mut dice = trial.dice();
    for round in 0..ROUNDS {
        let acked = trial.run_and_kill(&home, &after_some(&mut dice, round))?.len();
        for number in 0..=acked {
            match std::fs::read(targets(&home).join(format!("{round}-{number}"))) {
                Ok(bytes) => assert!(bytes == sample.data, "{number} is not whole"),
                Err(_) => assert_eq!(number, acked, "an export that was acknowledged is gone"),
            }
        }
    }
    let store = trial.open(&home).await?;
    everything_verifies(&store).await?;
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    Ok(())
}

/// What the victim does while it is opening: it says so, opens, and goes.
async fn open_as_victim<S: Store>(trial: &Trial<S>, victim: &Victim) -> Outcome {
    victim.acknowledge("begin")?;
    let store = trial.open(&victim.home()).await?;
    trial.abandon(store);
    Ok(())
}

async fn kill_during_first_create_reopens<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    if let Some(victim) = trial.victim() {
        return open_as_victim(trial, &victim).await;
    }
    drop(store);
    let begun = Instant::now();
    trial.open(&trial.other_home("measured")).await?;
    let took = u64::try_from(begun.elapsed().as_micros())?;
    let (mut dice, sample) = (trial.dice(), Sample::new(trial.large()));
    for round in 0..ROUNDS {
        let home = trial.other_home(&format!("killed-{round}"));
        let delay = Duration::from_micros(dice.below(took));
        trial.run_and_kill(&home, &Kill { round, after: 1, delay })?;
        let store = trial.open(&home).await?;
        assert_eq!(collect(store.tags(..).await?).await?, []);
        sample.import(&store).await?;
        trial.abandon(store);
        let store = trial.open(&home).await?;
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        trial.abandon(store);
    }
    Ok(())
}

/// A kill at work, and one more at each of two openings after it.
async fn kill_during_open_recovery_reopens<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    const WORK: u64 = 1000;
    if let Some(victim) = trial.victim() {
        if victim.round < WORK {
            return open_as_victim(trial, &victim).await;
        }
        let store = trial.open(&victim.home()).await?;
        for number in 0..MANY {
            sample(trial, victim.round, number).import(&store).await?;
            victim.acknowledge(&number.to_string())?;
        }
        return Ok(());
    }
    drop(store);
    let (home, mut dice, mut ledger) = (trial.other_home("killed"), trial.dice(), Ledger::default());
    for round in 0..2 {
        let acked = trial.run_and_kill(&home, &after_some(&mut dice, WORK + round))?.len() as u64;
        (0..acked).for_each(|number| ledger.is(&sample(trial, WORK + round, number), Has::Complete));
        ledger.may_be(&sample(trial, WORK + round, acked), Has::Complete);
        for opening in 0..2 {
            let delay = Duration::from_micros(dice.below(10_000));
            trial.run_and_kill(&home, &Kill { round: opening, after: 1, delay })?;
        }
        let store = trial.open(&home).await?;
        ledger.settle(&store).await?;
        ledger.check_all(&store).await?;
        trial.abandon(store);
    }
    Ok::<_, Failure>(())
}
