//! Everything at once, on the same few blobs: what is read is right, and what is left is accounted for.

use std::sync::Arc;

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, ImportMode, MapEntry,
    MapEntryMut, Progress, Result, collect, prelude::*,
};

use crate::{
    home::{Home, SETUPS},
    layout::check_accounted,
    sample::{Sample, chunks, status},
};

const SIZES: [usize; 5] = [500, 17_000, 25_000, 66_000, 150_000];
const TASKS: u64 = 6;
const ROUNDS: u64 = 250;

/// Numbers without a pattern, the same each time.
struct Dice(blake3::OutputReader);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn roll(&mut self, below: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % below
    }
}

/// Somebody else may delete a blob, complete it, or have only a part of it at any moment. Nothing else may go wrong.
fn check(result: Result<()>) {
    let Err(error) = result else { return };
    let fine =
        matches!(error, Error::NotFound { .. } | Error::Incomplete { .. } | Error::SizeUnverified { .. });
    assert!(fine, "{error:?}");
}

async fn read(store: &FsStore, sample: &Sample, from: u64) -> Result<()> {
    let Some(entry) = store.get(&sample.hash).await? else { return Ok(()) };
    let mut reader = entry.data_reader().await?;
    tokio::task::yield_now().await;
    let start = usize::try_from(from).unwrap().min(sample.data.len());
    assert_eq!(reader.read_range(from, usize::MAX).await?, sample.data[start..]);
    drop(entry.outboard().await?);
    assert_eq!(store.read_verified(sample.hash, from..u64::MAX).await?, sample.data[start..]);
    Ok(())
}

async fn write_part(store: &FsStore, sample: &Sample, start: u64, len: u64) -> Result<()> {
    let part = chunks(start % sample.n_chunks()..(start % sample.n_chunks() + len).min(sample.n_chunks()));
    let entry = store.get_or_create(sample.hash, sample.size()).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(sample.size(), sample.items(&part)).await?;
    if len.is_multiple_of(3) {
        writer.sync().await?;
    }
    store.insert_complete(entry).await
}

async fn import_file(home: &Home, store: &FsStore, sample: &Sample, mode: ImportMode) -> Result<()> {
    let path = home.user(&format!("in {}", sample.size()));
    store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await.map(drop)
}

async fn export(home: &Home, store: &FsStore, sample: &Sample, name: u64, mode: ExportMode) -> Result<()> {
    let target = home.user(&format!("out {name} {}", sample.size()));
    let options = ExportOptions { mode, existing: ExistingTarget::Replace };
    store.export(sample.hash, target.clone(), options, Progress::none()).await?;
    assert_eq!(std::fs::read(target).unwrap(), sample.data);
    Ok(())
}

async fn step(home: &Home, store: &FsStore, samples: &[Sample], task: u64, dice: &mut Dice) -> Result<()> {
    let sample = &samples[usize::try_from(dice.roll(samples.len() as u64)).unwrap()];
    match dice.roll(12) {
        0 => store.import_bytes(sample.data.clone(), BlobFormat::Raw).await.map(drop),
        1 => import_file(home, store, sample, ImportMode::Copy).await,
        2 => import_file(home, store, sample, ImportMode::TryReference).await,
        3 | 4 => write_part(store, sample, dice.roll(200), dice.roll(200) + 1).await,
        5 => export(home, store, sample, task, ExportMode::Copy).await,
        6 => export(home, store, sample, task, ExportMode::TryReference).await,
        7 => store.delete(vec![sample.hash]).await,
        8 => store.sync().await,
        9 => {
            let listed = collect(store.blobs().await?).await?;
            collect(store.partial_blobs().await?).await?;
            assert!(listed.is_sorted_by(|a, b| a < b) && listed.len() <= samples.len());
            Ok(())
        }
        _ => read(store, sample, dice.roll(sample.size())).await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_may_happen_at_once() {
    for (setup, seed) in SETUPS.into_iter().zip(0..) {
        let home = Arc::new(Home::new(setup));
        let store = home.open().await;
        let samples: Arc<[Sample]> = SIZES.map(Sample::new).into();
        for sample in &*samples {
            home.user_file(&format!("in {}", sample.size()), &sample.data);
        }
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (home, store, samples) = (home.clone(), store.clone(), samples.clone());
                tokio::spawn(async move {
                    let mut dice = Dice::new(seed * TASKS + task);
                    for _ in 0..ROUNDS {
                        check(step(&home, &store, &samples, task, &mut dice).await);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(store.temp_tags().count(), 0);
        let before: Vec<_> = samples.iter().map(|sample| status(&store, sample.hash)).collect();
        let store = home.reopen(store).await;
        check_accounted(&home, &store).await;
        for (sample, before) in samples.iter().zip(before) {
            assert_eq!(status(&store, sample.hash), before);
            if before == EntryStatus::Complete {
                assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            }
        }
    }
}
