//! Repair with somebody who has what is lost, or says so.

use std::io::Cursor;

use blob_traits::{Error, FullStore};
use blob_validate::{BaoStream, Outcome as Left, Source};

use super::{
    assert_complete, assert_outcome, assert_partial, copy, import, repaired, validated, what_became_of,
};
use crate::{
    Failure, GROUP, Outcome, Sample, Trial,
    case::group,
    group_ranges,
    harm::{Harm, Harmful, harmed},
    harmed::Harmed,
};

group! {
    "validate_repair", for S: FullStore;
    repair_from_a_copy_fetches_what_is_lost_and_nothing_else,
    repair_from_a_copy_restores_what_a_partial_blob_had,
    repair_goes_on_with_the_next_source,
    repair_trusts_no_source,
    repair_from_a_file_takes_what_fits,
    repair_from_a_stream,
    repair_completes_what_an_earlier_one_left,
    repair_with_a_source_replaces_what_cannot_be_read,
    repair_completes_no_download,
}

/// One damaged blob of each way: in its last group.
fn last_groups<S>(trial: &Trial<S>) -> Vec<Harmful> {
    let samples = trial.ways().into_iter().map(Sample::new);
    samples.map(|sample| Harmful::data(&sample, Harm::Flipped(sample.size() - 1))).collect()
}

/// The store of the trial, with damage.
async fn damaged<S: FullStore>(trial: &Trial<S>, store: S, harms: &[Harmful]) -> Result<Harmed<S>, Failure> {
    import(&store, harms.iter().map(|harm| &harm.sample)).await?;
    harmed(trial, store, harms).await
}

async fn repair_from_a_copy_fetches_what_is_lost_and_nothing_else<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let harms = last_groups(trial);
    let store = damaged(trial, store, &harms).await?;
    let copy = copy(trial, "copy", harms.iter().map(|harm| &harm.sample)).await?;
    let report = repaired(&store, vec![Source::store("copy", copy)]).await?;
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.blobs.len(), harms.len());
    for Harmful { sample, .. } in &harms {
        assert_outcome(&report, sample, &Left::Complete);
        let fetched = what_became_of(&report, sample)?.fetched;
        let last = sample.bytes_of_group(sample.n_groups() - 1);
        assert_eq!(fetched.n_bytes, last.len() as u64);
        // No more pairs than stand above one group.
        assert!(fetched.n_hash_bytes <= 64 * 64, "{fetched:?}");
        assert_complete(&store, sample).await?;
        assert!(!store.inner().was_demoted(&sample.hash).await?);
    }
    assert!(validated(&store).await?.is_clean());
    Ok(())
}

async fn repair_from_a_copy_restores_what_a_partial_blob_had<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let harm = Harmful::data(&Sample::new(trial.large() + 100_000), Harm::Flipped(GROUP));
    let sample = &harm.sample;
    sample.write(&store, &group_ranges(0..3)).await?;
    store.sync().await?;
    let store = harmed(trial, store, std::slice::from_ref(&harm)).await?;
    let copy = copy(trial, "copy", [sample]).await?;
    let report = repaired(&store, vec![Source::store("copy", copy)]).await?;
    assert_eq!(report.n_fetched_bytes(), GROUP);
    // It is as far on its way as it was.
    assert_partial(&store, sample, &(sample.all_chunks() - group_ranges(0..3))).await
}

/// One has nothing, one fails, one is damaged in the same place, one is right.
async fn repair_goes_on_with_the_next_source<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = last_groups(trial);
    let store = damaged(trial, store, &harms).await?;
    let samples: Vec<_> = harms.iter().map(|harm| harm.sample.clone()).collect();
    let empty = copy(trial, "empty", []).await?;
    let failing = Harmed::new(copy(trial, "failing", &samples).await?);
    let wrong = Harmed::new(copy(trial, "wrong", &samples).await?);
    let right = copy(trial, "right", &samples).await?;
    for harm in &harms {
        failing.make_unreadable(&harm.sample, &harm.hit());
        wrong.harm(harm);
    }
    let sources = vec![
        Source::store("empty", empty),
        Source::store("failing", failing),
        Source::store("wrong", wrong),
        Source::store("right", right),
    ];
    let report = repaired(&store, sources).await?;
    assert!(report.is_clean(), "{report:?}");
    for sample in &samples {
        let failures = &what_became_of(&report, sample)?.failures;
        assert!(failures.iter().any(|line| line.starts_with("failing")), "{failures:?}");
        assert_complete(&store, sample).await?;
    }
    Ok(())
}

async fn repair_trusts_no_source<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = last_groups(trial);
    let store = damaged(trial, store, &harms).await?;
    let samples: Vec<_> = harms.iter().map(|harm| harm.sample.clone()).collect();
    let liar = Harmed::new(copy(trial, "liar", &samples).await?);
    for sample in &samples {
        let other = Sample::numbered(sample.data.len(), 1);
        liar.harm(&Harmful::data(sample, Harm::Replaced(other.data.clone())));
        liar.harm(&Harmful::tree(sample, Harm::Replaced(other.outboard.data.into())));
    }
    let lying_file = {
        let sample = samples.last().ok_or("none")?;
        let other = Sample::numbered(sample.data.len(), 1);
        Source::file(sample.hash, trial.user_file("lie", &other.data)?)
    };
    let lying_stream = Source::stream("stream", |_, size, ranges| async move {
        let other = Sample::numbered(usize::try_from(size).unwrap_or_default(), 1);
        Ok(Some(Box::new(Cursor::new(other.encode(&ranges))) as BaoStream))
    });
    let report = repaired(&store, vec![Source::store("liar", liar), lying_file, lying_stream]).await?;
    assert!(!report.is_clean());
    for harm in &harms {
        assert_partial(&store, &harm.sample, &harm.hit()).await?;
    }
    assert!(validated(&store).await?.damaged.is_empty());
    Ok(())
}

/// An older copy: shorter, and with other bytes in some places.
async fn repair_from_a_file_takes_what_fits<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large().max(200_000));
    let harms = [0, 2, 4, sample.n_groups() - 1]
        .map(|group| Harmful::data(&sample, Harm::Flipped(group * GROUP + 3)));
    let store = damaged(trial, store, &harms).await?;
    let mut old = Harm::Flipped(2 * GROUP).applied(&sample.data).ok_or("it is there")?;
    old.truncate(old.len() - 10);
    let path = trial.user_file("old", &old)?;
    let report = repaired(&store, vec![Source::file(sample.hash, &path)]).await?;
    assert_eq!(report.n_fetched_bytes(), 2 * GROUP);
    let lost = sample.group_range(2) | sample.group_range(sample.n_groups() - 1);
    assert_partial(&store, &sample, &lost).await?;
    assert!(std::fs::read(&path)? == old, "a source is only read");
    // What is no file, or not there, does not hold up the rest.
    let right = trial.user_file("right", &sample.data)?;
    let sources = [trial.user("none"), trial.user(""), right].map(|path| Source::file(sample.hash, path));
    let report = repaired(&store, sources.into()).await?;
    assert_outcome(&report, &sample, &Left::Complete);
    assert_eq!(what_became_of(&report, &sample)?.failures.len(), 2);
    assert_complete(&store, &sample).await
}

async fn repair_from_a_stream<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = last_groups(trial);
    let store = damaged(trial, store, &harms).await?;
    let samples: Vec<_> = harms.iter().map(|harm| harm.sample.clone()).collect();
    let refusing = Source::stream("refusing", |_, _, _| async { Err(Error::Closed) });
    let ignorant = Source::stream("ignorant", |_, _, _| async { Ok(None) });
    let known = samples.clone();
    let right = Source::stream("right", move |hash, size, ranges| {
        let sample = known.iter().find(|sample| sample.hash == hash && sample.size() == size).cloned();
        async move { Ok(sample.map(|sample| Box::new(Cursor::new(sample.encode(&ranges))) as BaoStream)) }
    });
    let report = repaired(&store, vec![refusing, ignorant, right]).await?;
    assert!(report.is_clean(), "{report:?}");
    let n_lost: usize = samples.iter().map(|sample| sample.bytes_of_group(sample.n_groups() - 1).len()).sum();
    assert_eq!(report.n_fetched_bytes(), n_lost as u64);
    for sample in &samples {
        assert_complete(&store, sample).await?;
    }
    Ok(())
}

async fn repair_completes_what_an_earlier_one_left<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let harms = last_groups(trial);
    let store = damaged(trial, store, &harms).await?;
    assert!(!repaired(&store, Vec::new()).await?.is_clean());
    let copy = copy(trial, "copy", harms.iter().map(|harm| &harm.sample)).await?;
    let report = repaired(&store, vec![Source::store("copy", copy)]).await?;
    assert!(report.is_clean() && report.found.damaged.is_empty(), "{report:?}");
    for Harmful { sample, .. } in &harms {
        assert_complete(&store, sample).await?;
        assert!(!store.inner().was_demoted(&sample.hash).await?);
    }
    Ok(())
}

async fn repair_with_a_source_replaces_what_cannot_be_read<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    import(&store, &samples).await?;
    let store = Harmed::new(store);
    for sample in &samples {
        store.make_unreadable(sample, &sample.group_range(0));
    }
    let copy = copy(trial, "copy", &samples).await?;
    let report = repaired(&store, vec![Source::store("copy", copy)]).await?;
    assert!(report.is_clean(), "{report:?}");
    for sample in &samples {
        let fetched = what_became_of(&report, sample)?.fetched;
        assert_eq!(fetched.n_bytes, sample.bytes_of_group(0).len() as u64);
        assert_complete(&store, sample).await?;
    }
    Ok(())
}

/// What is partial because it is on its way is nobody's damage, though a source would have the rest.
async fn repair_completes_no_download<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    sample.write(&store, &group_ranges(0..2)).await?;
    let copy = copy(trial, "copy", [&sample]).await?;
    let report = repaired(&store, vec![Source::store("copy", copy)]).await?;
    assert!(report.blobs.is_empty(), "{report:?}");
    assert_partial(&store, &sample, &(sample.all_chunks() - group_ranges(0..2))).await
}
