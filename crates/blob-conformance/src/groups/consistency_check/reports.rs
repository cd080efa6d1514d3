//! What a check says, and how it begins and ends.

use std::fs;

use blob_traits::{
    BlobFormat, CheckMode, ConsistencyCheckProgress, Error, Hash, HashAndFormat, ImportMode, Progress,
    ReportLevel, Store,
};

use super::{Said, events, troubles};
use crate::{Capability, Outcome, Sample, Trial, case::group, drop_at_every_await, group_ranges};

group! {
    "consistency_check", for S: Store;
    cc_clean_store_no_warn_or_error,
    cc_event_grammar_start_update_done_or_abort,
    cc_receiver_dropped_ends_it,
    cc_drop_future_at_every_await,
    cc_tag_to_missing_blob_warn,
    cc_external_path_missing_warn_other_paths_kept [needs References],
}

/// Fills a store with all that it can have, tags among it.
async fn fill<S: Store>(trial: &Trial<S>, store: &S) -> Outcome {
    for size in trial.ways() {
        let [kept, deleted, partial] =
            [0, 1, 2].map(|number| Sample::numbered(size.max(20_000 * usize::from(number == 2)), number));
        let pin = kept.import(store).await?;
        store.set_tag(format!("{size}").as_str().into(), Some(pin.hash_and_format())).await?;
        drop(deleted.import(store).await?);
        store.delete(vec![deleted.hash]).await?;
        partial.write(store, &group_ranges(0..1)).await?;
    }
    if trial.has(Capability::References) {
        let sample = Sample::numbered(trial.large(), 3);
        let path = trial.user_file("file", &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?);
    }
    Ok(store.sync().await?)
}

async fn cc_clean_store_no_warn_or_error<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    fill(trial, &store).await?;
    for mode in [CheckMode::Report, CheckMode::Repair, CheckMode::Report] {
        assert_eq!(troubles(&store, mode).await?, []);
    }
    if trial.has(Capability::Persistence) {
        let store = trial.reopen(store).await?;
        assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    }
    Ok(())
}

async fn cc_event_grammar_start_update_done_or_abort<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    fill(trial, &store).await?;
    store.set_tag("nowhere".into(), Some(HashAndFormat::raw(Hash::new("absent")))).await?;
    for mode in [CheckMode::Report, CheckMode::Repair] {
        let (checked, events) = events(&store, mode).await;
        checked?;
        assert_eq!(events.first(), Some(&ConsistencyCheckProgress::Start));
        assert_eq!(events.last(), Some(&ConsistencyCheckProgress::Done));
        let between = events.get(1..events.len() - 1).unwrap_or_default();
        let is_update = |event| matches!(event, &ConsistencyCheckProgress::Update { .. });
        assert!(!between.is_empty() && between.iter().all(is_update), "{events:?}");
    }
    store.shutdown().await?;
    let (checked, events) = events(&store, CheckMode::Report).await;
    assert!(matches!(checked, Err(Error::Closed)), "{checked:?}");
    assert!(matches!(events.last(), Some(ConsistencyCheckProgress::Abort(_))), "{events:?}");
    Ok(())
}

async fn cc_receiver_dropped_ends_it<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    fill(trial, &store).await?;
    let (progress, events) = Progress::channel(1);
    drop(events);
    let checked = store.consistency_check(CheckMode::Report, progress).await;
    assert!(matches!(checked, Err(Error::Cancelled)), "{checked:?}");
    Ok(())
}

async fn cc_drop_future_at_every_await<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    fill(trial, &store).await?;
    for mode in [CheckMode::Report, CheckMode::Repair] {
        let checking = async || Ok(store.consistency_check(mode, Progress::none()).await?);
        drop_at_every_await(checking, async || Ok(())).await?;
    }
    assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    Ok(())
}

async fn cc_tag_to_missing_blob_warn<S: Store>(_: &Trial<S>, store: S) -> Outcome {
    let (absent, there) = (Hash::new("absent"), Sample::new(1000));
    store.set_tag("nowhere".into(), Some(HashAndFormat::raw(absent))).await?;
    let pin = there.import(&store).await?;
    store.set_tag("somewhere".into(), Some(pin.hash_and_format())).await?;
    for mode in [CheckMode::Report, CheckMode::Repair, CheckMode::Report] {
        let said: Vec<_> =
            troubles(&store, mode).await?.into_iter().map(|said| (said.level, said.entry)).collect();
        assert_eq!(said, [(ReportLevel::Warn, Some(absent))]);
    }
    // What it names may be on its way.
    assert_eq!(store.get_tag(&"nowhere".into()).await?, Some(HashAndFormat::raw(absent)));
    Ok(())
}

async fn cc_external_path_missing_warn_other_paths_kept<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    for name in ["gone", "there"] {
        let path = trial.user_file(name, &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?);
    }
    assert_eq!(troubles(&store, CheckMode::Report).await?, []);
    fs::remove_file(trial.user("gone"))?;
    for mode in [CheckMode::Report, CheckMode::Repair] {
        // A store may know one of the files alone.
        let said = troubles(&store, mode).await?;
        let is_known = |said: &Said| said.entry == Some(sample.hash) && said.level == ReportLevel::Warn;
        assert!(said.iter().all(is_known), "{said:?}");
        match store.read_verified(sample.hash, 0..u64::MAX).await {
            Ok(bytes) => assert!(bytes == sample.data, "it has other bytes"),
            Err(e) => assert!(!said.is_empty(), "nothing is said of {e:?}"),
        }
    }
    assert_eq!(trial.user_names()?, ["there"]);
    // With the last of them the bytes are gone.
    fs::remove_file(trial.user("there"))?;
    let said = troubles(&store, CheckMode::Report).await?;
    assert!(said.iter().any(|said| said.entry == Some(sample.hash)), "{said:?}");
    Ok(())
}
