//! Files that are lost, left over, of the wrong length, or nobody's.

use std::{fs, path::PathBuf};

use blob_traits::{CheckMode, EntryStatus, ReportLevel, Store};
use bytes::Bytes;

use super::troubles;
use crate::{
    Failure, GROUP, Kill, Outcome, Sample, Trial,
    case::group,
    copied::{Copied, paths_below},
    harm::{Harm, Harmful, change_around, files_with, harmed},
    ledger::everything_verifies,
};

group! {
    "consistency_check", for S: Store;
    cc_orphan_data_file_reported_and_quarantined [needs Files Persistence],
    cc_orphan_outboard_reported_and_quarantined [needs Files Persistence],
    cc_missing_owned_data_file_reported_downgraded [needs Files Persistence],
    cc_missing_outboard_reported_rebuilt [needs Files Persistence],
    cc_wrong_size_file_reported [needs Files Persistence],
    cc_inline_entry_too_large [needs Files Persistence],
    cc_inline_entry_missing [needs Files Persistence],
    cc_stale_temp_and_creating_files_removed [needs Files Persistence Durability],
    cc_unknown_files_in_store_dir_reported_never_deleted [needs Files Persistence],
}

/// Once mended, nothing is left to be found.
async fn mended<S: Store>(store: &S) -> Outcome {
    troubles(store, CheckMode::Repair).await?;
    assert_eq!(troubles(store, CheckMode::Report).await?, []);
    Ok(())
}

async fn assert_complete<S: Store>(store: &S, sample: &Sample) -> Outcome {
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

/// A file of a blob that was deleted is there again, as after a restore from a backup.
async fn orphan<S: Store>(trial: &Trial<S>, store: S, bytes: impl Fn(&Sample) -> Bytes) -> Outcome {
    let [gone, kept] = [0, 1].map(|number| Sample::numbered(trial.large(), number));
    drop(gone.import(&store).await?);
    drop(kept.import(&store).await?);
    let (dir, bytes) = (trial.home().dir().to_owned(), bytes(&gone));
    let store = trial.reopen(store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    let before = Copied::of(&dir)?;
    let places: Vec<PathBuf> = files_with(&dir, &bytes)?;
    assert!(!places.is_empty(), "no file has it");
    let store = trial.open(trial.home()).await?;
    store.delete(vec![gone.hash]).await?;
    let store = trial.reopen(store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    for (path, bytes) in before.0.iter().filter(|(path, _)| places.contains(&dir.join(path))) {
        assert!(!dir.join(path).exists(), "it was deleted, and its file is there");
        fs::write(dir.join(path), bytes)?;
    }
    let store = trial.open(trial.home()).await?;
    let said = troubles(&store, CheckMode::Report).await?;
    assert!(said.iter().any(|said| said.entry == Some(gone.hash)), "{said:?}");
    assert_eq!(files_with(&dir, &bytes)?, places, "a report changes nothing");
    mended(&store).await?;
    let aside = files_with(&dir, &bytes)?;
    assert!(!aside.is_empty(), "it may be the last copy");
    assert!(!aside.iter().any(|path| places.contains(path)), "it is still there");
    assert_eq!(store.entry_status(&gone.hash).await?, EntryStatus::NotFound);
    assert_complete(&store, &kept).await
}

async fn cc_orphan_data_file_reported_and_quarantined<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    orphan(trial, store, |sample| sample.data.clone()).await
}

async fn cc_orphan_outboard_reported_and_quarantined<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    orphan(trial, store, |sample| sample.outboard.data.clone().into()).await
}

/// Harms blobs of which each has files of its own; the check names each.
async fn reported<S: Store>(trial: &Trial<S>, store: S, harms: &[Harmful]) -> Result<S, Failure> {
    let sound = Sample::numbered(trial.large(), 999);
    for sample in harms.iter().map(|harm| &harm.sample).chain([&sound]) {
        drop(sample.import(&store).await?);
    }
    let store = harmed(trial, store, harms).await?.into_inner();
    let said = troubles(&store, CheckMode::Report).await?;
    for Harmful { sample, harm, .. } in harms {
        assert!(said.iter().any(|said| said.entry == Some(sample.hash)), "{harm:?}: {said:?}");
        let status = store.entry_status(&sample.hash).await?;
        assert_eq!(status, EntryStatus::Complete, "a report changes nothing");
    }
    assert!(said.iter().all(|said| said.entry != Some(sound.hash)), "{said:?}");
    mended(&store).await?;
    assert_complete(&store, &sound).await?;
    Ok(store)
}

async fn cc_missing_owned_data_file_reported_downgraded<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let store = reported(trial, store, &[Harmful::data(&sample, Harm::Lost)]).await?;
    assert_ne!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    assert!(store.read_to_bytes(sample.hash).await.is_err());
    drop(sample.import(&store).await?);
    assert_complete(&store, &sample).await
}

async fn cc_missing_outboard_reported_rebuilt<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let store = reported(trial, store, &[Harmful::tree(&sample, Harm::Lost)]).await?;
    assert_complete(&store, &sample).await?;
    let all = sample.all_chunks();
    assert!(store.export_bao(sample.hash, all.clone(), Vec::new()).await? == sample.encode(&all));
    Ok(())
}

async fn cc_wrong_size_file_reported<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = |number| Sample::numbered(trial.large(), number);
    let harms = [
        Harmful::data(&sample(0), Harm::Cut(GROUP + 1)),
        Harmful::data(&sample(1), Harm::Cut(0)),
        Harmful::data(&sample(2), Harm::Extended(5)),
        Harmful::tree(&sample(3), Harm::Cut(65)),
        Harmful::tree(&sample(4), Harm::Extended(64)),
    ];
    let store = reported(trial, store, &harms).await?;
    for number in 2..5 {
        assert_complete(&store, &sample(number)).await?;
    }
    for number in 0..2 {
        assert_ne!(store.entry_status(&sample(number).hash).await?, EntryStatus::Complete);
    }
    everything_verifies(&store).await
}

/// Changes what a shared file says before the bytes of one small blob among others.
async fn inline<S: Store>(trial: &Trial<S>, store: S, change: impl Fn(&mut [u8])) -> Outcome {
    const BEFORE: u64 = 80;
    let samples: Vec<_> = (0..9).map(|number| Sample::numbered(3333, number)).collect();
    for sample in &samples {
        drop(sample.import(&store).await?);
    }
    store.shutdown().await?;
    trial.abandon(store);
    let hit = samples.get(4).ok_or("nine were made")?;
    if change_around(trial.home().dir(), hit, BEFORE, change)? == 0 {
        return Err(Failure::skipped("its small blobs have files of their own"));
    }
    let store = trial.open(trial.home()).await?;
    let said = troubles(&store, CheckMode::Report).await?;
    assert!(said.iter().any(|said| said.level == ReportLevel::Error), "{said:?}");
    troubles(&store, CheckMode::Repair).await?;
    let again = troubles(&store, CheckMode::Report).await?;
    assert!(again.iter().all(|said| said.level < ReportLevel::Error), "{again:?}");
    for sample in samples.iter().filter(|sample| sample.hash != hit.hash) {
        assert_complete(&store, sample).await?;
    }
    everything_verifies(&store).await
}

/// Its length says more than there is.
async fn cc_inline_entry_too_large<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let [small, large] = [3333_u32, 3333 + (1 << 20)].map(u32::to_le_bytes);
    inline(trial, store, |bytes| {
        let head = bytes.len() - 3333;
        for at in 0..head - 3 {
            if let Some(number) = bytes.get_mut(at..at + 4).filter(|number| **number == small) {
                number.copy_from_slice(&large);
            }
        }
    })
    .await
}

async fn cc_inline_entry_missing<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    inline(trial, store, |bytes| bytes.fill(0)).await
}

/// A process is killed while it imports: what it had begun is nobody's.
async fn cc_stale_temp_and_creating_files_removed<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    use std::time::Duration;

    use blob_traits::{BlobFormat, Progress};
    use futures_lite::{StreamExt, stream};

    const PIECE: usize = 256 << 10;
    if let Some(victim) = trial.victim() {
        let store = trial.open(&victim.home()).await?;
        let pieces = stream::iter((0..40).map(|_| Ok(Bytes::from(vec![7; PIECE]))));
        let never = stream::once_future(async move {
            let _ = victim.acknowledge("half");
            std::future::pending().await
        })
        .boxed();
        drop(store.import_stream(pieces.chain(never), BlobFormat::Raw, Progress::none()).await?);
        return Ok(());
    }
    drop(store);
    let (home, sample) = (trial.other_home("killed"), Sample::new(trial.large()));
    let store = trial.open(&home).await?;
    drop(sample.import(&store).await?);
    store.shutdown().await?;
    trial.abandon(store);
    let before = home.stored_bytes();
    trial.run_and_kill(&home, &Kill { round: 0, after: 1, delay: Duration::ZERO })?;
    let store = trial.open(&home).await?;
    mended(&store).await?;
    assert_complete(&store, &sample).await?;
    store.shutdown().await?;
    trial.abandon(store);
    let after = home.stored_bytes();
    assert!(after < before + 10 * PIECE as u64, "{after} bytes, and {before} before");
    Ok(())
}

async fn cc_unknown_files_in_store_dir_reported_never_deleted<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    drop(sample.import(&store).await?);
    let store = trial.reopen(store).await?;
    let dir = trial.home().dir();
    let mut planted: Vec<_> = paths_below(dir)?
        .iter()
        .filter_map(|path| path.parent().map(|parent| dir.join(parent).join("notes.txt")))
        .collect();
    planted.sort();
    planted.dedup();
    for path in &planted {
        fs::write(path, "precious")?;
    }
    for mode in [CheckMode::Report, CheckMode::Repair, CheckMode::Report] {
        let said = troubles(&store, mode).await?;
        let n_said = said.iter().filter(|said| said.message.contains("notes.txt")).count();
        assert_eq!(n_said, planted.len(), "{said:?} of {planted:?}");
        assert!(said.iter().all(|said| said.level == ReportLevel::Warn), "{said:?}");
    }
    for path in &planted {
        assert_eq!(fs::read(path)?, b"precious");
    }
    assert_complete(&store, &sample).await
}
