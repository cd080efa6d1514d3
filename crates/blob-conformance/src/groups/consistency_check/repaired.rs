//! Check and repair one after the other, over damage of files as a whole.

use std::fs;

use blob_traits::{CheckMode, EntryStatus, FullStore, Progress};
use blob_validate::RepairOptions;
use proptest::{collection::vec, prelude::any};

use super::troubles;
use crate::{
    Dice, GROUP, Outcome, Sample, Trial,
    case::group,
    copied::Copied,
    group_ranges,
    harm::{Harm, Harmful, harmed_in},
    ledger::everything_verifies,
};

group! {
    "consistency_check", for S: FullStore;
    cc_repair_idempotent_second_run_clean [needs Files Persistence],
    cc_random_file_level_damage_then_repair_then_all_readable_entries_valid [needs Files Persistence],
    cc_db_corruption_reported_not_panic [needs Files Persistence],
}

/// How often a case is played.
const N: u32 = 4;

async fn cc_repair_idempotent_second_run_clean<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    drop(store);
    let mut number = 0;
    trial
        .for_all(N, vec((0..6_u8, any::<bool>()), 1..5), async |kinds| {
            number += 1;
            let home = trial.other_home(&number.to_string());
            let store = trial.open(&home).await?;
            let mut harms = Vec::new();
            for (which, (kind, is_tree)) in (0..).zip(kinds) {
                let sample = Sample::numbered(trial.large(), which);
                drop(sample.import(&store).await?);
                let harm = match kind {
                    0 => Harm::Lost,
                    1 => Harm::Cut(0),
                    2 => Harm::Cut(GROUP / 2 + 1),
                    3 => Harm::Extended(77),
                    _ => Harm::Flipped(9),
                };
                harms.push(if is_tree { Harmful::tree(&sample, harm) } else { Harmful::data(&sample, harm) });
            }
            Sample::numbered(trial.large(), 100).write(&store, &group_ranges(0..2)).await?;
            let store = harmed_in(trial, &home, store, &harms).await?.into_inner();
            troubles(&store, CheckMode::Repair).await?;
            for mode in [CheckMode::Report, CheckMode::Repair, CheckMode::Report] {
                assert_eq!(troubles(&store, mode).await?, []);
            }
            store.shutdown().await?;
            trial.abandon(store);
            Ok(())
        })
        .await
}

/// What somebody does to a file without looking what it is.
fn tamper(dice: &mut Dice, copy: &Copied, dir: &std::path::Path) -> std::io::Result<()> {
    let (Some((path, bytes)), Some((other, _))) = (dice.pick(&copy.0), dice.pick(&copy.0)) else {
        return Ok(());
    };
    let (path, other) = (dir.join(path), dir.join(other));
    let len = bytes.len() as u64;
    let harm = match dice.below(6) {
        0 => return if path.exists() { fs::remove_file(path) } else { Ok(()) },
        1 if path.exists() && other.exists() => {
            let kept = fs::read(&path)?;
            fs::copy(&other, &path)?;
            return fs::write(other, kept);
        }
        2 => Harm::Cut(dice.below(len)),
        3 => Harm::Extended(dice.index(20_000)),
        4 => {
            let start = dice.below(len);
            Harm::Zeroed(start..start + dice.below(20_000))
        }
        _ => Harm::Flipped(dice.below(len)),
    };
    fs::write(path, harm.applied(bytes).unwrap_or_default())
}

async fn cc_random_file_level_damage_then_repair_then_all_readable_entries_valid<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        drop(Sample::new(size).import(&store).await?);
        Sample::numbered(size + 20_000, 1).write(&store, &group_ranges(0..1)).await?;
    }
    store.sync().await?;
    let store = trial.reopen(store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    // A library below the store may panic, where the store makes an error of it.
    trial.expect_panics();
    let (dir, mut dice) = (trial.home().dir().to_owned(), trial.dice());
    let copy = Copied::of(&dir)?;
    for _ in 0..3 * N {
        copy.put_back(&dir)?;
        for _ in 0..=dice.below(3) {
            tamper(&mut dice, &copy, &dir)?;
        }
        // It may refuse; what it opens, it mends.
        let Ok(store) = trial.open_when_free(trial.home()).await else { continue };
        let checked = troubles(&store, CheckMode::Repair).await;
        let repaired = blob_validate::repair(&store, RepairOptions::default(), Progress::none()).await;
        if checked.is_ok() && repaired.is_ok_and(|report| report.found.failed.is_empty()) {
            everything_verifies(&store).await?;
        }
        let _ = store.shutdown().await;
        trial.abandon(store);
    }
    copy.put_back(&dir)?;
    Ok(())
}

/// The files that hold nothing of their own: whatever happens to them, nothing is lost.
async fn cc_db_corruption_reported_not_panic<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        drop(sample.import(&store).await?);
    }
    store.shutdown().await?;
    trial.abandon(store);
    trial.expect_panics();
    let (dir, mut dice) = (trial.home().dir().to_owned(), trial.dice());
    let (copy, derived) = (Copied::of(&dir)?, trial.derived(trial.home())?);
    for round in 0..8 {
        copy.put_back(&dir)?;
        for path in &derived {
            let mut bytes = fs::read(path)?;
            let (at, len) = (dice.index(bytes.len()), if round % 2 == 0 { 64 } else { 8192 });
            let noise = dice.bytes(len);
            bytes.iter_mut().skip(at).zip(noise).for_each(|(byte, new)| *byte = new);
            fs::write(path, bytes)?;
        }
        if let Ok(store) = trial.open_when_free(trial.home()).await {
            for mode in [CheckMode::Report, CheckMode::Repair] {
                // In so many words, or it is not met.
                let _ = troubles(&store, mode).await;
            }
            let _ = store.shutdown().await;
            trial.abandon(store);
        }
        for path in derived.iter().filter(|path| path.exists()) {
            fs::remove_file(path)?;
        }
        let store = trial.open_when_free(trial.home()).await?;
        for sample in &samples {
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        }
        store.shutdown().await?;
        trial.abandon(store);
    }
    Ok(())
}
