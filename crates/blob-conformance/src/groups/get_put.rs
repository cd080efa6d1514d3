//! Looking blobs up and reading them.

use blob_traits::{BlobStatus, EntryStatus, Hash, Import, Map, MapEntry, MapExt, Store};

use crate::{Outcome, Sample, Trial, case::group};

group! {
    "get_put", for S: Store;
    empty_blob_is_complete_without_insert,
    get_missing_returns_none_not_error,
    import_bytes_roundtrip_boundary_sizes,
}

async fn empty_blob_is_complete_without_insert<S: Map + BlobStatus>(_: &Trial<S>, store: S) -> Outcome {
    assert_eq!(store.entry_status(&Hash::EMPTY).await?, EntryStatus::Complete);
    let entry = store.existing(Hash::EMPTY).await?;
    assert!(entry.is_complete());
    assert_eq!(store.read_verified(Hash::EMPTY, 0..1).await?, "");
    Ok(())
}

async fn get_missing_returns_none_not_error<S: Map>(_: &Trial<S>, store: S) -> Outcome {
    assert!(store.get(&Hash::new(b"missing")).await?.is_none());
    Ok(())
}

async fn import_bytes_roundtrip_boundary_sizes<S: Map + Import>(trial: &Trial<S>, store: S) -> Outcome {
    for sample in trial.sizes().into_iter().map(Sample::new) {
        let pinned = sample.import(&store).await?;
        assert_eq!(pinned.hash(), sample.hash);
        assert_eq!(store.read_to_bytes(sample.hash).await?, sample.data);
    }
    Ok(())
}
