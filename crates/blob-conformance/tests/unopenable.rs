//! A blob of a store on disk that cannot even be opened: a run tells of it, and goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_conformance::{Sample, group_ranges};
use blob_fs::{FsStore, Options};
use blob_traits::{Progress, prelude::*};
use blob_validate::{RepairExt, RepairOptions, ValidateExt, ValidateOptions};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_partial_blob_that_cannot_be_opened_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let store = FsStore::open(Options::new(dir.path())).await.unwrap();
    let partial = Sample::new(200_000);
    partial.write(&store, &group_ranges(0..5)).await.unwrap();
    let others: Vec<_> = (0..20).map(|number| Sample::numbered(100_000, number)).collect();
    for sample in &others {
        drop(sample.import(&store).await.unwrap());
    }
    store.shutdown().await.unwrap();
    // Where it says what is valid of the blob there is a directory.
    let bits = file(dir.path(), &partial, "bits");
    fs::remove_file(&bits).unwrap();
    fs::create_dir(&bits).unwrap();
    let data = file(dir.path(), &others[7], "data");
    let mut bytes = fs::read(&data).unwrap();
    bytes[0] ^= 1;
    fs::write(&data, bytes).unwrap();
    let store = FsStore::open(Options::new(dir.path())).await.unwrap();
    assert!(store.get(&partial.hash).await.is_err());
    let report = store.validate(ValidateOptions::default(), Progress::none()).await.unwrap();
    assert_eq!(report.n_complete, 20);
    assert_eq!(report.damaged.iter().map(|blob| blob.hash).collect::<Vec<_>>(), [others[7].hash]);
    assert_eq!(report.failed.iter().map(|blob| blob.hash).collect::<Vec<_>>(), [partial.hash]);
    let report = store.repair(RepairOptions::default(), Progress::none()).await.unwrap();
    assert_eq!(report.blobs.iter().map(|blob| blob.hash).collect::<Vec<_>>(), [others[7].hash]);
    assert!(!report.is_clean());
    store.shutdown().await.unwrap();
}

/// The file of a blob that has this extension.
fn file(dir: &Path, sample: &Sample, extension: &str) -> PathBuf {
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let is_its = path.to_string_lossy().contains(&sample.hash.to_string());
            if path.is_dir() {
                dirs.push(path);
            } else if is_its && path.extension().is_some_and(|its| its == extension) {
                return path;
            }
        }
    }
    panic!("{} has no such file", sample.hash);
}
