//! Reads that fail while a store is validated or repaired: what they would have shown is not known, and not lost.

use bao_tree::ChunkRanges;
use blob_traits::{Error, FullStore};
use blob_validate::Outcome as Left;

use super::{assert_complete, import, repaired, validated};
use crate::{Fault, Lasts, Operations, Outcome, Sample, Trial, case::group};

group! {
    "validate_repair", for S: FullStore;
    validate_eio_at_every_read_is_reported_and_no_damage [needs Faults],
    repair_eio_at_every_read_takes_nothing_back [needs Faults],
}

const EIO: i32 = 5;

/// No run of these cases reads more often.
const MOST: u64 = 400;

async fn filled<S: FullStore>(trial: &Trial<S>, store: &S) -> Result<Vec<Sample>, crate::Failure> {
    let samples: Vec<_> = vec![Sample::new(1000), Sample::new(100_000), Sample::numbered(trial.large(), 1)];
    import(store, &samples).await?;
    store.sync().await?;
    Ok(samples)
}

async fn validate_eio_at_every_read_is_reported_and_no_damage<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let faults = trial.faults()?;
    filled(trial, &store).await?;
    for lasts in [Lasts::Once, Lasts::UntilDisarmed] {
        for at in 1..=MOST {
            faults.arm(Fault { at, what: Operations::Reads, lasts, errno: EIO });
            let report = validated(&store).await;
            faults.disarm();
            if !faults.has_fired() {
                assert!(report?.is_clean());
                break;
            }
            assert!(at < MOST, "it does not end");
            let report = match report {
                Ok(report) => report,
                Err(Error::Io { .. }) => continue,
                Err(other) => return Err(other.into()),
            };
            for damaged in &report.damaged {
                assert!(damaged.bad.is_empty(), "{lasts:?} {at}: {damaged:?}");
            }
        }
    }
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

async fn repair_eio_at_every_read_takes_nothing_back<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let faults = trial.faults()?;
    let samples = filled(trial, &store).await?;
    for lasts in [Lasts::Once, Lasts::UntilDisarmed] {
        for at in 1..=MOST {
            faults.arm(Fault { at, what: Operations::Reads, lasts, errno: EIO });
            let report = repaired(&store, Vec::new()).await;
            faults.disarm();
            if let Ok(report) = &report {
                let lost = |left: &Left| matches!(left, Left::Partial { missing } if !missing.is_empty());
                assert!(!report.blobs.iter().any(|blob| lost(&blob.outcome)), "{report:?}");
            }
            for sample in &samples {
                let present = store.present_ranges(&sample.hash).await?.unwrap_or_else(ChunkRanges::empty);
                assert!(sample.all_chunks().is_subset(&present), "{lasts:?} {at}: {present:?}");
            }
            if !faults.has_fired() {
                break;
            }
            assert!(at < MOST, "it does not end");
        }
    }
    let report = repaired(&store, Vec::new()).await?;
    assert!(report.is_clean(), "{report:?}");
    for sample in &samples {
        assert_complete(&store, sample).await?;
    }
    Ok(())
}
