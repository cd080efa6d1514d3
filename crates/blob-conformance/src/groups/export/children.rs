//! Collections whose parts are absent, or do not fit together: nothing is written.

use blob_traits::{
    BlobFormat, Collection, Error, ExportExt, Hash, HashSeq, Import, ImportExt, MapMut, Progress, Result,
    Store,
};

use super::{MODES, collection::stored, replacing};
use crate::{Outcome, Sample, Trial, case::group, group_ranges};

group! {
    "export", for S: Store;
    export_collection_missing_refused,
    export_collection_missing_child_refused_before_first_write,
    export_collection_partial_child_refused_before_first_write,
    export_collection_name_count_mismatch_children_refused,
    export_collection_malformed_metadata_refused,
    export_collection_of_blob_that_is_none_refused,
}

/// Exports with both modes; returns how it ended once nothing was written.
async fn ended<S: ExportExt>(
    trial: &Trial<S>,
    store: &S,
    root: Hash,
) -> Result<[Result<()>; 2], crate::Failure> {
    let mut ended = [Ok(()), Ok(())];
    for (mode, ended) in MODES.into_iter().zip(&mut ended) {
        let target = trial.user("target");
        *ended = store.export_collection(root, target, replacing(mode), Progress::none()).await;
        assert!(trial.user_names()?.is_empty(), "{:?}", trial.user_names()?);
    }
    Ok(ended)
}

/// Stores a hash sequence of one metadata blob and some children, whether they fit together or not.
async fn stored_raw<S: Import>(store: &S, metadata: &[u8], children: &[Hash]) -> Result<Hash> {
    let names = store.import_bytes(metadata.to_vec().into(), BlobFormat::Raw).await?;
    let root: HashSeq = [names.hash()].into_iter().chain(children.iter().copied()).collect();
    Ok(store.import_bytes(root.into_inner(), BlobFormat::HashSeq).await?.hash())
}

async fn export_collection_missing_refused<S: ExportExt>(trial: &Trial<S>, store: S) -> Outcome {
    let absent = Hash::new(b"absent");
    for ended in ended(trial, &store, absent).await? {
        assert!(matches!(ended, Err(Error::NotFound { hash }) if hash == absent), "{ended:?}");
    }
    Ok(())
}

async fn export_collection_missing_child_refused_before_first_write<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (there, absent) = (Sample::new(1000), Hash::new(b"absent"));
    let _pinned = there.import(&store).await?;
    let files = [("a", there.hash), ("dir/b", there.hash), ("z", absent)];
    let root = files.into_iter().collect::<Collection>().store(&store).await?;
    for ended in ended(trial, &store, root.hash()).await? {
        assert!(matches!(ended, Err(Error::NotFound { hash }) if hash == absent), "{ended:?}");
    }
    Ok(())
}

async fn export_collection_partial_child_refused_before_first_write<S: MapMut + Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (there, partial) = (Sample::new(1000), Sample::new(100_000));
    let _pinned = there.import(&store).await?;
    partial.write(&store, &group_ranges(0..2)).await?;
    let files = [("a", there.hash), ("z", partial.hash)];
    let root = files.into_iter().collect::<Collection>().store(&store).await?;
    for ended in ended(trial, &store, root.hash()).await? {
        let expected = partial.hash;
        let first = 2 * crate::GROUP;
        assert!(
            matches!(ended, Err(Error::Incomplete { hash, first_missing, .. }) if (hash, first_missing) == (expected, first)),
            "{ended:?}"
        );
    }
    Ok(())
}

async fn export_collection_name_count_mismatch_children_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(1000);
    let _pinned = child.import(&store).await?;
    let names = b"CollectionV0.\x02\x01a\x01b";
    for n_children in [0, 1, 3, 4] {
        let root = stored_raw(&store, names, &vec![child.hash; n_children]).await?;
        for ended in ended(trial, &store, root).await? {
            assert!(matches!(ended, Err(Error::NotACollection { .. })), "{n_children}: {ended:?}");
        }
    }
    // What two of them would be.
    let root = stored_raw(&store, names, &[child.hash; 2]).await?;
    store.export_collection(root, trial.user("target"), MODES[0], Progress::none()).await?;
    Ok(())
}

async fn export_collection_malformed_metadata_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let child = Sample::new(1000);
    let _pinned = child.import(&store).await?;
    let all: [&[u8]; 8] = [
        b"",
        b"CollectionV0",
        b"CollectionV1.\x01\x01a",
        b"CollectionV0.",
        b"CollectionV0.\x01\x02a",
        b"CollectionV0.\x01\x01\xff",
        b"CollectionV0.\x01\x01aa",
        b"CollectionV0.\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01a",
    ];
    for metadata in all {
        let root = stored_raw(&store, metadata, &[child.hash]).await?;
        for ended in ended(trial, &store, root).await? {
            assert!(matches!(ended, Err(Error::NotACollection { .. })), "{metadata:?}: {ended:?}");
        }
    }
    Ok(())
}

async fn export_collection_of_blob_that_is_none_refused<S: Import + ExportExt>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let (root, _pinned) = stored(&store, &[("a", &Sample::new(10))]).await?;
    for size in [0, 31, 33, 1000] {
        let blob = Sample::new(size);
        let _pinned = blob.import(&store).await?;
        for ended in ended(trial, &store, blob.hash).await? {
            assert!(matches!(ended, Err(Error::NotACollection { .. })), "{size}: {ended:?}");
        }
    }
    // A sequence whose first child is the sequence of another collection.
    let nested: HashSeq = [root, root].into_iter().collect();
    let nested = store.import_bytes(nested.into_inner(), BlobFormat::HashSeq).await?;
    for ended in ended(trial, &store, nested.hash()).await? {
        assert!(matches!(ended, Err(Error::NotACollection { .. })), "{ended:?}");
    }
    Ok(())
}
