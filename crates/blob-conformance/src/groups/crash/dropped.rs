//! Futures and stores that are dropped halfway.

use blob_traits::{EntryStatus, Store, bao_tree::ChunkRanges};

use crate::{
    Outcome, Sample, Trial,
    case::group,
    ledger::{Has, Ledger},
};

group! {
    "crash", for S: Store;
    unacked_import_all_or_nothing_after_a_drop [needs Persistence Durability],
    unacked_download_all_or_nothing_after_a_drop [needs Persistence Durability],
    unacked_delete_all_or_nothing_after_a_drop [needs Persistence Durability],
    crash_after_crash_without_work_between_loses_nothing [needs Persistence Durability],
}

/// Polls some work so often, at most, and drops it; tells whether it was done.
async fn cut_off<T>(n_polls: u64, work: impl Future<Output = T>) -> Option<T> {
    let patience = async {
        for _ in 0..n_polls {
            tokio::task::yield_now().await;
        }
        None
    };
    futures_lite::future::or(async { Some(work.await) }, patience).await
}

async fn unacked_import_all_or_nothing_after_a_drop<S: Store>(trial: &Trial<S>, mut store: S) -> Outcome {
    let (mut ledger, mut dice) = (Ledger::default(), trial.dice());
    for (number, size) in (0..).zip(trial.ways().into_iter().cycle().take(6)) {
        let sample = Sample::numbered(size, number);
        let done = cut_off(dice.below(6), sample.import(&store)).await;
        ledger.may_be(&sample, Has::Complete);
        if let Some(done) = done {
            ledger.blob(&sample, Has::Complete, &done);
        }
        if number % 2 == 0 {
            store = trial.crash_and_reopen(store).await?;
            ledger.settle(&store).await?;
            ledger.check_all(&store).await?;
        }
    }
    let store = trial.crash_and_reopen(store).await?;
    ledger.check_all(&store).await
}

async fn unacked_download_all_or_nothing_after_a_drop<S: Store>(trial: &Trial<S>, mut store: S) -> Outcome {
    let (mut ledger, mut dice) = (Ledger::default(), trial.dice());
    for (number, size) in (0..).zip(trial.ways()) {
        let sample = Sample::numbered(size, number);
        let (all, stream) = (ChunkRanges::all(), sample.encode(&ChunkRanges::all()));
        let download = store.import_bao(sample.hash, sample.size(), all, stream);
        let done = cut_off(dice.below(40), download).await;
        ledger.may_be(&sample, Has::Partial(ChunkRanges::empty()));
        ledger.may_be(&sample, Has::Complete);
        if let Some(Ok(_)) = done {
            ledger.is(&sample, Has::Complete);
        }
        store = trial.crash_and_reopen(store).await?;
        ledger.settle(&store).await?;
        ledger.check_all(&store).await?;
    }
    Ok(())
}

async fn unacked_delete_all_or_nothing_after_a_drop<S: Store>(trial: &Trial<S>, mut store: S) -> Outcome {
    let (mut ledger, mut dice) = (Ledger::default(), trial.dice());
    for (number, size) in (0..).zip(trial.ways()) {
        let sample = Sample::numbered(size, number);
        sample.import(&store).await?;
        ledger.is(&sample, Has::Complete);
        let done = cut_off(dice.below(4), store.delete(vec![sample.hash])).await;
        ledger.may_be(&sample, Has::Nothing);
        if let Some(Ok(())) = done {
            ledger.is(&sample, Has::Nothing);
        }
        store = trial.crash_and_reopen(store).await?;
        ledger.settle(&store).await?;
        ledger.check_all(&store).await?;
    }
    Ok(())
}

async fn crash_after_crash_without_work_between_loses_nothing<S: Store>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        sample.import(&store).await?;
    }
    for _ in 0..4 {
        store = trial.crash_and_reopen(store).await?;
    }
    for sample in &samples {
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    }
    Ok(())
}
