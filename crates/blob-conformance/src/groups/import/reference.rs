//! From files that are used where they lie, and what may happen to them afterwards.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use blob_traits::{
    BlobFormat, BlobStatus, EntryStatus, Error, Import, ImportExt, ImportMode, Map, MapEntry, MapExt,
    Progress, ReadBlob, Result, Store,
};
use bytes::Bytes;

use super::{file::age, way::check_whole};
use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "import", for S: Store;
    import_file_reference_uses_no_store_space_when_supported [needs References],
    import_file_reference_small_file_may_copy_but_must_verify,
    import_file_reference_then_source_truncated_read_errors_never_wrong_bytes [needs References],
    import_file_reference_then_source_modified_in_place_detected_on_read [needs References],
    import_file_reference_then_source_modified_under_open_reader_never_wrong_bytes [needs References],
    import_file_reference_then_source_grown_never_longer,
    import_file_reference_then_source_deleted_notfound [needs References],
    import_file_reference_then_source_replaced_by_other_inode_detected [needs References],
    import_file_reference_then_source_replaced_by_copy_right_bytes_or_error [needs References],
    import_file_reference_survives_reopen [needs References Persistence],
    import_file_reference_changed_while_closed_detected_after_reopen [needs References Persistence],
}

/// Imports a file by reference. An aged one has a time of change that lies far enough in the past to be told from the
/// next.
async fn referred<S: Map + Import>(
    trial: &Trial<S>,
    store: &S,
    aged: bool,
) -> Result<(Sample, PathBuf), Failure> {
    let sample = Sample::numbered(trial.large(), aged.into());
    let path = trial.user_file(&format!("aged {aged}"), &sample.data)?;
    if aged {
        age(&path)?;
    }
    store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?;
    Ok((sample, path))
}

/// Every way of reading a blob that ends in its bytes.
async fn read_all_ways<S: Map>(store: &S, sample: &Sample) -> [Result<Bytes>; 3] {
    [
        store.read_to_bytes(sample.hash).await,
        store.read_verified(sample.hash, 0..u64::MAX).await,
        read_in_steps(store, sample).await,
    ]
}

async fn read_in_steps<S: Map>(store: &S, sample: &Sample) -> Result<Bytes> {
    let mut reader = store.existing(sample.hash).await?.data_reader().await?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < sample.size() {
        let step = reader.read_range(bytes.len() as u64, 1 << 20).await?;
        if step.is_empty() {
            break;
        }
        bytes.extend_from_slice(&step);
    }
    Ok(bytes.into())
}

fn is_changed(error: &Error, sample: &Sample, at: &Path) -> bool {
    matches!(error, Error::Changed { hash, path } if *hash == sample.hash && path == at)
}

/// Changes one byte in the middle, and leaves the time of the last change as it was.
fn flip_in_secret(path: &Path) -> io::Result<()> {
    let modified = path.metadata()?.modified()?;
    let file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    file.write_all_at(&byte.map(|byte| !byte), middle)?;
    file.set_modified(modified)
}

async fn import_file_reference_uses_no_store_space_when_supported<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    // large against what an index may take up besides
    let sample = Sample::new(trial.large().max(4 << 20));
    let path = trial.user_file("source", &sample.data)?;
    let before = trial.home().stored_bytes();
    store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?;
    check_whole(&store, &sample).await?;
    let more = trial.home().stored_bytes().saturating_sub(before);
    assert!(more < sample.size() / 2, "the store has grown by {more} bytes");
    Ok(())
}

async fn import_file_reference_small_file_may_copy_but_must_verify<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in [1, 1000, 16_385].into_iter().chain(trial.ways()) {
        let sample = Sample::new(size);
        let path = trial.user_file("source", &sample.data)?;
        let import =
            store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none());
        assert_eq!(import.await?.0.hash(), sample.hash);
        check_whole(&store, &sample).await?;
        fs::write(path, "changed")?;
        for read in read_all_ways(&store, &sample).await.into_iter().flatten() {
            assert!(read == sample.data, "changed bytes were served");
        }
    }
    Ok(())
}

async fn import_file_reference_then_source_truncated_read_errors_never_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        let file = File::options().write(true).open(&path)?;
        for len in [sample.size() - 1, sample.size() / 2, 0] {
            file.set_len(len)?;
            for read in read_all_ways(&store, &sample).await {
                let error = read.expect_err("the end is gone");
                assert!(is_changed(&error, &sample, &path), "{error:?}");
            }
            if let Ok(begin) = store.read_range(sample.hash, 0..1000).await {
                assert_eq!(begin, sample.slice(0, 1000));
            }
        }
    }
    Ok(())
}

async fn import_file_reference_then_source_modified_in_place_detected_on_read<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        flip_in_secret(&path)?;
        for read in read_all_ways(&store, &sample).await {
            let error = read.expect_err("a byte is wrong");
            let is_typed = is_changed(&error, &sample, &path) || matches!(error, Error::Mismatch { .. });
            assert!(is_typed, "{error:?}");
        }
        let middle = sample.size() / 2;
        let wrong = store.read_range(sample.hash, middle..middle + 1).await;
        assert!(wrong.is_err(), "the wrong byte was served");
    }
    Ok(())
}

async fn import_file_reference_then_source_modified_under_open_reader_never_wrong_bytes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        let entry = store.existing(sample.hash).await?;
        let (mut used, mut unused) = (entry.data_reader().await?, entry.data_reader().await?);
        assert_eq!(used.read_range(0, 1000).await?, sample.slice(0, 1000));
        flip_in_secret(&path)?;
        for reader in [&mut used, &mut unused] {
            for start in (0..sample.size()).step_by(1 << 20) {
                if let Ok(bytes) = reader.read_range(start, 1 << 20).await {
                    assert!(bytes == sample.slice(start, 1 << 20), "changed bytes were served");
                }
            }
        }
    }
    Ok(())
}

async fn import_file_reference_then_source_grown_never_longer<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        File::options().write(true).open(&path)?.set_len(sample.size() + 1000)?;
        assert_eq!(store.existing(sample.hash).await?.size().value(), sample.size());
        for read in read_all_ways(&store, &sample).await.into_iter().flatten() {
            assert!(read == sample.data, "more or other bytes were served");
        }
    }
    Ok(())
}

async fn import_file_reference_then_source_deleted_notfound<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        fs::remove_file(&path)?;
        for read in read_all_ways(&store, &sample).await {
            let error = read.expect_err("the file is gone");
            let is_typed = matches!(&error, Error::FileNotFound { path: missing } if *missing == path);
            assert!(is_typed || is_changed(&error, &sample, &path), "{error:?}");
            assert_eq!(error.path(), Some(&path));
        }
        // the record says complete until somebody has looked
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    }
    Ok(())
}

/// Gives another file the name and the times of a file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let modified = path.metadata()?.modified()?;
    let new = path.with_extension("new");
    fs::write(&new, bytes)?;
    File::options().write(true).open(&new)?.set_modified(modified)?;
    fs::rename(new, path)
}

async fn import_file_reference_then_source_replaced_by_other_inode_detected<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        replace(&path, &Sample::numbered(sample.data.len(), 7).data)?;
        for read in read_all_ways(&store, &sample).await {
            let error = read.expect_err("it is another file");
            assert!(is_changed(&error, &sample, &path), "{error:?}");
        }
    }
    Ok(())
}

async fn import_file_reference_then_source_replaced_by_copy_right_bytes_or_error<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        replace(&path, &sample.data)?;
        for read in read_all_ways(&store, &sample).await {
            match read {
                Ok(bytes) => assert!(bytes == sample.data),
                Err(error) => assert!(is_changed(&error, &sample, &path), "{error:?}"),
            }
        }
    }
    Ok(())
}

async fn import_file_reference_survives_reopen<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, _) = referred(trial, &store, aged).await?;
        store = trial.reopen(store).await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn import_file_reference_changed_while_closed_detected_after_reopen<S: Map + Import>(
    trial: &Trial<S>,
    mut store: S,
) -> Outcome {
    for aged in [false, true] {
        let (sample, path) = referred(trial, &store, aged).await?;
        store = trial.reopen(store).await?;
        flip_in_secret(&path)?;
        for read in read_all_ways(&store, &sample).await {
            assert!(read.is_err(), "changed bytes were served");
        }
    }
    Ok(())
}
