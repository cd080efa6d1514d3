//! Random histories, across closings.

use blob_traits::{
    BlobStatus, EntryStatus, HashAndFormat, MapMut, Store, Tag,
    bao_tree::{ChunkNum, ChunkRanges},
};
use proptest::{collection::vec, prelude::*};

use crate::{
    Failure, Outcome, Sample, Trial,
    case::group,
    group_ranges,
    ledger::{Has, Ledger},
};

group! {
    "shutdown_reopen", for S: Store;
    reopen_state_equals_model_after_random_history [needs Persistence],
    reopen_without_shutdown_after_random_history_keeps_what_was_acked [needs Persistence Durability],
}

/// What is done to one of few blobs and tags.
#[derive(Clone, Debug)]
enum Step {
    Import(u64),
    /// From which chunk group on, and how many.
    Write(u64, u64, u64),
    Delete(u64),
    SetTag(u8, u64),
    DeleteTag(u8),
    Sync,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u64).prop_map(Step::Import),
        4 => (0..4_u64, 0..7_u64, 1..4_u64).prop_map(|(blob, from, n)| Step::Write(blob, from, n)),
        2 => (0..4_u64).prop_map(Step::Delete),
        2 => (0..3_u8, 0..4_u64).prop_map(|(tag, blob)| Step::SetTag(tag, blob)),
        1 => (0..3_u8).prop_map(Step::DeleteTag),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
    ];
    vec(step, 1..12)
}

/// Blobs of different lengths: 1 to 7 chunk groups.
fn sample(round: u64, blob: u64) -> Sample {
    let size = [900, 40_000, 70_000, 110_000].get(usize::try_from(blob).unwrap_or(0)).copied().unwrap_or(1);
    Sample::numbered(size, round * 10 + blob)
}

fn tag(round: u64, number: u8) -> Tag {
    format!("{round}/{number}").into()
}

/// Writes chunk groups, and tells what is there then.
async fn write<S: MapMut + BlobStatus>(
    store: &S,
    sample: &Sample,
    groups: ChunkRanges,
) -> Result<Has, Failure> {
    let before = store.present_ranges(&sample.hash).await?.unwrap_or_else(ChunkRanges::empty);
    let status = store.entry_status(&sample.hash).await?;
    sample.write(store, &groups).await?;
    if status == EntryStatus::Complete {
        return Ok(Has::Complete);
    }
    let now = store.present_ranges(&sample.hash).await?.unwrap_or_else(ChunkRanges::empty);
    let whole = ChunkRanges::from(..ChunkNum(sample.n_chunks()));
    assert!(before.is_subset(&now), "chunks were lost");
    assert!((groups & whole).is_subset(&now), "chunks were not written");
    Ok(Has::Partial(now))
}

/// How it is noted what was written to a partial blob.
type Note = fn(&mut Ledger, &Sample, Has);

/// Does a step and notes what it has led to.
async fn act<S: Store>(store: &S, ledger: &mut Ledger, note: Note, round: u64, step: &Step) -> Outcome {
    match *step {
        Step::Import(blob) => {
            sample(round, blob).import(store).await?;
            ledger.is(&sample(round, blob), Has::Complete);
        }
        Step::Write(blob, from, n) => {
            let sample = sample(round, blob);
            let (from, end) = (from % sample.n_groups(), sample.n_groups());
            let has = write(store, &sample, group_ranges(from..end.min(from + n))).await?;
            note(ledger, &sample, has);
        }
        Step::Delete(blob) => {
            store.delete(vec![sample(round, blob).hash]).await?;
            ledger.is(&sample(round, blob), Has::Nothing);
        }
        Step::SetTag(number, blob) => {
            let content = Some(HashAndFormat::raw(sample(round, blob).hash));
            store.set_tag(tag(round, number), content).await?;
            ledger.tag(&tag(round, number), content, &Ok(()));
        }
        Step::DeleteTag(number) => {
            store.set_tag(tag(round, number), None).await?;
            ledger.tag(&tag(round, number), None, &Ok(()));
        }
        Step::Sync => {
            store.sync().await?;
            ledger.settle(store).await?;
        }
        Step::Reopen => {}
    }
    Ok(())
}

async fn reopen_state_equals_model_after_random_history<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    histories(trial, store, Ledger::is, async |store, _| Ok(trial.reopen(store).await?)).await
}

async fn reopen_without_shutdown_after_random_history_keeps_what_was_acked<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    histories(trial, store, Ledger::may_be, async |store, ledger| {
        let store = trial.crash_and_reopen(store).await?;
        ledger.settle(&store).await?;
        Ok(store)
    })
    .await
}

/// One history after the other in the same store, with blobs and tags of its own.
async fn histories<S: Store>(
    trial: &Trial<S>,
    store: S,
    note: Note,
    reopen: impl AsyncFn(S, &mut Ledger) -> Result<S, Failure>,
) -> Outcome {
    let (mut store, mut ledger, mut round) = (Some(store), Ledger::default(), 0);
    let check = async |steps: Vec<Step>| {
        // A history that has failed took the store with it: it cannot be made smaller.
        let Some(mut open) = store.take() else { return Ok(()) };
        round += 1;
        for step in steps.iter().chain([&Step::Reopen]) {
            act(&open, &mut ledger, note, round, step).await?;
            if matches!(step, Step::Reopen) {
                open = reopen(open, &mut ledger).await?;
                ledger.check_all(&open).await?;
            }
        }
        store = Some(open);
        Ok(())
    };
    trial.for_all(6, steps(), check).await
}
