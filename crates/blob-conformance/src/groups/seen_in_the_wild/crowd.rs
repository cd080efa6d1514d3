//! Many at once: they wait, they do not fail.

use blob_traits::{
    BlobFormat, Import, ImportExt, ImportMode, ListBlobs, Map, MapEntry, MapExt, Progress, ReadBlob, Store,
    TempTags, collect,
};
use futures_lite::stream;

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "seen_in_the_wild", for S: Store;
    five_hundred_readers_of_one_blob_all_succeed,
    two_hundred_imports_of_the_same_content_all_succeed,
}

async fn five_hundred_readers_of_one_blob_all_succeed<S: Map + Import>(_: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(100_000);
    let _pinned = sample.import(&store).await?;
    let mut readers = Vec::new();
    for _ in 0..500 {
        readers.push(store.existing(sample.hash).await?.data_reader().await?);
    }
    let mut tasks = Vec::new();
    for (mut reader, number) in readers.into_iter().zip(0_u64..) {
        tasks.push(tokio::spawn(async move {
            let from = number * 150;
            (from, reader.read_range(from, 20_000).await)
        }));
    }
    for task in tasks {
        let (from, read) = task.await?;
        assert!(read? == sample.slice(from, 20_000), "reader at {from}");
    }
    Ok(())
}

/// From memory, from a stream, and from a file in both modes. That no file is left is for the audit to see.
async fn two_hundred_imports_of_the_same_content_all_succeed<S: Map + Import + ListBlobs + TempTags>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(100_000);
    let file = trial.user_file("file", &sample.data)?;
    let mut tasks = Vec::new();
    for number in 0..200 {
        let (store, data, file) = (store.clone(), sample.data.clone(), file.clone());
        let (format, none) = (BlobFormat::Raw, Progress::none());
        tasks.push(tokio::spawn(async move {
            match number % 4 {
                0 => store.import_bytes(data, format).await,
                1 => Ok(store.import_stream(stream::once(Ok(data)), format, none).await?.0),
                2 => Ok(store.import_file(file, ImportMode::Copy, format, none).await?.0),
                _ => Ok(store.import_file(file, ImportMode::TryReference, format, none).await?.0),
            }
        }));
    }
    let mut pinned = Vec::new();
    for task in tasks {
        pinned.push(task.await??);
    }
    assert!(pinned.iter().all(|pinned| pinned.hash() == sample.hash));
    assert_eq!(collect(store.blobs().await?).await?, [sample.hash]);
    assert_eq!(store.temp_tags().count(), 1);
    drop(pinned);
    assert_eq!(store.temp_tags().count(), 0);
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}
