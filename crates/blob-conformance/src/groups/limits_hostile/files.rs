//! What a store asks of the file system, and what it makes there.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use blob_traits::{BaoBatchWriter, BlobStatus, Import, MapEntryMut, MapExt, MapMut, Store};
use rustix::{fs::Mode, io::Errno, process::umask};

use crate::{
    Fault, Lasts, Operations, Outcome, ProcessLimit, Sample, Trial, case::group, chunks, copied::Copied,
};

const CAP: &str = "no backend caps the number of partial blobs yet";
const OWNER: &str = "no backend looks at the owner and the mode of its directory yet";

group! {
    "limits_hostile", for S: Store;
    max_concurrent_partials_cap [pending CAP],
    more_partial_blobs_are_kept_than_files_may_be_open,
    store_dir_mode_0700_files_0600_umask_independent [needs Files Persistence],
    store_dir_symlink_or_world_writable_parent_refused_or_warned [pending OWNER],
    read_only_filesystem_open_gives_clear_error_or_read_only_mode [needs Faults Persistence],
}

/// Somebody begins many downloads and finishes none of them: they do not use up what a process may have open.
async fn more_partial_blobs_are_kept_than_files_may_be_open<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    if !trial.is_alone(ProcessLimit::OpenFiles(64))? {
        return Ok(());
    }
    let samples: Vec<_> = (0..72).map(|number| Sample::numbered(40_000, number)).collect();
    let mut entries = Vec::new();
    for sample in &samples {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(sample.size(), sample.items(&chunks(0..16))).await?;
        writer.sync().await?;
        entries.push((entry, writer));
    }
    for (sample, (entry, mut writer)) in samples.iter().zip(entries).step_by(12) {
        assert_eq!(store.present_ranges(&sample.hash).await?, Some(chunks(0..16)));
        writer.write_batch(sample.size(), sample.items(&chunks(16..40))).await?;
        store.insert_complete(entry).await?;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
    }
    Ok(())
}

/// Makes the store write in all the ways that it has.
async fn write_something<S: MapMut + Import>(trial: &Trial<S>, store: &S, number: u64) -> Outcome {
    for size in trial.ways() {
        let (complete, partial) =
            (Sample::numbered(size, 2 * number), Sample::numbered(size, 2 * number + 1));
        drop(complete.import(store).await?);
        let entry = store.get_or_create(partial.hash, partial.size()).await?;
        let mut writer = entry.batch_writer().await?;
        writer.write_batch(partial.size(), partial.items(&chunks(0..16))).await?;
        writer.sync().await?;
    }
    Ok(())
}

async fn store_dir_mode_0700_files_0600_umask_independent<S: MapMut + Import>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    if !trial.is_alone(ProcessLimit::Nothing)? {
        return Ok(());
    }
    for mask in [0o000, 0o022, 0o777] {
        let home = trial.other_home(&format!("umask {mask:03o}"));
        umask(Mode::from_bits_truncate(mask));
        let store = trial.open(&home).await?;
        write_something(trial, &store, 0).await?;
        trial.abandon(store);
        let store = trial.open(&home).await?;
        write_something(trial, &store, 1).await?;
        umask(Mode::from_bits_truncate(0o022));
        check_modes(home.dir())?;
    }
    Ok(())
}

fn check_modes(dir: &Path) -> Outcome {
    let mode = |path: &Path| Ok::<_, std::io::Error>(path.metadata()?.permissions().mode() & 0o7777);
    assert_eq!(mode(dir)?, 0o700, "{}", dir.display());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            check_modes(&path)?;
        } else {
            assert_eq!(mode(&path)?, 0o600, "{}", path.display());
        }
    }
    Ok(())
}

async fn read_only_filesystem_open_gives_clear_error_or_read_only_mode<S>(
    trial: &Trial<S>,
    store: S,
) -> Outcome
where
    S: MapMut + Import + BlobStatus,
{
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        drop(sample.import(&store).await?);
    }
    let store = trial.reopen(store).await?;
    let faults = trial.faults()?;
    trial.abandon(store);
    let before = Copied::of(trial.home().dir())?;
    let errno = Errno::ROFS.raw_os_error();
    faults.arm(Fault { at: 1, what: Operations::Writes, lasts: Lasts::UntilDisarmed, errno });
    match trial.open(trial.home()).await {
        Err(e) => assert_eq!(std::io::Error::from(e).kind(), std::io::ErrorKind::ReadOnlyFilesystem),
        Ok(store) => {
            for sample in &samples {
                assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
            }
            assert!(Sample::new(777).import(&store).await.is_err());
            trial.abandon(store);
        }
    }
    faults.disarm();
    assert!(Copied::of(trial.home().dir())? == before, "a file was changed");
    let store = trial.open(trial.home()).await?;
    for sample in &samples {
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await?, sample.data);
    }
    drop(Sample::new(777).import(&store).await?);
    Ok(())
}
