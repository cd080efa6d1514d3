//! What an export reports, when its target is there, and how it is cancelled.

use std::{
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use blob_traits::{
    Cancelled, Error, Export, ExportMode, ExportProgress, Import, Map, MapExt, Progress, Store,
};

use super::{MODES, assert_holds, replacing, shares_blocks};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_copy_progress_monotonic_ends_at_size,
    export_target_absent_until_whole,
    export_target_replaced_in_one_step,
    export_progress_cb_error_aborts_and_cleans,
    export_receiver_gone_aborts_and_cleans,
}

async fn export_copy_progress_monotonic_ends_at_size<S: Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let is_copied = !shares_blocks(&trial.user(""))?;
    for sample in trial.ways().into_iter().chain([3_000_000]).map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let (progress, mut events) = Progress::channel(1000);
        let target = trial.user(&sample.size().to_string());
        store.export(sample.hash, target.clone(), ExportMode::Copy, progress).await?;
        let Some(ExportProgress::Start { id, hash, path, stable }) = events.recv().await else {
            panic!("it does not begin with Start");
        };
        assert_eq!((hash, path, stable), (sample.hash, target, false));
        let mut offsets = Vec::new();
        let last = loop {
            match events.recv().await {
                Some(ExportProgress::Progress { id: of, offset }) if of == id => offsets.push(offset),
                other => break other,
            }
        };
        assert_eq!(last, Some(ExportProgress::Done { id }));
        assert_eq!(events.recv().await, None);
        assert!(offsets.is_sorted(), "{offsets:?}");
        if is_copied || !offsets.is_empty() {
            assert_eq!(offsets.last(), Some(&sample.size()));
        }
    }
    Ok(())
}

/// What the target looks like at each event of an export.
async fn looks<S: Export>(
    store: &S,
    sample: &Sample,
    target: &Path,
    mode: ExportMode,
) -> Vec<Option<Vec<u8>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (noted, looked_at) = (seen.clone(), target.to_owned());
    let progress = Progress::from_fn(move |event| {
        if !matches!(event, ExportProgress::Done { .. }) {
            let found = fs::read(&looked_at).ok();
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(found);
        }
        Ok(())
    });
    let exported = store.export(sample.hash, target.to_owned(), replacing(mode), progress).await;
    assert!(exported.is_ok(), "{exported:?}");
    std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn export_target_absent_until_whole<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large().max(3_000_000));
    let _pinned = sample.import(&store).await?;
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        let seen = looks(&store, &sample, &target, mode).await;
        assert!(!seen.is_empty());
        for found in seen.into_iter().flatten() {
            assert!(found == sample.data, "the target was seen with {} bytes", found.len());
        }
        assert_holds(&target, &sample);
    }
    Ok(())
}

async fn export_target_replaced_in_one_step<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large().max(3_000_000));
    let _pinned = sample.import(&store).await?;
    for mode in MODES {
        let target = trial.user_file(&format!("{mode:?}"), b"mine")?;
        for found in looks(&store, &sample, &target, mode).await {
            let is_whole = found.as_deref().is_some_and(|found| found == b"mine" || found == sample.data);
            assert!(is_whole, "the target was seen with {:?} bytes", found.map(|found| found.len()));
        }
        assert_holds(&target, &sample);
    }
    Ok(())
}

async fn export_progress_cb_error_aborts_and_cleans<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large().max(3_000_000));
    let _pinned = sample.import(&store).await?;
    for mode in MODES {
        let target = trial.user(&format!("{mode:?}"));
        let mut is_over = false;
        for n_allowed in 0..20 {
            let (n_events, is_done) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
            let done = is_done.clone();
            let progress = Progress::from_fn(move |event| {
                done.store(matches!(event, ExportProgress::Done { .. }), Ordering::SeqCst);
                if n_events.fetch_add(1, Ordering::SeqCst) < n_allowed { Ok(()) } else { Err(Cancelled) }
            });
            let ended = store.export(sample.hash, target.clone(), mode, progress).await;
            is_over = is_done.load(Ordering::SeqCst);
            if is_over {
                break;
            }
            assert!(matches!(ended, Err(Error::Cancelled)), "refused event {n_allowed}: {ended:?}");
            assert!(trial.user_names()?.is_empty(), "refused event {n_allowed}: {:?}", trial.user_names()?);
            assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        }
        assert!(is_over, "there is no end of events");
        assert_holds(&target, &sample);
        fs::remove_file(target)?;
        drop(sample.import(&store).await?);
    }
    Ok(())
}

async fn export_receiver_gone_aborts_and_cleans<S: Import + Export>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    for mode in MODES {
        let (progress, events) = Progress::channel(1);
        drop(events);
        let ended = store.export(sample.hash, trial.user("target"), mode, progress).await;
        assert!(matches!(ended, Err(Error::Cancelled)), "{ended:?}");
        assert!(trial.user_names()?.is_empty());
    }
    Ok(())
}
