//! Validation of a part of a store, or for a while.

use std::{
    collections::BTreeSet,
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use blob_traits::{Hash, HashAndFormat, Progress, ScanBlobs, Store, Tag, TagRange};
use blob_validate::{Budget, Ended, Subset, ValidateOptions, ValidateReport, ValidateStore, validate};

use super::import;
use crate::{
    Failure, Outcome, Sample, Trial,
    case::group,
    harm::{Harm, Harmful},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: Store, ScanBlobs;
    validate_of_some_hashes_looks_at_those_alone,
    validate_of_tags_follows_sequences_and_looks_at_nothing_else,
    validate_of_samples_sees_every_blob_in_the_end,
    validate_ends_when_its_budget_is_spent,
    validate_with_one_job_finds_what_many_find,
}

async fn validated<S: ValidateStore>(
    store: &S,
    change: impl FnOnce(&mut ValidateOptions),
) -> Result<ValidateReport, Failure> {
    let mut options = ValidateOptions::default();
    change(&mut options);
    Ok(validate(store, options, Progress::none()).await?)
}

fn damaged(report: &ValidateReport) -> BTreeSet<Hash> {
    report.damaged.iter().map(|blob| blob.hash).collect()
}

fn hashes<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> BTreeSet<Hash> {
    samples.into_iter().map(|sample| sample.hash).collect()
}

/// A store in which every one of these blobs reads as damaged.
async fn all_damaged<S: Store>(store: S, samples: &[Sample]) -> Result<Harmed<S>, Failure> {
    import(&store, samples).await?;
    let store = Harmed::new(store);
    for sample in samples {
        store.harm(&Harmful::data(sample, Harm::Flipped(0)));
    }
    Ok(store)
}

async fn validate_of_some_hashes_looks_at_those_alone<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    let store = all_damaged(store, &samples).await?;
    let some = hashes(samples.iter().take(1));
    let with_absent: BTreeSet<_> = some.iter().copied().chain([Hash::new("absent")]).collect();
    let report = validated(&store, |options| options.subset = Subset::Hashes(with_absent)).await?;
    assert_eq!((damaged(&report), report.n_complete), (some, 1));
    let report = validated(&store, |options| options.subset = Subset::Hashes(BTreeSet::new())).await?;
    assert!(report.is_clean() && report.n_complete == 0);
    Ok(())
}

async fn validate_of_tags_follows_sequences_and_looks_at_nothing_else<S: Store + ScanBlobs>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let mut samples: Vec<_> = (0..6).map(|number| Sample::numbered(1000, number)).collect();
    let list: Vec<u8> = samples.iter().take(2).flat_map(|child| *child.hash.as_bytes()).collect();
    let list = Sample::of(list);
    import(&store, [&list]).await?;
    let raw = samples.get(2).ok_or("none")?.hash;
    for (name, content) in [
        ("in/list", HashAndFormat::hash_seq(list.hash)),
        ("in/raw", HashAndFormat::raw(raw)),
        ("in/none", HashAndFormat::raw(Hash::new("absent"))),
        ("out/raw", HashAndFormat::raw(samples.get(3).ok_or("none")?.hash)),
    ] {
        store.set_tag(name.into(), Some(content)).await?;
    }
    let store = all_damaged(store, &samples).await?;
    samples.truncate(3);
    let subset = Subset::Tags(TagRange::prefix(Tag::from("in/")));
    let report = validated(&store, |options| options.subset = subset).await?;
    assert_eq!((damaged(&report), report.n_complete), (hashes(&samples), 4));
    Ok(())
}

async fn validate_of_samples_sees_every_blob_in_the_end<S: Store + ScanBlobs>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = (0..40).map(|number| Sample::numbered(100, number)).collect();
    let store = all_damaged(store, &samples).await?;
    let found_in = async |one_in, seed| {
        let one_in = NonZeroU64::new(one_in).ok_or("zero")?;
        let report = validated(&store, |options| options.subset = Subset::Sample { one_in, seed }).await?;
        Ok::<_, Failure>(damaged(&report))
    };
    assert_eq!(found_in(1, 0).await?, hashes(&samples));
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let found = found_in(4, seed).await?;
        assert!(found.len() < samples.len(), "that is no sample");
        assert_eq!(found, found_in(4, seed).await?, "the same seed chooses others");
        seen.extend(found);
    }
    assert_eq!(seen, hashes(&samples));
    Ok(())
}

async fn validate_ends_when_its_budget_is_spent<S: Store + ScanBlobs>(trial: &Trial<S>, store: S) -> Outcome {
    let samples: Vec<_> = (0..6).map(|number| Sample::numbered(trial.large().max(2 << 20), number)).collect();
    let store = all_damaged(store, &samples).await?;
    let few = async |budget: fn(&mut Budget)| {
        validated(&store, |options| {
            options.jobs = NonZeroUsize::new(1);
            budget(&mut options.budget);
        })
        .await
    };
    let none = few(|budget| budget.time = Some(Duration::ZERO)).await?;
    assert_eq!((none.ended, none.n_complete), (Ended::BudgetSpent, 0));
    let some = few(|budget| budget.n_bytes = Some(1)).await?;
    assert_eq!(some.ended, Ended::BudgetSpent);
    // What has begun is finished.
    let n_found = some.damaged.len();
    assert!((1..samples.len()).contains(&n_found), "{n_found} of {}", samples.len());
    let all = few(|budget| budget.n_bytes = Some(u64::MAX)).await?;
    assert_eq!((all.ended, damaged(&all)), (Ended::AllDone, hashes(&samples)));
    Ok(())
}

async fn validate_with_one_job_finds_what_many_find<S: Store + ScanBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    samples.push(Sample::new(20 << 20));
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    for sample in &samples {
        store.harm(&Harmful::data(sample, Harm::Flipped(sample.size() - 1)));
        store.harm(&Harmful::tree(sample, Harm::Flipped(70)));
    }
    let mut found = Vec::new();
    for jobs in [1, 2, 7] {
        let report = validated(&store, |options| options.jobs = NonZeroUsize::new(jobs)).await?;
        let all: Vec<_> =
            report.damaged.into_iter().map(|blob| (blob.hash, blob.bad, blob.n_bad_pairs)).collect();
        assert_eq!(all.len(), samples.len());
        found.push(all);
    }
    assert!(found.iter().all(|all| Some(all) == found.first()));
    Ok(())
}
