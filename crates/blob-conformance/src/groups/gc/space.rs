//! What the disk gets back.

use blob_traits::{Store, Sweep};

use super::{assert_gone, assert_kept, import, sweep, tag_raw};
use crate::{Outcome, Sample, Trial, case::group, eventually};

group! {
    "gc", for S: Store, Sweep;
    gc_reclaims_disk_space_measured [needs Files Persistence],
}

/// In bytes, large against what a store writes down of a removal.
const GARBAGE: u64 = 4 << 20;

/// One blob is kept, and others of its size are collected.
async fn reclaim<S: Store + Sweep>(
    trial: &Trial<S>,
    store: &S,
    size: usize,
    and_then: impl AsyncFnOnce() -> Outcome,
) -> Outcome {
    let n_garbage = GARBAGE.div_ceil(size as u64).max(4);
    let live = Sample::new(size);
    let garbage: Vec<_> = (1..=n_garbage).map(|number| Sample::numbered(size, number)).collect();
    tag_raw(store, "live", &live).await?;
    import(store, garbage.iter().chain([&live])).await?;
    store.sync().await?;
    let taken = n_garbage * live.size();
    let before = trial.home().allocated_bytes();
    assert!(before >= taken, "{before} bytes hold {taken}");
    sweep(store).await?;
    and_then().await?;
    let what = format!("{taken} of {before} bytes are free again");
    eventually(&what, async || Ok(trial.home().allocated_bytes() + taken <= before)).await?;
    assert_gone(store, &garbage).await?;
    assert_kept(store, [&live]).await
}

/// Blobs in files of their own go with them. What lay together with others comes back when the store compacts.
async fn gc_reclaims_disk_space_measured<S: Store + Sweep>(trial: &Trial<S>, store: S) -> Outcome {
    reclaim(trial, &store, trial.large(), async || Ok(())).await?;
    for size in [10_000, 40_000] {
        if let Some(compacted) = trial.compacted(store.clone()) {
            reclaim(trial, &store, size, async || Ok(compacted.await?)).await?;
        }
    }
    Ok(())
}
