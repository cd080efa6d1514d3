//! Files of a store that were damaged, or crafted, while it was closed.

use std::{fs, io, path::Path};

use blob_traits::{BlobFormat, ImportExt, ImportMode, Progress, Store};
use bytes::Bytes;

use super::planted::{HostileStore, fill, open_and_use};
use crate::{Dice, Outcome, ProcessLimit, Sample, Trial, case::group, chunks, copied::Copied};

group! {
    "limits_hostile", for S: Store;
    crafted_db_file_random_bytes_open_errors_no_panic_no_oom [needs Files Persistence],
    crafted_bitfield_sizes_file_no_panic [needs Files Persistence],
    files_cut_short_at_any_length_no_panic [needs Files Persistence],
    missing_file_opens_with_an_error_or_serves_the_rest [needs Files Persistence],
    swapped_files_never_serve_wrong_bytes [needs Files Persistence],
    corrupted_db_wrong_paths_absolute_external_not_deleted [needs Files Persistence References],
}

/// What a store may use for whatever its files say: far more than it needs, far less than their numbers may ask for.
const MEMORY: ProcessLimit = ProcessLimit::Memory(1 << 30);

/// Numbers that no length or count should be taken for without a look.
const NUMBERS: [u64; 7] = [0, 1, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, u64::MAX];

/// How many files are tampered with in a trial.
const N: usize = 4;

/// Fills a store and closes it. Then, some times: one of its files is tampered with, the store is opened, and used.
async fn tamper<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
    mut with: impl FnMut(&mut Dice, &mut Vec<u8>),
) -> Outcome {
    fill(trial, &store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    let (dir, mut dice) = (trial.home().dir(), trial.dice());
    let copy = Copied::of(dir)?;
    let mut files: Vec<_> = copy.0.iter().collect();
    dice.shuffle(&mut files);
    for (path, bytes) in files.into_iter().cycle().take(N) {
        copy.put_back(dir)?;
        let mut tampered = bytes.clone();
        with(&mut dice, &mut tampered);
        fs::write(dir.join(path), tampered)?;
        open_and_use(trial, trial.home()).await?;
    }
    Ok(())
}

/// Overwrites some bytes, if they are there.
fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes.iter_mut().skip(at).zip(with).for_each(|(byte, new)| *byte = *new);
}

async fn crafted_db_file_random_bytes_open_errors_no_panic_no_oom<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    if !trial.is_alone(MEMORY)? {
        return Ok(());
    }
    tamper(trial, store, |dice, bytes| match dice.below(4) {
        0 => {
            let len = dice.index(20_000);
            *bytes = dice.bytes(len);
        }
        1 => bytes.extend_from_slice(&dice.bytes(5000)),
        2 => {
            let (at, len) = (dice.index(bytes.len()), dice.index(5000));
            overwrite(bytes, at, &dice.bytes(len));
        }
        _ => {
            for _ in 0..8 {
                let at = dice.index(bytes.len());
                overwrite(bytes, at, &dice.bytes(1));
            }
        }
    })
    .await
}

/// Numbers that are lengths, counts and offsets in any format become as large as they can be, or 0.
async fn crafted_bitfield_sizes_file_no_panic<S: HostileStore>(trial: &Trial<S>, store: S) -> Outcome {
    if !trial.is_alone(MEMORY)? {
        return Ok(());
    }
    tamper(trial, store, |dice, bytes| {
        let head = bytes.len().min(256);
        for _ in 0..2 {
            let number = dice.pick(&NUMBERS).copied().unwrap_or_default();
            let at = dice.index(head) & !3;
            let bytes_of_number =
                if dice.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
            let n = if dice.below(2) == 0 { 4 } else { 8 };
            overwrite(bytes, at, bytes_of_number.get(..n).unwrap_or_default());
        }
    })
    .await
}

async fn files_cut_short_at_any_length_no_panic<S: HostileStore>(trial: &Trial<S>, store: S) -> Outcome {
    tamper(trial, store, |dice, bytes| {
        let len = if dice.below(3) == 0 { 0 } else { dice.index(bytes.len()) };
        bytes.truncate(len);
    })
    .await
}

async fn missing_file_opens_with_an_error_or_serves_the_rest<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    fill(trial, &store).await?;
    store.shutdown().await?;
    trial.abandon(store);
    let dir = trial.home().dir();
    let copy = Copied::of(dir)?;
    for path in copy.some(N) {
        copy.put_back(dir)?;
        fs::remove_file(dir.join(path))?;
        open_and_use(trial, trial.home()).await?;
    }
    Ok(())
}

async fn swapped_files_never_serve_wrong_bytes<S: HostileStore>(trial: &Trial<S>, store: S) -> Outcome {
    for number in 0..4 {
        drop(Sample::numbered(trial.large(), number).import(&store).await?);
        Sample::numbered(trial.large(), 10 + number).write(&store, &chunks(0..16)).await?;
    }
    store.shutdown().await?;
    trial.abandon(store);
    let (dir, mut dice) = (trial.home().dir(), trial.dice());
    let copy = Copied::of(dir)?;
    for _ in 0..N {
        copy.put_back(dir)?;
        let [one, other] = [dice.pick(&copy.0), dice.pick(&copy.0)];
        if let (Some((one, _)), Some((other, _))) = (one, other) {
            swap(&dir.join(one), &dir.join(other))?;
        }
        open_and_use(trial, trial.home()).await?;
    }
    Ok(())
}

fn swap(one: &Path, other: &Path) -> io::Result<()> {
    let (first, second) = (fs::read(one)?, fs::read(other)?);
    fs::write(one, second)?;
    fs::write(other, first)
}

/// A store whose records name another file of the user's than the one that it was given, or whose file was replaced:
/// whatever becomes of the blob, no file of the user's does.
async fn corrupted_db_wrong_paths_absolute_external_not_deleted<S: HostileStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let given = trial.user_file("given", &sample.data)?;
    let other = trial.user_file("other", b"precious")?;
    let import =
        store.import_file(given.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none());
    drop(import.await?);
    store.shutdown().await?;
    trial.abandon(store);
    let dir = trial.home().dir();
    let copy = Copied::of(dir)?;
    let (from, to) =
        (given.into_os_string().into_encoded_bytes(), other.into_os_string().into_encoded_bytes());
    assert_eq!(from.len(), to.len());
    for (path, bytes) in &copy.0 {
        let mut crafted = bytes.clone();
        let places = bytes.windows(from.len()).enumerate().filter(|(_, found)| *found == from);
        places.for_each(|(at, _)| overwrite(&mut crafted, at, &to));
        fs::write(dir.join(path), crafted)?;
    }
    for is_replaced in [false, true] {
        if is_replaced {
            copy.put_back(dir)?;
            trial.user_file("given", b"something else")?;
        }
        open_and_use(trial, trial.home()).await?;
        let expected = if is_replaced { Bytes::from("something else") } else { sample.data.clone() };
        assert_eq!(fs::read(trial.user("given"))?, expected);
        assert_eq!(fs::read(trial.user("other"))?, b"precious");
        assert_eq!(trial.user_names()?, ["given", "other"]);
    }
    Ok(())
}
