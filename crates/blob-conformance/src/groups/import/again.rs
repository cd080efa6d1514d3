//! Blobs that the store has already, whole or in part.

use blob_traits::{
    BaoBlobSize, BlobFormat, BlobStatus, EntryStatus, HashAndFormat, Import, ImportExt, ImportMode,
    ListBlobs, Map, MapEntry, MapExt, MapMut, Progress, ReadBlob, Store, collect,
};

use super::way::{Way, check_whole, two_ways};
use crate::{Outcome, Sample, Trial, case::group, chunks};

group! {
    "import", for S: Store;
    import_of_a_present_blob_still_pins_it,
    import_makes_a_partial_blob_complete,
    import_makes_a_partial_blob_complete_for_open_handles,
    import_file_reference_of_an_owned_blob_keeps_the_bytes,
    import_file_copy_of_a_referenced_file_is_a_copy,
    import_again_mends_a_changed_reference [needs References],
    import_of_a_present_blob_stores_nothing_more [needs Files],
}

async fn import_of_a_present_blob_still_pins_it<S: Map + Import + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in two_ways(trial) {
        sample.import(&store).await?;
        for way in Way::ALL {
            let source = way.source(trial, &sample)?;
            let (pin, size) = store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
            assert_eq!((pin.hash(), size), (sample.hash, sample.size()));
            let pinned: Vec<_> = store.temp_tags().collect();
            assert_eq!(pinned, [HashAndFormat::raw(sample.hash)], "{way:?}");
            check_whole(&store, &sample).await?;
        }
    }
    assert_eq!(collect(store.blobs().await?).await?.len(), 2);
    Ok(())
}

async fn import_makes_a_partial_blob_complete<S: MapMut + Import + BlobStatus + ListBlobs>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, way) in (0..).zip(Way::ALL) {
        for size in [20_000, trial.large()] {
            let sample = Sample::numbered(size, number);
            sample.write(&store, &chunks(0..16)).await?;
            let source = way.source(trial, &sample)?;
            store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
            check_whole(&store, &sample).await?;
            assert_eq!(collect(store.partial_blobs().await?).await?, [], "{way:?}");
        }
    }
    Ok(())
}

/// Also where the partial blob went by another size.
async fn import_makes_a_partial_blob_complete_for_open_handles<S: MapMut + Import>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, way) in (0..).zip(Way::ALL) {
        let sample = Sample::numbered(trial.large(), number);
        let entry = store.get_or_create(sample.hash, sample.size() - 50_000).await?;
        let mut reader = entry.data_reader().await?;
        let source = way.source(trial, &sample)?;
        store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
        assert!(entry.is_complete(), "{way:?}");
        assert_eq!(entry.size(), BaoBlobSize::Verified(sample.size()));
        assert!(reader.read_range(0, sample.data.len()).await? == sample.data);
        store.insert_complete(entry).await?;
    }
    Ok(())
}

async fn import_file_reference_of_an_owned_blob_keeps_the_bytes<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        sample.import(&store).await?;
        let path = trial.user_file("source", &sample.data)?;
        store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?;
        std::fs::remove_file(path)?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

/// A copy is promised whoever has referred to the file before.
async fn import_file_copy_of_a_referenced_file_is_a_copy<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let sample = Sample::new(size);
        let path = trial.user_file("source", &sample.data)?;
        for mode in [ImportMode::TryReference, ImportMode::Copy] {
            store.import_file(path.clone(), mode, BlobFormat::Raw, Progress::none()).await?;
        }
        std::fs::write(&path, "changed")?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn import_again_mends_a_changed_reference<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for (number, way) in (0..).zip(Way::ALL) {
        let sample = Sample::numbered(trial.large(), number);
        let path = trial.user_file("changing", &sample.data)?;
        store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none()).await?;
        std::fs::write(&path, "changed")?;
        assert!(store.read_to_bytes(sample.hash).await.is_err());
        let source = way.source(trial, &sample)?;
        store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
        check_whole(&store, &sample).await?;
    }
    Ok(())
}

async fn import_of_a_present_blob_stores_nothing_more<S: Map + Import + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(trial.large().max(1 << 20));
    sample.import(&store).await?;
    let once = trial.home().stored_bytes();
    for way in [Way::ALL, Way::ALL].concat() {
        let source = way.source(trial, &sample)?;
        store.import(source, BlobFormat::Raw.into(), Progress::none()).await?;
    }
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    crate::eventually("the copies are gone", async || {
        Ok(trial.home().stored_bytes() < once + sample.size() / 2)
    })
    .await
}
