//! What may be in the place of the target, or missing there.

use std::{fs, io::Read, os::unix::fs::symlink};

use blob_traits::{Error, Export, ExportMode, ExportProgress, Import, Map, MapExt, Progress, Store};

use super::{MODES, assert_holds, export, replacing};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_copy_existing_target_refused_and_untouched,
    export_copy_existing_target_replaced_as_asked,
    export_replaced_target_stays_readable_where_it_is_open,
    export_target_that_appears_meanwhile_is_not_replaced,
    export_copy_target_is_symlink_not_followed,
    export_copy_parent_missing_refused_and_not_created,
    export_copy_target_directory_rejected,
    export_to_one_target_at_once_one_wins,
}

async fn export_copy_existing_target_refused_and_untouched<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = trial.user_file("target", b"mine")?;
        for mode in MODES {
            let refused = export(&store, sample.hash, &target, mode).await;
            assert!(matches!(&refused, Err(Error::TargetExists { path }) if *path == target), "{refused:?}");
            assert_eq!(fs::read(&target)?, b"mine");
            assert_eq!(trial.user_names()?, ["target"]);
        }
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

async fn export_copy_existing_target_replaced_as_asked<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        for mode in MODES {
            // Longer than the blob: nothing of it may be left behind the end.
            let target = trial.user_file(&format!("{mode:?}"), &vec![7; sample.data.len() + 10])?;
            export(&store, sample.hash, &target, replacing(mode)).await?;
            assert_holds(&target, &sample);
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
            fs::remove_file(&target)?;
            assert!(trial.user_names()?.is_empty());
            drop(sample.import(&store).await?);
        }
    }
    Ok(())
}

/// Replacing gives the name to another file; the old one is not written to.
async fn export_replaced_target_stays_readable_where_it_is_open<S: Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let _pinned = sample.import(&store).await?;
    let target = trial.user_file("target", b"mine")?;
    fs::hard_link(&target, trial.user("second name"))?;
    let mut open = fs::File::open(&target)?;
    export(&store, sample.hash, &target, replacing(ExportMode::Copy)).await?;
    let mut read = Vec::new();
    open.read_to_end(&mut read)?;
    assert_eq!(read, b"mine");
    assert_eq!(fs::read(trial.user("second name"))?, b"mine");
    Ok(())
}

async fn export_target_that_appears_meanwhile_is_not_replaced<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        let taken = target.clone();
        let progress = Progress::from_fn(move |event| match event {
            ExportProgress::Start { .. } => fs::write(&taken, "mine").map_err(|_| blob_traits::Cancelled),
            _ => Ok(()),
        });
        let refused = store.export(sample.hash, target.clone(), mode, progress).await;
        assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
        assert_eq!(fs::read(&target)?, b"mine");
        fs::remove_file(target)?;
        assert!(trial.user_names()?.is_empty());
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

async fn export_copy_target_is_symlink_not_followed<S: Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (mine, link) = (trial.user_file("mine", b"mine")?, trial.user("link"));
    for (mode, size) in
        MODES.into_iter().flat_map(|mode| trial.ways().into_iter().map(move |size| (mode, size)))
    {
        let sample = Sample::new(size);
        let _pinned = sample.import(&store).await?;
        for points_to in [&mine, &trial.user("nowhere")] {
            symlink(points_to, &link)?;
            let refused = export(&store, sample.hash, &link, mode).await;
            assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
            assert_eq!(fs::read_link(&link)?, *points_to);
            export(&store, sample.hash, &link, replacing(mode)).await?;
            assert!(link.symlink_metadata()?.is_file());
            assert_holds(&link, &sample);
            assert_eq!(fs::read(&mine)?, b"mine");
            assert_eq!(trial.user_names()?, ["link", "mine"]);
            fs::remove_file(&link)?;
            drop(sample.import(&store).await?);
        }
    }
    Ok(())
}

async fn export_copy_parent_missing_refused_and_not_created<S: Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let file = trial.user_file("file", b"mine")?;
    for options in MODES.into_iter().flat_map(|mode| [mode.into(), replacing(mode)]) {
        for missing in ["missing/target", "missing/deep/target"] {
            let refused = export(&store, sample.hash, &trial.user(missing), options).await;
            assert!(matches!(refused, Err(Error::FileNotFound { .. })), "{refused:?}");
        }
        assert!(export(&store, sample.hash, &file.join("target"), options).await.is_err());
        assert_eq!(fs::read(&file)?, b"mine");
        assert_eq!(trial.user_names()?, ["file"]);
    }
    Ok(())
}

async fn export_copy_target_directory_rejected<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    fs::create_dir_all(trial.user("full/inside"))?;
    fs::create_dir(trial.user("empty"))?;
    for options in MODES.into_iter().flat_map(|mode| [mode.into(), replacing(mode)]) {
        for directory in ["full", "empty", "full/..", "full/inside/"] {
            let refused = export(&store, sample.hash, &trial.user(directory), options).await;
            assert!(matches!(refused, Err(Error::IsADirectory { .. })), "{directory} {refused:?}");
        }
        assert_eq!(trial.user_names()?, ["empty", "full"]);
        assert!(trial.user("full/inside").is_dir());
    }
    Ok(())
}

async fn export_to_one_target_at_once_one_wins<S: Import + Export + Clone + 'static>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = (0..8).map(|number| Sample::numbered(50_000, number)).collect();
    let target = trial.user("target");
    let mut tasks = Vec::new();
    for sample in samples.clone() {
        drop(sample.import(&store).await?);
        let (store, target) = (store.clone(), target.clone());
        tasks.push(tokio::spawn(async move { export(&store, sample.hash, &target, ExportMode::Copy).await }));
    }
    let mut winners = Vec::new();
    for (task, sample) in tasks.into_iter().zip(&samples) {
        match task.await? {
            Ok(()) => winners.push(sample),
            Err(error) => assert!(matches!(error, Error::TargetExists { .. }), "{error:?}"),
        }
    }
    let [winner] = winners[..] else { panic!("{} exports say that the file is theirs", winners.len()) };
    assert_holds(&target, winner);
    assert_eq!(trial.user_names()?, ["target"]);
    Ok(())
}
