//! Blobs that are moved out, and referred to where they are then.

use std::{fs, os::unix::fs::FileExt, os::unix::fs::MetadataExt, path::Path};

use blob_traits::{
    Delete, Error, Export, ExportMode, ExportProgress, Import, Map, MapEntry, MapExt, Progress, ReadBlob,
    Result, Store,
};
use tempfile::TempDir;

use super::{assert_holds, export, replacing};
use crate::{Failure, Outcome, Sample, Trial, case::group};

const CRASH: &str = "needs the crash simulator";

group! {
    "export", for S: Store;
    export_reference_boundary_sizes_bytes_equal_and_blob_readable,
    export_reference_start_tells_whether_the_target_is_needed,
    export_reference_moves_and_store_reads_from_target [needs MovesOut],
    export_reference_survives_reopen [needs MovesOut Persistence],
    export_reference_second_export_copies [needs MovesOut],
    export_reference_target_modified_later_detected_on_read [needs MovesOut],
    export_reference_open_reader_never_reads_what_the_user_wrote,
    export_reference_then_imported_again_is_the_stores_own,
    export_reference_cross_device_falls_back,
    export_reference_kill_between_link_and_commit_entry_still_readable [pending CRASH],
}

/// Exports with `TryReference`; returns whether the store says that it needs the target, and how many offsets it reported.
async fn move_out<S: Export>(store: &S, sample: &Sample, target: &Path) -> Result<(bool, usize)> {
    let (progress, mut events) = Progress::channel(1000);
    store.export(sample.hash, target.to_owned(), ExportMode::TryReference, progress).await?;
    let (mut is_moved, mut n_offsets) = (false, 0);
    while let Some(event) = events.recv().await {
        match event {
            ExportProgress::Start { stable, .. } => is_moved = stable,
            ExportProgress::Progress { .. } => n_offsets += 1,
            ExportProgress::Done { .. } => {}
        }
    }
    Ok((is_moved, n_offsets))
}

/// Changes one byte in the middle and nothing else.
fn flip(path: &Path) -> std::io::Result<u64> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let at = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&byte.map(|byte| !byte), at)?;
    Ok(at)
}

async fn export_reference_boundary_sizes_bytes_equal_and_blob_readable<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = trial.user(&sample.size().to_string());
        export(&store, sample.hash, &target, ExportMode::TryReference).await?;
        assert_holds(&target, &sample);
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

async fn export_reference_start_tells_whether_the_target_is_needed<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = trial.user(&sample.size().to_string());
        let (is_moved, _) = move_out(&store, &sample, &target).await?;
        fs::remove_file(target)?;
        match store.read_verified(sample.hash, 0..u64::MAX).await {
            Ok(read) => assert!(read == sample.data),
            Err(error) => assert!(is_moved, "{error:?}"),
        }
    }
    Ok(())
}

async fn export_reference_moves_and_store_reads_from_target<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let target = trial.user("target");
    assert_eq!(move_out(&store, &sample, &target).await?, (true, 0));
    assert_holds(&target, &sample);
    assert_eq!(trial.user_names()?, ["target"]);
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    fs::remove_file(target)?;
    let gone = store.read_to_bytes(sample.hash).await;
    assert!(matches!(gone, Err(Error::FileNotFound { .. } | Error::Changed { .. })), "{:?}", gone.err());
    Ok(())
}

async fn export_reference_survives_reopen<S: Map + Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    drop(sample.import(&store).await?);
    let target = trial.user("target");
    export(&store, sample.hash, &target, ExportMode::TryReference).await?;
    let store = trial.reopen(store).await?;
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    store.delete(vec![sample.hash]).await?;
    let _store = trial.reopen(store).await?;
    assert_holds(&target, &sample);
    Ok(())
}

async fn export_reference_second_export_copies<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let (first, second) = (trial.user("first"), trial.user("second"));
    export(&store, sample.hash, &first, ExportMode::TryReference).await?;
    let (is_moved, _) = move_out(&store, &sample, &second).await?;
    assert!(!is_moved, "it had been moved out already");
    assert_ne!(first.metadata()?.ino(), second.metadata()?.ino());
    flip(&second)?;
    assert_holds(&first, &sample);
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

async fn export_reference_target_modified_later_detected_on_read<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let target = trial.user("target");
    export(&store, sample.hash, &target, ExportMode::TryReference).await?;
    let at = flip(&target)?;
    for range in [0..u64::MAX, at..at + 1] {
        let read = store.read_range(sample.hash, range.clone()).await;
        assert!(matches!(read, Err(Error::Changed { .. })), "{range:?} {:?}", read.err());
        let read = store.read_verified(sample.hash, range.clone()).await;
        assert!(matches!(read, Err(Error::Changed { .. } | Error::Mismatch { .. })), "{:?}", read.err());
    }
    let copied = export(&store, sample.hash, &trial.user("copy"), ExportMode::Copy).await;
    assert!(matches!(copied, Err(Error::Changed { .. } | Error::Mismatch { .. })), "{copied:?}");
    assert_eq!(trial.user_names()?, ["target"]);
    Ok(())
}

async fn export_reference_open_reader_never_reads_what_the_user_wrote<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let entry = store.existing(sample.hash).await?;
    let mut used = entry.data_reader().await?;
    assert_eq!(used.read_range(0, 10).await?, sample.slice(0, 10));
    let mut unused = entry.data_reader().await?;
    export(&store, sample.hash, &trial.user("target"), ExportMode::TryReference).await?;
    let at = flip(&trial.user("target"))?;
    for reader in [&mut used, &mut unused, &mut entry.data_reader().await?] {
        for (from, len) in [(0, sample.data.len()), (at, 1), (at - 20_000, 40_000), (0, 16_384)] {
            match reader.read_range(from, len).await {
                Ok(read) => assert!(read == sample.slice(from, len as u64), "wrong bytes at {from}"),
                Err(error) => {
                    let error = Error::from(error);
                    assert!(matches!(error, Error::Changed { .. } | Error::Mismatch { .. }), "{error:?}");
                }
            }
        }
    }
    Ok(())
}

/// The way out for somebody who wants his file back.
async fn export_reference_then_imported_again_is_the_stores_own<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let target = trial.user("target");
    export(&store, sample.hash, &target, ExportMode::TryReference).await?;
    flip(&target)?;
    let _again = sample.import(&store).await?;
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    export(&store, sample.hash, &target, replacing(ExportMode::Copy)).await?;
    assert_holds(&target, &sample);
    Ok(())
}

/// A directory on another file system than the trial's.
fn on_another_device<S>(trial: &Trial<S>) -> Result<TempDir, Failure> {
    let here = trial.user("").metadata()?.dev();
    for dir in ["/dev/shm", "/tmp", "/var/tmp"] {
        let Ok(place) = tempfile::Builder::new().prefix("conformance-").tempdir_in(dir) else { continue };
        if place.path().metadata()?.dev() != here {
            return Ok(place);
        }
    }
    Err(Failure::skipped("every temporary directory is on one file system"))
}

async fn export_reference_cross_device_falls_back<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let place = on_another_device(trial)?;
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = place.path().join(sample.size().to_string());
        let (is_moved, _) = move_out(&store, &sample, &target).await?;
        assert_holds(&target, &sample);
        assert_eq!(fs::read_dir(place.path())?.count(), 1);
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        fs::remove_file(target)?;
        // A store may copy the file and then refer to the copy, if it says so.
        if !is_moved {
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        }
    }
    Ok(())
}
