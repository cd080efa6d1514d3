//! What is said of a blob without reading it.

use bao_tree::ChunkRanges;
use blob_traits::{
    BaoBlobSize, BlobFormat, BlobStatus, Delete, EntryStatus, Error, Hash, Import, ImportExt, ListBlobs, Map,
    MapEntry, MapExt, MapMut, Store, collect,
};

use super::history::{History, steps};
use crate::{Outcome, Sample, Trial, case::group, chunks, group_ranges};

group! {
    "get_put", for S: Store;
    empty_blob_is_complete_without_insert,
    empty_blob_is_complete_even_after_delete,
    get_missing_returns_none_not_error,
    get_mut_missing_returns_none,
    reading_what_is_missing_is_not_found,
    entry_status_not_found_partial_complete_transitions,
    entry_status_sync_agrees_with_async,
    present_ranges_of_complete_are_all_and_of_missing_none,
    size_is_verified_for_complete_entries,
    hash_equals_blake3_reference_for_all_boundary_sizes,
    entry_clone_is_cheap_and_independent,
    get_and_clone_open_no_file [needs Files],
}

async fn empty_blob_is_complete_without_insert<S: MapMut + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    assert_eq!(store.entry_status(&Hash::EMPTY).await?, EntryStatus::Complete);
    assert_eq!(store.entry_status_sync(&Hash::EMPTY)?, EntryStatus::Complete);
    let entry = store.existing(Hash::EMPTY).await?;
    assert!(entry.is_complete());
    assert_eq!((entry.hash(), entry.size()), (Hash::EMPTY, BaoBlobSize::Verified(0)));
    assert!(store.get_mut(&Hash::EMPTY).await?.is_some_and(|entry| entry.is_complete()));
    assert_eq!(store.read_to_bytes(Hash::EMPTY).await?, "");
    assert_eq!(store.read_verified(Hash::EMPTY, 0..1).await?, "");
    Ok(())
}

async fn empty_blob_is_complete_even_after_delete<S: Map + BlobStatus + Import + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    drop(store.import_bytes("".into(), BlobFormat::Raw).await?);
    for _ in 0..2 {
        store.delete(vec![Hash::EMPTY]).await?;
        assert_eq!(store.entry_status(&Hash::EMPTY).await?, EntryStatus::Complete);
        assert_eq!(store.read_to_bytes(Hash::EMPTY).await?, "");
    }
    Ok(())
}

async fn get_missing_returns_none_not_error<S: Map + Import>(_: &Trial<S>, store: S) -> Outcome {
    assert!(store.get(&Hash::new(b"missing")).await?.is_none());
    let _other = Sample::new(1000).import(&store).await?;
    assert!(store.get(&Hash::new(b"missing")).await?.is_none());
    Ok(())
}

async fn get_mut_missing_returns_none<S: MapMut + BlobStatus + ListBlobs>(_: &Trial<S>, store: S) -> Outcome {
    let missing = Hash::new(b"missing");
    assert!(store.get_mut(&missing).await?.is_none());
    // Asking must not have begun one.
    assert_eq!(store.entry_status(&missing).await?, EntryStatus::NotFound);
    assert!(collect(store.partial_blobs().await?).await?.is_empty());
    Ok(())
}

async fn reading_what_is_missing_is_not_found<S: Map>(_: &Trial<S>, store: S) -> Outcome {
    let missing = Hash::new(b"missing");
    let errors = [
        store.existing(missing).await.err(),
        store.read_to_bytes(missing).await.err(),
        store.read_range(missing, 0..1).await.err(),
        store.read_verified(missing, 0..1).await.err(),
        store.reader(missing).await.err(),
        store.export_bao(missing, ChunkRanges::all(), Vec::new()).await.err(),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        let is_right = matches!(error, Some(Error::NotFound { hash }) if hash == missing);
        assert!(is_right, "call {number}: {error:?}");
    }
    assert!(store.verified_ranges(missing).await?.is_none());
    Ok(())
}

async fn entry_status_not_found_partial_complete_transitions<S: MapMut + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let status = async || store.entry_status(&sample.hash).await;
        assert_eq!(status().await?, EntryStatus::NotFound);
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        assert_eq!(status().await?, EntryStatus::Partial);
        sample.write(&store, &group_ranges(0..sample.n_groups())).await?;
        assert_eq!(status().await?, EntryStatus::Partial);
        assert!(!store.existing(sample.hash).await?.is_complete());
        store.insert_complete(entry).await?;
        assert_eq!(status().await?, EntryStatus::Complete);
        assert!(store.existing(sample.hash).await?.is_complete());
        store.delete(vec![sample.hash]).await?;
        assert_eq!(status().await?, EntryStatus::NotFound);
    }
    Ok(())
}

async fn entry_status_sync_agrees_with_async<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    trial
        .for_all(8, steps(), async |steps| {
            let mut history = History::new();
            for step in steps {
                history.apply(&store, step).await?;
                for Sample { hash, .. } in &history.samples {
                    assert_eq!(store.entry_status(hash).await?, history.status(hash));
                    assert_eq!(store.entry_status_sync(hash)?, history.status(hash));
                }
            }
            history.end(&store).await
        })
        .await
}

async fn present_ranges_of_complete_are_all_and_of_missing_none<S: Map + BlobStatus + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        assert_eq!(store.present_ranges(&sample.hash).await?, None);
        let _pinned = sample.import(&store).await?;
        let all = chunks(0..sample.n_chunks());
        let (present, verified) =
            (store.present_ranges(&sample.hash).await?, store.verified_ranges(sample.hash).await?);
        assert_eq!(present.map(|present| &present & &all), Some(all.clone()));
        assert_eq!(verified.map(|verified| &verified & &all), Some(all));
    }
    Ok(())
}

async fn size_is_verified_for_complete_entries<S: MapMut + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for size in [0, 1].into_iter().chain(trial.ways()) {
        let [imported, written] = [0, 1].map(|number| Sample::numbered(size, number));
        let _pinned = imported.import(&store).await?;
        assert_eq!(store.existing(imported.hash).await?.size(), BaoBlobSize::Verified(imported.size()));
        written.write(&store, &ChunkRanges::all()).await?;
        let entry = store.get_or_create(written.hash, written.size()).await?;
        store.insert_complete(entry).await?;
        assert_eq!(store.existing(written.hash).await?.size(), BaoBlobSize::Verified(written.size()));
    }
    Ok(())
}

async fn hash_equals_blake3_reference_for_all_boundary_sizes<S: Map + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let mut dice = trial.dice();
    for size in trial.sizes() {
        let data = dice.bytes(size);
        let expected = Hash::from(blake3::hash(&data));
        let pinned = store.import_bytes(data.into(), BlobFormat::Raw).await?;
        assert_eq!(pinned.hash(), expected, "{size} bytes");
        assert_eq!(store.existing(expected).await?.hash(), expected);
    }
    Ok(())
}

async fn entry_clone_is_cheap_and_independent<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let _pinned = sample.import(&store).await?;
        let entry = store.existing(sample.hash).await?;
        let clones = vec![entry.clone(); 1000];
        let mut first = entry.data_reader().await?;
        let Some(clone) = clones.last() else { return Err("no clones".into()) };
        assert_eq!((clone.hash(), clone.size()), (entry.hash(), entry.size()));
        let mut second = clone.data_reader().await?;
        drop(entry);
        assert_eq!(super::read::at(&mut first, 1, 100).await?, sample.slice(1, 100));
        drop(first);
        assert_eq!(super::read::at(&mut second, 500, 100).await?, sample.slice(500, 100));
        drop(clones);
        assert_eq!(super::read::at(&mut second, 0, usize::MAX).await?, sample.data);
    }
    Ok(())
}

async fn get_and_clone_open_no_file<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    let sample = Sample::new(trial.large());
    let _pinned = sample.import(&store).await?;
    let n_open = || open_files_below(trial.home().dir());
    let before = n_open()?;
    let mut entries = Vec::new();
    for _ in 0..20 {
        let entry = store.existing(sample.hash).await?;
        entries.extend([entry.clone(), entry]);
    }
    assert_eq!(n_open()?, before);
    Ok(())
}

/// How many files of a directory this process has open.
fn open_files_below(dir: &std::path::Path) -> std::io::Result<usize> {
    let descriptors = std::fs::read_dir("/proc/self/fd")?;
    let paths = descriptors.flatten().filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok());
    Ok(paths.filter(|path| path.starts_with(dir)).count())
}
