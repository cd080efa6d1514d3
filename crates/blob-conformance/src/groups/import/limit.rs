//! The size limit of a store.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use blob_traits::{
    BlobFormat, BlobStatus, Error, Import, ImportExt, ListBlobs, Map, Progress, Result, Store, TempTag,
    TempTags,
};
use bytes::Bytes;
use futures_lite::stream;

use super::way::{Way, check_empty, check_whole};
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "import", for S: Store;
    import_stream_never_ending_respects_size_cap [needs SizeLimit],
    import_over_the_size_cap_refused_whatever_the_source [needs SizeLimit],
    import_at_the_size_cap_accepted_whatever_the_source [needs SizeLimit],
}

/// Each is on another side of the thresholds that a store may have.
const LIMITS: [usize; 2] = [5000, 200_000];

fn check_too_large(imported: Result<(TempTag, u64)>, expected: usize) {
    let error = imported.expect_err("it is over the limit");
    let Error::TooLarge { size, limit } = error else { panic!("{error:?}") };
    assert!(limit == expected as u64 && size > limit, "{error:?}");
}

async fn import_stream_never_ending_respects_size_cap<S: Map + Import + ListBlobs + TempTags>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    // An end it has after all, for stores that do not look.
    const ENDLESS: u64 = 4096;
    for limit in LIMITS {
        let home = trial.other_home(&limit.to_string()).with_max_blob_size(limit as u64);
        let store = trial.open(&home).await?;
        let n_taken = Arc::new(AtomicU64::new(0));
        let counter = n_taken.clone();
        let pieces = std::iter::from_fn(move || {
            let is_over = counter.fetch_add(1, Ordering::Relaxed) >= ENDLESS;
            (!is_over).then(|| io::Result::Ok(Bytes::from_static(&[7; 1000])))
        });
        let import = store.import_stream(stream::iter(pieces), BlobFormat::Raw, Progress::none());
        check_too_large(import.await, limit);
        let n_taken = n_taken.load(Ordering::Relaxed);
        assert!(n_taken < ENDLESS, "{n_taken} pieces were taken under a limit of {limit} bytes");
        check_empty(&store).await?;
    }
    Ok(())
}

async fn import_over_the_size_cap_refused_whatever_the_source<S: Map + Import + ListBlobs + TempTags>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    for limit in LIMITS {
        let home = trial.other_home(&limit.to_string()).with_max_blob_size(limit as u64);
        let store = trial.open(&home).await?;
        let sample = Sample::new(limit + 1);
        for way in Way::ALL {
            let source = way.source(trial, &sample)?;
            check_too_large(store.import(source, BlobFormat::Raw.into(), Progress::none()).await, limit);
            check_empty(&store).await?;
        }
    }
    Ok(())
}

async fn import_at_the_size_cap_accepted_whatever_the_source<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    for limit in LIMITS {
        let home = trial.other_home(&limit.to_string()).with_max_blob_size(limit as u64);
        let store = trial.open(&home).await?;
        for (number, way) in (0..).zip(Way::ALL) {
            let sample = Sample::numbered(limit, number);
            let source = way.source(trial, &sample)?;
            store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
            check_whole(&store, &sample).await?;
        }
    }
    Ok(())
}
