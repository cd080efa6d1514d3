//! Validation and repair.

pub mod demote;
pub mod demoted;
pub mod faults;
pub mod found;
pub mod history;
pub mod interrupted;
pub mod limits;
pub mod options;
pub mod repaired;
pub mod running;
pub mod scan;
pub mod sources;
pub mod unreadable;

use bao_tree::ChunkRanges;
use blob_traits::{BlobStatus, EntryStatus, FullStore, Map, MapExt, Progress, Result, ScanBlobs, Store};
use blob_validate::{
    Outcome as Left, RepairOptions, RepairReport, RepairStore, RepairedBlob, Source, ValidateOptions,
    ValidateReport, ValidateStore,
};

use crate::{Failure, Group, Outcome, Sample, Trial};

/// The cases of this group.
pub fn group<S: FullStore>() -> Group<S> {
    validation()
        .and(demote::group())
        .and(demoted::group())
        .and(repaired::group())
        .and(sources::group())
        .and(interrupted::group())
        .and(faults::group())
        .and(history::group())
        .and(limits::group())
        .and(unreadable::group())
}

/// Those for a store that cannot take back what it has.
pub fn validation<S: Store + ScanBlobs>() -> Group<S> {
    scan::group().and(found::group()).and(options::group()).and(running::group())
}

async fn validated<S: ValidateStore>(store: &S) -> Result<ValidateReport> {
    blob_validate::validate(store, ValidateOptions::default(), Progress::none()).await
}

async fn repaired<S: RepairStore>(store: &S, sources: Vec<Source>) -> Result<RepairReport> {
    blob_validate::repair(store, with_sources(sources), Progress::none()).await
}

fn with_sources(sources: Vec<Source>) -> RepairOptions {
    let mut options = RepairOptions::default();
    options.sources = sources;
    options
}

/// Imports blobs and lets go of them.
async fn import<'a, S: Store>(store: &S, samples: impl IntoIterator<Item = &'a Sample>) -> Outcome {
    for sample in samples {
        drop(sample.import(store).await?);
    }
    Ok(())
}

/// A store beside the one of the trial, that has some blobs.
async fn copy<'a, S: Store>(
    trial: &Trial<S>,
    name: &str,
    samples: impl IntoIterator<Item = &'a Sample>,
) -> Result<S, Failure> {
    let copy = trial.open(&trial.other_home(name)).await?;
    import(&copy, samples).await?;
    Ok(copy)
}

/// What became of a blob.
fn what_became_of<'a>(report: &'a RepairReport, sample: &Sample) -> Result<&'a RepairedBlob, Failure> {
    let mut found = report.blobs.iter().filter(|blob| blob.hash == sample.hash);
    let blob = found.next().ok_or("nothing is said of a blob")?;
    assert!(found.next().is_none(), "a blob was repaired twice");
    Ok(blob)
}

#[track_caller]
fn assert_outcome(report: &RepairReport, sample: &Sample, expected: &Left) {
    let outcomes: Vec<_> =
        report.blobs.iter().filter(|blob| blob.hash == sample.hash).map(|blob| &blob.outcome).collect();
    assert_eq!(outcomes, [expected], "of {} bytes", sample.size());
}

/// Of a blob exactly some chunks are missing, and all others are what they were.
async fn assert_missing<S: Map + BlobStatus>(store: &S, sample: &Sample, lost: &ChunkRanges) -> Outcome {
    let what = format!("{} of {} bytes", sample.hash, sample.size());
    let all = sample.all_chunks();
    let present = store.present_ranges(&sample.hash).await?.ok_or(format!("{what} is gone"))?;
    let expected = &all - lost;
    assert_eq!(present & all, expected, "{what}");
    let stream = store.export_bao(sample.hash, expected.clone(), Vec::new()).await?;
    assert!(stream == sample.encode(&expected), "{what} has other bytes");
    Ok(())
}

async fn assert_complete<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete, "{}", sample.size());
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data, "it has other bytes");
    assert_missing(store, sample, &ChunkRanges::empty()).await
}

async fn assert_partial<S: Map + BlobStatus>(store: &S, sample: &Sample, lost: &ChunkRanges) -> Outcome {
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial, "{}", sample.size());
    assert_missing(store, sample, lost).await
}
