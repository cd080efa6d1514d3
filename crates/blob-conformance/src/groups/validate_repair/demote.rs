//! Taking back that something is there.

use std::fs;

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBlobSize, BlobFormat, Damage, Error, FullStore, ImportMode, MapEntry, Progress, ReadBlob, Result,
    collect,
};

use super::{assert_complete, assert_missing, assert_partial, import};
use crate::{Failure, GROUP, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "validate_repair", for S: FullStore;
    demote_keeps_all_but_the_lost_ranges,
    demote_of_a_partial_blob_keeps_all_but_the_lost_ranges,
    demoted_blob_is_filled_and_completed_like_any_other,
    demoted_is_on_record_until_it_is_complete,
    demote_of_a_blob_that_is_another_by_now_changes_nothing,
    demote_leaves_open_readers_what_is_sound,
    demoted_in_steps_is_what_it_is_in_one,
    demote_never_touches_the_users_file [needs References],
    demoted_stays_so_when_opened_again [needs Persistence],
    demoted_survives_crash [needs Persistence Durability],
}

/// Takes back ranges of a blob in which nothing is wrong.
async fn demote<S: FullStore>(store: &S, sample: &Sample, lost: &ChunkRanges) -> Result<Option<S::EntryMut>> {
    let entry = store.existing(sample.hash).await?;
    store.demote(entry, Damage { lost: lost.clone(), mended: Vec::new() }).await
}

async fn demoted<S: FullStore>(store: &S, sample: &Sample, lost: &ChunkRanges) -> Outcome {
    let entry = demote(store, sample, lost).await?.ok_or("it is what the entry shows")?;
    assert_eq!((entry.hash(), entry.is_complete()), (sample.hash, false));
    Ok(())
}

/// Ranges that are interesting to lose.
fn losses(sample: &Sample) -> Vec<ChunkRanges> {
    let [first, mid, last] =
        [0, sample.n_groups() / 2, sample.n_groups() - 1].map(|group| sample.group_range(group));
    let but_one = sample.all_chunks() - mid.clone();
    vec![first.clone(), mid, last.clone(), first | last, but_one, sample.all_chunks(), ChunkRanges::empty()]
}

async fn demote_keeps_all_but_the_lost_ranges<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    for size in trial.ways() {
        for (number, lost) in (0..).zip(losses(&Sample::new(size))) {
            let sample = Sample::numbered(size, number);
            import(&store, [&sample]).await?;
            demoted(&store, &sample, &lost).await?;
            assert_partial(&store, &sample, &lost).await?;
            let size = store.existing(sample.hash).await?.size();
            assert_eq!(size, BaoBlobSize::Verified(sample.size()));
            assert!(!collect(store.blobs().await?).await?.contains(&sample.hash));
            assert!(collect(store.partial_blobs().await?).await?.contains(&sample.hash));
            if !lost.is_empty() {
                let read = store.read_to_bytes(sample.hash).await;
                assert!(matches!(read, Err(Error::Incomplete { .. })), "{read:?}");
            }
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

async fn demote_of_a_partial_blob_keeps_all_but_the_lost_ranges<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in [100_000, trial.large() + 100_000] {
        let sample = Sample::new(size);
        sample.write(&store, &group_ranges(0..4)).await?;
        demoted(&store, &sample, &group_ranges(1..2)).await?;
        let present = group_ranges(0..1) | group_ranges(2..4);
        assert_partial(&store, &sample, &(sample.all_chunks() - present)).await?;
        // Its size is no more than a claim.
        let entry = store.existing(sample.hash).await?;
        assert_eq!(entry.size(), BaoBlobSize::Unverified(sample.size()));
        // What is not there cannot be taken back.
        demoted(&store, &sample, &group_ranges(5..6)).await?;
        let present = group_ranges(0..1) | group_ranges(2..4);
        assert_partial(&store, &sample, &(sample.all_chunks() - present)).await?;
    }
    Ok(())
}

async fn demoted_blob_is_filled_and_completed_like_any_other<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        for lost in losses(&sample) {
            import(&store, [&sample]).await?;
            let entry = demote(&store, &sample, &lost).await?.ok_or("it is what the entry shows")?;
            let refused = store.insert_complete(entry.clone()).await;
            match refused {
                Ok(()) => assert!(lost.is_empty(), "it was completed without {lost:?}"),
                Err(Error::Incomplete { .. }) => assert!(!lost.is_empty(), "nothing is missing"),
                Err(other) => return Err(other.into()),
            }
            sample.write(&store, &lost).await?;
            if !lost.is_empty() {
                store.insert_complete(entry).await?;
            }
            assert_complete(&store, &sample).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

async fn demoted_is_on_record_until_it_is_complete<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let was_demoted = async || store.was_demoted(&sample.hash).await;
        let last = sample.group_range(sample.n_groups() - 1);
        assert!(!was_demoted().await?, "it is not there");
        import(&store, [&sample]).await?;
        assert!(!was_demoted().await?, "it is complete");
        // Completed by a download.
        let entry = demote(&store, &sample, &last).await?.ok_or("it is what the entry shows")?;
        assert!(was_demoted().await?);
        sample.write(&store, &last).await?;
        assert!(was_demoted().await?, "it is not complete yet");
        store.insert_complete(entry).await?;
        assert!(!was_demoted().await?, "it is complete again");
        // By an import.
        demoted(&store, &sample, &last).await?;
        assert!(was_demoted().await?);
        import(&store, [&sample]).await?;
        assert!(!was_demoted().await?, "it is complete again");
        // Deleted, and downloaded as if it had never been there.
        demoted(&store, &sample, &last).await?;
        store.delete(vec![sample.hash]).await?;
        assert!(!was_demoted().await?, "it is gone");
        store.get_or_create(sample.hash, sample.size()).await?;
        assert!(!was_demoted().await?, "it is on its way");
        store.delete(vec![sample.hash]).await?;
    }
    Ok(())
}

async fn demote_of_a_blob_that_is_another_by_now_changes_nothing<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size.max(20_000));
        let lost = sample.group_range(0);
        let damage = || Damage { lost: lost.clone(), mended: Vec::new() };
        import(&store, [&sample]).await?;
        let before = store.existing(sample.hash).await?;
        // Demoted by somebody else, and completed.
        demoted(&store, &sample, &sample.group_range(1)).await?;
        let partial = store.existing(sample.hash).await?;
        import(&store, [&sample]).await?;
        assert!(store.demote(partial, damage()).await?.is_none(), "it is complete by now");
        assert!(store.demote(before, damage()).await?.is_none(), "it has been imported again");
        assert_complete(&store, &sample).await?;
        // Gone, and there again.
        let entry = store.existing(sample.hash).await?;
        store.delete(vec![sample.hash]).await?;
        assert!(store.demote(entry.clone(), damage()).await?.is_none(), "it is gone");
        assert!(store.get(&sample.hash).await?.is_none(), "it has come back");
        import(&store, [&sample]).await?;
        assert!(store.demote(entry, damage()).await?.is_none(), "it is another one");
        assert_complete(&store, &sample).await?;
    }
    Ok(())
}

async fn demote_leaves_open_readers_what_is_sound<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    for size in trial.ways().into_iter().filter(|size| *size as u64 > 2 * GROUP) {
        let sample = Sample::new(size);
        import(&store, [&sample]).await?;
        let mut reader = store.existing(sample.hash).await?.data_reader().await?;
        demoted(&store, &sample, &sample.group_range(0)).await?;
        let len = usize::try_from(GROUP)?;
        assert!(reader.read_range(GROUP, len).await? == sample.slice(GROUP, GROUP), "it reads other bytes");
        if let Ok(bytes) = reader.read_range(0, len).await {
            assert!(bytes == sample.slice(0, GROUP), "it reads other bytes");
        }
    }
    Ok(())
}

async fn demoted_in_steps_is_what_it_is_in_one<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    for size in trial.ways().into_iter().filter(|size| *size as u64 > 3 * GROUP) {
        let sample = Sample::new(size);
        import(&store, [&sample]).await?;
        let mut lost = ChunkRanges::empty();
        for group in [2, 0, sample.n_groups() - 1] {
            lost |= sample.group_range(group);
            demoted(&store, &sample, &sample.group_range(group)).await?;
            assert_partial(&store, &sample, &lost).await?;
        }
    }
    Ok(())
}

/// What is sound in it is copied: the file may go then.
async fn demote_never_touches_the_users_file<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    for lost in losses(&sample) {
        let path = trial.user_file("file", &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?);
        demoted(&store, &sample, &lost).await?;
        assert!(fs::read(&path)? == sample.data, "the file has other bytes");
        assert_eq!(trial.user_names()?, ["file"]);
        fs::remove_file(path)?;
        assert_partial(&store, &sample, &lost).await?;
        store.delete(vec![sample.hash]).await?;
    }
    Ok(())
}

/// Blobs of each way, demoted, and what each has lost.
async fn some_demoted<S: FullStore>(
    trial: &Trial<S>,
    store: &S,
) -> Result<Vec<(Sample, ChunkRanges)>, Failure> {
    let mut all = Vec::new();
    for size in trial.ways() {
        for (number, lost) in (0..).zip(losses(&Sample::new(size))).step_by(2) {
            let sample = Sample::numbered(size, number);
            import(store, [&sample]).await?;
            demoted(store, &sample, &lost).await?;
            all.push((sample, lost));
        }
    }
    Ok(all)
}

async fn assert_still_demoted<S: FullStore>(store: &S, all: &[(Sample, ChunkRanges)]) -> Outcome {
    for (sample, lost) in all {
        assert_missing(store, sample, lost).await?;
        assert!(store.was_demoted(&sample.hash).await?, "that it was demoted is forgotten");
        let size = store.existing(sample.hash).await?.size();
        assert_eq!(size, BaoBlobSize::Verified(sample.size()));
    }
    Ok(())
}

async fn demoted_stays_so_when_opened_again<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let all = some_demoted(trial, &store).await?;
    let store = trial.reopen(store).await?;
    assert_still_demoted(&store, &all).await
}

async fn demoted_survives_crash<S: FullStore>(trial: &Trial<S>, store: S) -> Outcome {
    let all = some_demoted(trial, &store).await?;
    let store = trial.crash_and_reopen(store).await?;
    assert_still_demoted(&store, &all).await
}
