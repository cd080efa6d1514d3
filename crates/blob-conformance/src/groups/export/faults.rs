//! Exports while the file system fails.

use std::{fs, io::ErrorKind};

use blob_traits::{Error, Export, ExportMode, Import, Map, MapExt, Store};
use rustix::io::Errno;

use super::export;
use crate::{Fault, Lasts, Operations, Outcome, Sample, Trial, case::group};

group! {
    "export", for S: Store;
    export_copy_atomic_target_absent_or_whole_on_error [needs Faults],
    export_copy_failed_read_leaves_no_target [needs Faults],
    export_copy_full_disk_reported_as_no_space [needs Faults],
    export_reference_target_absent_or_whole_on_error [needs Faults MovesOut],
}

/// No export takes so many operations.
const MANY: u64 = 200;

const ONCE: Fault =
    Fault { at: 1, what: Operations::Writes, lasts: Lasts::Once, errno: Errno::IO.raw_os_error() };

/// Exports with this fault armed. Returns whether it has struck, and how the export ended.
async fn export_under<S: Map + Export>(
    trial: &Trial<S>,
    store: &S,
    sample: &Sample,
    mode: ExportMode,
    fault: Fault,
) -> Result<(bool, blob_traits::Result<()>), crate::Failure> {
    let (faults, target) = (trial.faults()?, trial.user("target"));
    faults.arm(fault);
    let exported = export(store, sample.hash, &target, mode).await;
    faults.disarm();
    match fs::read(&target) {
        Ok(found) => assert!(found == sample.data, "{fault:?}: {} bytes, {exported:?}", found.len()),
        Err(e) => assert!(e.kind() == ErrorKind::NotFound && exported.is_err(), "{fault:?}: {exported:?}"),
    }
    let read = store.read_verified(sample.hash, 0..u64::MAX).await;
    assert!(read.as_ref().is_ok_and(|read| *read == sample.data), "{fault:?}: {:?}", read.err());
    Ok((faults.has_fired(), exported))
}

async fn export_copy_atomic_target_absent_or_whole_on_error<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let what = [Operations::Writes, Operations::Syncs];
    let kinds =
        what.into_iter().flat_map(|what| [Lasts::Once, Lasts::UntilDisarmed].map(|lasts| (what, lasts)));
    for (size, (what, lasts)) in trial
        .ways()
        .into_iter()
        .filter(|size| *size < 200_000)
        .flat_map(|size| kinds.clone().map(move |kind| (size, kind)))
    {
        let sample = Sample::new(size);
        let _pinned = sample.import(&store).await?;
        let mut is_over = false;
        for at in 1..MANY {
            let fault = Fault { at, what, lasts, ..ONCE };
            let (has_fired, exported) = export_under(trial, &store, &sample, ExportMode::Copy, fault).await?;
            if lasts == Lasts::Once {
                assert!(trial.user_names()?.iter().all(|name| name == "target"), "{fault:?}");
            }
            // While nothing can be removed, what was begun has to stay.
            for name in trial.user_names()? {
                fs::remove_file(trial.user(&name))?;
            }
            is_over = !has_fired;
            if is_over {
                exported?;
                break;
            }
        }
        assert!(is_over, "there is no end of operations");
    }
    Ok(())
}

async fn export_copy_failed_read_leaves_no_target<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        for at in 1..MANY {
            let fault = Fault { at, what: Operations::Reads, ..ONCE };
            let (has_fired, exported) = export_under(trial, &store, &sample, ExportMode::Copy, fault).await?;
            assert_eq!(trial.user_names()?.len(), usize::from(exported.is_ok()), "{fault:?} {exported:?}");
            let _ = fs::remove_file(trial.user("target"));
            if !has_fired {
                exported?;
                break;
            }
        }
    }
    Ok(())
}

async fn export_copy_full_disk_reported_as_no_space<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let fault = Fault { lasts: Lasts::UntilDisarmed, errno: Errno::NOSPC.raw_os_error(), ..ONCE };
        let (_, exported) = export_under(trial, &store, &sample, ExportMode::Copy, fault).await?;
        assert!(matches!(exported, Err(Error::NoSpace { .. })), "{exported:?}");
        assert!(trial.user_names()?.is_empty());
    }
    Ok(())
}

/// Whatever fails on the way, the blob is readable afterwards, here or there.
async fn export_reference_target_absent_or_whole_on_error<S: Map + Import + Export>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for at in 1..MANY {
        let sample = Sample::numbered(trial.large(), at);
        let pinned = sample.import(&store).await?;
        let fault = Fault { at, ..ONCE };
        let (has_fired, exported) =
            export_under(trial, &store, &sample, ExportMode::TryReference, fault).await?;
        drop(pinned);
        let _ = fs::remove_file(trial.user("target"));
        assert!(trial.user_names()?.is_empty(), "{fault:?}: {:?}", trial.user_names()?);
        if !has_fired {
            return Ok(exported?);
        }
    }
    Err("there is no end of operations".into())
}
