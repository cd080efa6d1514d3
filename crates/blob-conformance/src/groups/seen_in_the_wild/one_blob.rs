//! What is wrong with one blob is the trouble of that blob alone.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use blob_traits::{
    BlobFormat, EntryStatus, Error, ExportMode, Hash, ImportMode, ImportSource, Progress, Store, collect,
};

use crate::{Failure, Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "seen_in_the_wild", for S: Store;
    export_of_a_missing_or_partial_blob_leaves_the_store_at_work,
    export_of_a_missing_or_partial_blob_rolls_nothing_back [needs Persistence],
    lost_file_of_one_blob_is_no_trouble_to_others [needs References],
    damaged_bytes_of_one_blob_are_no_trouble_to_others [needs Files Persistence],
}

/// Tries to export what cannot be exported while blobs and tags are written. Returns what was acknowledged.
async fn write_among_failing_exports<S: Store>(trial: &Trial<S>, store: &S) -> Result<Vec<Sample>, Failure> {
    let partial = Sample::new(100_000);
    partial.write(store, &group_ranges(0..2)).await?;
    let mut written = Vec::new();
    for (number, size) in trial.ways().into_iter().enumerate() {
        let sample = Sample::new(size + 1);
        let tag = sample.size().to_string().into();
        let bad = if number % 2 == 0 { Hash::new(b"absent") } else { partial.hash };
        let export = store.export(bad, trial.user("target"), ExportMode::TryReference, Progress::none());
        let source = ImportSource::Bytes(sample.data.clone());
        let import = store.import_tagged(source, BlobFormat::Raw, tag, Progress::none());
        let (imported, exported) = tokio::join!(import, export);
        imported?;
        assert!(matches!(exported, Err(Error::NotFound { .. } | Error::Incomplete { .. })), "{exported:?}");
        written.push(sample);
    }
    Ok(written)
}

/// All that was acknowledged is there.
async fn check<S: Store>(store: &S, written: &[Sample]) -> Outcome {
    for sample in written {
        assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
        let tag = store.get_tag(&sample.size().to_string().into()).await?;
        assert_eq!(tag.map(|content| content.hash), Some(sample.hash));
    }
    Ok(())
}

async fn export_of_a_missing_or_partial_blob_leaves_the_store_at_work<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for _ in 0..3 {
        check(&store, &write_among_failing_exports(trial, &store).await?).await?;
    }
    assert!(trial.user_names()?.is_empty());
    Ok(())
}

async fn export_of_a_missing_or_partial_blob_rolls_nothing_back<S: Store>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let written = write_among_failing_exports(trial, &store).await?;
    let store = trial.reopen(store).await?;
    check(&store, &written).await?;
    assert_eq!(store.entry_status(&Sample::new(100_000).hash).await?, EntryStatus::Partial);
    Ok(())
}

/// Everything works but what needs the bytes of `bad`, which can be removed and brought in again.
async fn works_but_for<S: Store>(trial: &Trial<S>, store: &S, bad: &Sample, good: &Sample) -> Outcome {
    assert!(store.read_verified(bad.hash, 0..u64::MAX).await.is_err(), "it reads what is not there");
    let mut expected = [bad.hash, good.hash];
    expected.sort();
    assert_eq!(collect(store.blobs().await?).await?, expected);
    assert!(store.read_verified(good.hash, 0..u64::MAX).await? == good.data);
    store.export(good.hash, trial.user("good"), ExportMode::Copy, Progress::none()).await?;
    let new = Sample::new(bad.data.len() + 2);
    let _pinned = new.import(store).await?;
    store.sync().await?;
    assert!(store.read_verified(new.hash, 0..u64::MAX).await? == new.data);
    store.delete(vec![bad.hash]).await?;
    let _again = bad.import(store).await?;
    assert!(store.read_verified(bad.hash, 0..u64::MAX).await? == bad.data);
    Ok(())
}

async fn lost_file_of_one_blob_is_no_trouble_to_others<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let (bad, good) = (Sample::new(trial.large()), Sample::new(trial.large() + 1));
    let file = trial.user_file("file", &bad.data)?;
    let refer = ImportMode::TryReference;
    let _bad = store.import_file(file.clone(), refer, BlobFormat::Raw, Progress::none()).await?;
    let _good = good.import(&store).await?;
    fs::remove_file(file)?;
    works_but_for(trial, &store, &bad, &good).await
}

/// The file below a directory that has these bytes, and where in it.
fn find_bytes(dir: &Path, bytes: &[u8]) -> std::io::Result<Option<(PathBuf, u64)>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = if entry.file_type()?.is_dir() {
            find_bytes(&entry.path(), bytes)?
        } else {
            let content = fs::read(entry.path())?;
            let at = content.windows(bytes.len()).position(|window| window == bytes);
            at.map(|at| (entry.path(), at as u64))
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

async fn damaged_bytes_of_one_blob_are_no_trouble_to_others<S: Store>(trial: &Trial<S>, store: S) -> Outcome {
    let (bad, good) = (Sample::new(trial.large()), Sample::new(trial.large() + 1));
    drop((bad.import(&store).await?, good.import(&store).await?));
    store.sync().await?;
    let Some((path, at)) = find_bytes(trial.home().dir(), &bad.slice(50_000, 64))? else {
        return Err(Failure::skipped("the bytes of the blob are in no file as they are"));
    };
    let store = {
        let file = fs::File::options().write(true).open(path)?;
        file.write_all_at(&bad.slice(50_000, 1).iter().map(|byte| !byte).collect::<Vec<_>>(), at)?;
        trial.reopen(store).await?
    };
    let error = store.read_verified(bad.hash, 0..u64::MAX).await.err();
    assert!(matches!(error, Some(Error::Mismatch { .. } | Error::Damaged { .. })), "{error:?}");
    works_but_for(trial, &store, &bad, &good).await
}
