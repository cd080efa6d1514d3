//! Files of the user's that a store refers to.

use std::{
    fs,
    os::unix::fs::{FileExt, symlink},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use blob_traits::{
    BlobFormat, Error, ExistingTarget, Export, ExportMode, ExportOptions, Hash, Import, ImportExt,
    ImportMode, Map, MapExt, Progress, Result, Store, TempTag,
};

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "seen_in_the_wild", for S: Store;
    export_onto_the_referenced_file_itself_does_no_harm,
    export_onto_a_link_to_the_referenced_file_does_no_harm,
    file_that_changes_while_it_is_imported_by_reference_never_yields_wrong_bytes,
    file_that_changes_while_it_is_copied_never_yields_wrong_bytes,
}

async fn refer<S: Import>(store: &S, path: &Path) -> Result<TempTag> {
    let path = path.to_owned();
    Ok(store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?.0)
}

/// Exports to a name that is taken: refused first, then with the leave to replace. The three names keep the bytes.
async fn export_onto<S: Map + Export>(trial: &Trial<S>, store: &S, sample: &Sample, target: &str) -> Outcome {
    for mode in [ExportMode::Copy, ExportMode::TryReference] {
        let to = trial.user(target);
        let refused = store.export(sample.hash, to.clone(), mode, Progress::none()).await;
        assert!(matches!(refused, Err(Error::TargetExists { .. })), "{refused:?}");
        let replace = ExportOptions { mode, existing: ExistingTarget::Replace };
        store.export(sample.hash, to, replace, Progress::none()).await?;
        for name in trial.user_names()? {
            assert!(fs::read(trial.user(&name))? == sample.data, "{name} has changed");
        }
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

async fn export_onto_the_referenced_file_itself_does_no_harm<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = refer(&store, &trial.user_file("file", &sample.data)?).await?;
        export_onto(trial, &store, &sample, "file").await?;
        assert_eq!(trial.user_names()?, ["file"]);
    }
    Ok(())
}

async fn export_onto_a_link_to_the_referenced_file_does_no_harm<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (target, size) in ["hard", "soft"].into_iter().zip([trial.large(), trial.large() + 1]) {
        let sample = Sample::new(size);
        let file = trial.user_file("file", &sample.data)?;
        let _pinned = refer(&store, &file).await?;
        fs::hard_link(&file, trial.user("hard"))?;
        symlink(&file, trial.user("soft"))?;
        export_onto(trial, &store, &sample, target).await?;
        assert_eq!(trial.user_names()?, ["file", "hard", "soft"]);
        for name in trial.user_names()? {
            fs::remove_file(trial.user(&name))?;
        }
    }
    Ok(())
}

/// Imports a file that somebody rewrites at event `at` of the import; returns whether there was such an event.
async fn import_changing<S: Map + Import>(
    trial: &Trial<S>,
    store: &S,
    sample: &Sample,
    mode: ImportMode,
    at: usize,
) -> Result<bool, crate::Failure> {
    let path = trial.user_file("file", &sample.data)?;
    let file = fs::File::options().write(true).open(&path)?;
    let changed: Vec<_> = sample.data.iter().map(|byte| !byte).collect();
    let n_events = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = n_events.clone();
    let progress = Progress::from_fn(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) == at {
            assert!(file.write_all_at(&changed, 0).is_ok());
        }
        Ok(())
    });
    if let Ok((pinned, size)) = store.import_file(path, mode, BlobFormat::Raw, progress).await {
        match store.read_to_bytes(pinned.hash()).await {
            Ok(read) => assert!(Hash::new(&read) == pinned.hash() && read.len() as u64 == size, "event {at}"),
            Err(error) => assert!(mode == ImportMode::TryReference, "event {at}: {error:?}"),
        }
    }
    Ok(n_events.load(Ordering::SeqCst) > at)
}

async fn import_changing_at_every_event<S: Map + Import>(
    trial: &Trial<S>,
    store: &S,
    mode: ImportMode,
) -> Outcome {
    for size in trial.ways().into_iter().filter(|size| *size < 200_000) {
        for at in 0..20 {
            let sample = Sample::numbered(size, at as u64);
            if !import_changing(trial, store, &sample, mode, at).await? {
                break;
            }
        }
    }
    Ok(())
}

/// Seen where a small file was hashed and then read again to be stored.
async fn file_that_changes_while_it_is_imported_by_reference_never_yields_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    import_changing_at_every_event(trial, &store, ImportMode::TryReference).await
}

async fn file_that_changes_while_it_is_copied_never_yields_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    import_changing_at_every_event(trial, &store, ImportMode::Copy).await
}
