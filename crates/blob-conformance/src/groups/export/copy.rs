//! Copies of blobs, and what cannot be copied.

use std::fs;

use blob_traits::{
    BlobFormat, BlobStatus, Delete, EntryStatus, Error, Export, ExportMode, ExportProgress, Hash, Import,
    ImportExt, ImportMode, Map, MapExt, MapMut, Progress, Store,
};

use super::{MODES, assert_holds, export, shares_blocks};
use crate::{Failure, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "export", for S: Store;
    export_copy_boundary_sizes_bytes_equal,
    export_copy_of_empty_blob_needs_no_import,
    export_copy_reflink_used_on_xfs_btrfs_and_content_equal [needs Files Persistence],
    export_copy_then_target_modified_store_unaffected,
    export_copy_then_blob_deleted_target_unaffected,
    export_copy_of_referenced_file_leaves_the_file_alone,
    export_of_changed_referenced_file_refused_without_target [needs References],
    export_partial_entry_refused,
    export_missing_notfound,
    export_relative_target_rejected,
}

async fn export_copy_boundary_sizes_bytes_equal<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = trial.user("target");
        export(&store, sample.hash, &target, ExportMode::Copy).await?;
        assert_holds(&target, &sample);
        assert_eq!(trial.user_names()?, ["target"]);
        fs::remove_file(target)?;
    }
    Ok(())
}

async fn export_copy_of_empty_blob_needs_no_import<S: Export>(trial: &Trial<S>, store: S) -> Outcome {
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        export(&store, Hash::EMPTY, &target, mode).await?;
        assert_holds(&target, &Sample::new(0));
    }
    Ok(())
}

/// That blocks are shared shows in what is not reported: that bytes were copied.
async fn export_copy_reflink_used_on_xfs_btrfs_and_content_equal<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    if !shares_blocks(&trial.user(""))? {
        return Err(Failure::skipped("the file system of the temporary directory cannot share blocks"));
    }
    let sample = Sample::new(trial.large());
    drop(sample.import(&store).await?);
    let store = trial.reopen(store).await?;
    let (progress, mut events) = Progress::channel(100);
    store.export(sample.hash, trial.user("target"), ExportMode::Copy, progress).await?;
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, ExportProgress::Progress { .. }), "{event:?}");
    }
    assert_holds(&trial.user("target"), &sample);
    Ok(())
}

/// A copy may be shared blocks, never a second name of the store's file.
async fn export_copy_then_target_modified_store_unaffected<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    use std::os::unix::fs::FileExt;
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let target = trial.user(&sample.size().to_string());
        export(&store, sample.hash, &target, ExportMode::Copy).await?;
        let file = fs::File::options().write(true).open(&target)?;
        file.write_all_at(&[0xaa; 900], 0)?;
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        file.set_len(0)?;
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}

async fn export_copy_then_blob_deleted_target_unaffected<S: Import + Export + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (mode, sample) in
        trial.ways().into_iter().flat_map(|size| MODES.map(|mode| (mode, Sample::new(size))))
    {
        drop(sample.import(&store).await?);
        let target = trial.user(&format!("{mode:?} {}", sample.size()));
        export(&store, sample.hash, &target, mode).await?;
        store.delete(vec![sample.hash]).await?;
        assert_holds(&target, &sample);
    }
    Ok(())
}

async fn export_copy_of_referenced_file_leaves_the_file_alone<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let file = trial.user_file("file", &sample.data)?;
    let refer = ImportMode::TryReference;
    let _pinned = store.import_file(file.clone(), refer, BlobFormat::Raw, Progress::none()).await?;
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        export(&store, sample.hash, &target, mode).await?;
        assert_holds(&target, &sample);
        assert_holds(&file, &sample);
        fs::write(&target, "changed")?;
        assert_holds(&file, &sample);
        fs::remove_file(target)?;
    }
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

async fn export_of_changed_referenced_file_refused_without_target<S: Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large());
    let file = trial.user_file("file", &sample.data)?;
    let refer = ImportMode::TryReference;
    let _pinned = store.import_file(file.clone(), refer, BlobFormat::Raw, Progress::none()).await?;
    let mut changed = sample.data.to_vec();
    changed.reverse();
    fs::write(&file, changed)?;
    for mode in MODES {
        let refused = export(&store, sample.hash, &trial.user("target"), mode).await;
        assert!(matches!(refused, Err(Error::Changed { .. } | Error::Mismatch { .. })), "{refused:?}");
        assert_eq!(trial.user_names()?, ["file"]);
    }
    Ok(())
}

async fn export_partial_entry_refused<S: MapMut + BlobStatus + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().filter(|size| *size > 50_000).map(Sample::new) {
        // One lacks its end, the other has its end and lacks what is before it.
        for part in [group_ranges(0..2), group_ranges(sample.n_groups() - 1..sample.n_groups())] {
            sample.write(&store, &part).await?;
            let present = store.present_ranges(&sample.hash).await?;
            for mode in MODES {
                let refused = export(&store, sample.hash, &trial.user("target"), mode).await;
                let expected = sample.hash;
                assert!(
                    matches!(refused, Err(Error::Incomplete { hash, .. }) if hash == expected),
                    "{refused:?}"
                );
            }
            assert!(trial.user_names()?.is_empty());
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
            assert_eq!(store.present_ranges(&sample.hash).await?, present);
        }
    }
    Ok(())
}

async fn export_missing_notfound<S: Export>(trial: &Trial<S>, store: S) -> Outcome {
    let absent = Hash::new(b"absent");
    for mode in MODES {
        let refused = export(&store, absent, &trial.user("target"), mode).await;
        assert!(matches!(refused, Err(Error::NotFound { hash }) if hash == absent), "{refused:?}");
    }
    assert!(trial.user_names()?.is_empty());
    Ok(())
}

async fn export_relative_target_rejected<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(1000);
    let _pinned = sample.import(&store).await?;
    // What a store that does not refuse it leaves must not be found by the next trial.
    let name = format!("export-{:016x}-{}", trial.seed(), std::process::id());
    for target in [name.clone(), format!("./{name}"), String::new(), format!("missing/../{name}")] {
        for mode in MODES {
            let refused = export(&store, sample.hash, target.as_ref(), mode).await;
            let was_written = fs::remove_file(&name).is_ok();
            assert!(matches!(refused, Err(Error::RelativePath { .. })), "{target} {refused:?}");
            assert!(!was_written, "{target}");
        }
    }
    Ok(())
}
