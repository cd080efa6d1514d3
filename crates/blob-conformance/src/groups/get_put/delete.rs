//! Deleting by force.

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobFormat, BlobStatus, Delete, EntryStatus, Error, Hash, HashAndFormat, Import, ImportExt, ListBlobs,
    Map, MapExt, MapMut, ReadTagsExt, Store, Tag, WriteTags, collect,
};

use crate::{Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "get_put", for S: Store;
    delete_removes_complete_and_partial_and_nothing_else,
    delete_of_missing_is_ok,
    delete_is_forced_whatever_tags_and_temp_tags_say,
    delete_then_import_again_reads_back,
    delete_then_partial_begins_anew,
    delete_while_writing_is_not_found_at_completion,
    delete_survives_reopen [needs Persistence],
}

async fn delete_removes_complete_and_partial_and_nothing_else<
    S: MapMut + BlobStatus + ListBlobs + Import + Delete,
>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for size in trial.ways() {
        let [gone, kept, part, kept_part] = [0, 1, 2, 3].map(|number| Sample::numbered(size, number));
        let _pinned = [gone.import(&store).await?, kept.import(&store).await?];
        part.write(&store, &group_ranges(0..1)).await?;
        kept_part.write(&store, &group_ranges(0..1)).await?;
        store.delete(vec![gone.hash, part.hash]).await?;
        for hash in [gone.hash, part.hash] {
            assert_eq!(store.entry_status(&hash).await?, EntryStatus::NotFound);
            assert!(store.get(&hash).await?.is_none());
            assert!(store.present_ranges(&hash).await?.is_none());
        }
        assert_eq!(store.read_verified(kept.hash, 0..u64::MAX).await?, kept.data);
        assert_eq!(store.read_range(kept_part.hash, 0..1000).await?, kept_part.slice(0, 1000));
        assert_eq!(collect(store.blobs().await?).await?, [kept.hash]);
        assert_eq!(collect(store.partial_blobs().await?).await?, [kept_part.hash]);
        store.delete(vec![kept.hash, kept_part.hash]).await?;
    }
    Ok(())
}

async fn delete_of_missing_is_ok<S: Map + Import + Delete>(_: &Trial<S>, store: S) -> Outcome {
    let missing = Hash::new(b"missing");
    store.delete(Vec::new()).await?;
    store.delete(vec![missing, missing]).await?;
    let sample = Sample::new(1000);
    let _pinned = sample.import(&store).await?;
    store.delete(vec![missing, sample.hash, sample.hash, Hash::new(b"another")]).await?;
    assert!(store.get(&sample.hash).await?.is_none());
    store.delete(vec![sample.hash]).await?;
    Ok(())
}

async fn delete_is_forced_whatever_tags_and_temp_tags_say<S: Map + Import + WriteTags + Delete>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(1000);
    let content = HashAndFormat::raw(sample.hash);
    let pinned = sample.import(&store).await?;
    store.set_tag("kept".into(), Some(content)).await?;
    store.delete(vec![sample.hash]).await?;
    assert!(store.get(&sample.hash).await?.is_none());
    // They say what is to be kept, not what is there.
    assert_eq!(store.get_tag(&Tag::from("kept")).await?, Some(content));
    assert_eq!(store.temp_tags().collect::<Vec<_>>(), [content]);
    drop(pinned);
    assert_eq!(store.temp_tags().count(), 0);
    Ok(())
}

async fn delete_then_import_again_reads_back<S: Map + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        for _ in 0..3 {
            let pinned = store.import_bytes(sample.data.clone(), BlobFormat::Raw).await?;
            assert_eq!(store.read_verified(pinned.hash(), 0..u64::MAX).await?, sample.data);
            store.delete(vec![sample.hash]).await?;
            assert_eq!(store.entry_status_sync(&sample.hash)?, EntryStatus::NotFound);
        }
    }
    Ok(())
}

async fn delete_then_partial_begins_anew<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        sample.import(&store).await?;
        store.delete(vec![sample.hash]).await?;
        for _ in 0..2 {
            let entry = store.get_or_create(sample.hash, sample.size()).await?;
            assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Partial);
            assert_eq!(store.present_ranges(&sample.hash).await?, Some(ChunkRanges::empty()));
            let read = store.read_range(sample.hash, 0..1).await;
            assert!(matches!(read, Err(Error::Incomplete { .. })), "{read:?}");
            let completed = store.insert_complete(entry).await;
            assert!(completed.is_err(), "what was deleted counted as written");
            sample.write(&store, &ChunkRanges::all()).await?;
            store.delete(vec![sample.hash]).await?;
        }
    }
    Ok(())
}

async fn delete_while_writing_is_not_found_at_completion<S: MapMut + BlobStatus + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    for sample in trial.ways().into_iter().map(Sample::new) {
        let entry = store.get_or_create(sample.hash, sample.size()).await?;
        sample.write(&store, &ChunkRanges::all()).await?;
        store.delete(vec![sample.hash]).await?;
        let completed = store.insert_complete(entry).await;
        assert!(matches!(completed, Err(Error::NotFound { hash }) if hash == sample.hash));
        assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
    }
    Ok(())
}

async fn delete_survives_reopen<S: MapMut + BlobStatus + Import + Delete>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let samples: Vec<_> = trial.ways().into_iter().map(Sample::new).collect();
    for sample in &samples {
        sample.import(&store).await?;
    }
    let begun = Sample::numbered(100_000, 1);
    begun.write(&store, &group_ranges(0..2)).await?;
    let gone: Vec<_> = samples.iter().chain([&begun]).map(|sample| sample.hash).collect();
    store.delete(gone.clone()).await?;
    let store = trial.reopen(store).await?;
    for hash in gone {
        assert_eq!(store.entry_status(&hash).await?, EntryStatus::NotFound);
    }
    Ok(())
}
