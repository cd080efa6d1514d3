//! Repair where something cannot be read, here or at a source.

use blob_traits::{EntryStatus, FullStore};
use blob_validate::{Outcome as Left, Source};

use super::{assert_complete, assert_outcome, assert_partial, copy, import, repaired, what_became_of};
use crate::{
    Failure, GROUP, Outcome, Sample, Trial,
    case::group,
    harm::{Harm, Harmful},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: FullStore;
    repair_takes_back_what_cannot_be_read_only_where_a_source_has_the_blob,
    repair_says_what_still_cannot_be_read,
    repair_takes_from_a_source_what_is_beside_its_bad_sector,
}

/// A blob of some groups, in the store of the trial.
async fn sample_in<S: FullStore>(trial: &Trial<S>, store: S) -> Result<(Sample, Harmed<S>), Failure> {
    let sample = Sample::new(trial.large().max(200_000));
    import(&store, [&sample]).await?;
    Ok((sample, Harmed::new(store)))
}

async fn repair_takes_back_what_cannot_be_read_only_where_a_source_has_the_blob<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (sample, store) = sample_in(trial, store).await?;
    store.make_unreadable(&sample, &sample.group_range(1));
    let other = copy(trial, "other", [&Sample::numbered(5000, 7)]).await?;
    let report = repaired(&store, vec![Source::store("other", other)]).await?;
    assert_outcome(&report, &sample, &Left::Unreadable);
    assert_eq!(store.inner().entry_status(&sample.hash).await?, EntryStatus::Complete);
    assert!(!store.inner().was_demoted(&sample.hash).await?);
    store.heal();
    assert_complete(&store, &sample).await
}

/// A source has one of two groups: the damaged one. The other is left, and it is not said that all is well.
async fn repair_says_what_still_cannot_be_read<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let (sample, store) = sample_in(trial, store).await?;
    store.harm(&Harmful::data(&sample, Harm::Flipped(5)));
    store.make_unreadable(&sample, &sample.group_range(3));
    let copy = copy(trial, "copy", [&sample]).await?;
    let source = Source::store("copy", copy).only(sample.hash, sample.group_range(0));
    let report = repaired(&store, vec![source]).await?;
    assert_outcome(&report, &sample, &Left::Unreadable);
    assert!(!report.is_clean());
    assert_eq!(report.n_fetched_bytes(), GROUP);
    Ok(())
}

async fn repair_takes_from_a_source_what_is_beside_its_bad_sector<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (sample, store) = sample_in(trial, store).await?;
    for group in [0, 2, 4] {
        store.harm(&Harmful::data(&sample, Harm::Flipped(group * GROUP)));
    }
    let bad = Harmed::new(copy(trial, "bad", [&sample]).await?);
    bad.make_unreadable(&sample, &sample.group_range(0));
    let bad = Source::store("bad", bad);
    let report = repaired(&store, vec![bad.clone()]).await?;
    assert_eq!(report.n_fetched_bytes(), 2 * GROUP);
    let failures = &what_became_of(&report, &sample)?.failures;
    assert!(failures.iter().any(|line| line.starts_with("bad")), "{failures:?}");
    assert_partial(&store, &sample, &sample.group_range(0)).await?;
    // And it does not keep another one from being asked.
    let good = copy(trial, "good", [&sample]).await?;
    let report = repaired(&store, vec![bad, Source::store("good", good)]).await?;
    assert_outcome(&report, &sample, &Left::Complete);
    assert_complete(&store, &sample).await
}
