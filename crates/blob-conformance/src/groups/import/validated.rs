//! A file that is used where it lies and is gone, as validation and repair see it.

use std::fs;

use blob_traits::{BlobFormat, EntryStatus, Error, FullStore, ImportMode, Progress, bao_tree::ChunkRanges};
use blob_validate::{Outcome as Left, RepairOptions, ValidateOptions, repair, validate};

use super::way::check_whole;
use crate::{Outcome, Sample, Trial, case::group};

group! {
    "import", for S: FullStore;
    import_file_reference_then_source_deleted_status_downgraded_by_validate [needs References],
}

/// Validation tells; repair takes back what the record says, and with it nothing else.
async fn import_file_reference_then_source_deleted_status_downgraded_by_validate<S: FullStore>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let [lost, kept] = [1, 2].map(|number| Sample::numbered(trial.large(), number));
    for (name, sample) in [("lost", &lost), ("kept", &kept)] {
        let path = trial.user_file(name, &sample.data)?;
        let mode = ImportMode::TryReference;
        drop(store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await?);
    }
    let modified = trial.user("kept").metadata()?.modified()?;
    fs::remove_file(trial.user("lost"))?;

    let report = validate(&store, ValidateOptions::default(), Progress::none()).await?;
    let damaged: Vec<_> = report.damaged.iter().map(|blob| (blob.hash, &blob.bad)).collect();
    assert_eq!(damaged, [(lost.hash, &lost.all_chunks())]);
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    // Who only looks changes nothing.
    assert_eq!(store.entry_status(&lost.hash).await?, EntryStatus::Complete);

    let report = repair(&store, RepairOptions::default(), Progress::none()).await?;
    let outcomes: Vec<_> = report.blobs.iter().map(|blob| (blob.hash, blob.outcome.clone())).collect();
    let everything = std::iter::once(0..lost.size()).collect();
    assert_eq!(outcomes, [(lost.hash, Left::Partial { missing: everything })]);
    assert_eq!(store.entry_status(&lost.hash).await?, EntryStatus::Partial);
    assert_eq!(store.present_ranges(&lost.hash).await?, Some(ChunkRanges::empty()));
    let read = store.read_to_bytes(lost.hash).await;
    assert!(matches!(read, Err(Error::Incomplete { .. })), "{read:?}");
    let report = validate(&store, ValidateOptions::default(), Progress::none()).await?;
    assert!(report.damaged.is_empty() && report.demoted == [lost.hash], "{report:?}");

    // What is the user's is as it was.
    assert_eq!(trial.user_names()?, ["kept"]);
    assert!(fs::read(trial.user("kept"))? == kept.data, "the file is the user's");
    assert_eq!(trial.user("kept").metadata()?.modified()?, modified);
    check_whole(&store, &kept).await?;
    drop(lost.import(&store).await?);
    check_whole(&store, &lost).await
}
