//! The limit on the size of a blob.

use std::io;

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobFormat, BlobStatus, EntryStatus, Error, Import, ImportExt, ImportMode, ListBlobs, MapExt, MapMut,
    MapMutExt, Progress, Store, collect,
};
use bytes::Bytes;
use futures_lite::stream;

use crate::{Failure, Outcome, Sample, Trial, case::group};

group! {
    "limits_hostile", for S: Store;
    max_blob_size_cap_enforced_in_get_or_create [needs SizeLimit],
    max_blob_size_cap_enforced_in_import_bao [needs SizeLimit],
    max_blob_size_cap_enforced_in_import_bytes [needs SizeLimit],
    max_blob_size_cap_enforced_in_import_stream [needs SizeLimit],
    max_blob_size_cap_enforced_in_import_reader [needs SizeLimit],
    max_blob_size_cap_enforced_in_import_file [needs SizeLimit],
    max_blob_size_cap_ends_a_stream_that_never_ends [needs SizeLimit],
}

const LIMITS: [u64; 3] = [1000, 16 << 10, 300_000];

/// A store that takes no blob of more bytes.
async fn capped<S: Clone>(trial: &Trial<S>, limit: u64) -> blob_traits::Result<S> {
    trial.open(&trial.other_home(&format!("capped-{limit}")).with_max_blob_size(limit)).await
}

/// A blob of the limit, and one of a byte more.
fn around(limit: u64) -> Result<(Sample, Sample), Failure> {
    let size = usize::try_from(limit)?;
    Ok((Sample::new(size), Sample::new(size + 1)))
}

/// Checks the error, and that nothing has come of the blob.
async fn refused<S: BlobStatus + ListBlobs>(
    store: &S,
    sample: &Sample,
    limit: u64,
    result: blob_traits::Result<()>,
) -> Outcome {
    let Err(Error::TooLarge { size, limit: told }) = result else { return Err(format!("{result:?}").into()) };
    assert_eq!(told, limit);
    assert!(size > limit, "{size} bytes are not over {limit}");
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::NotFound);
    assert!(collect(store.partial_blobs().await?).await?.is_empty());
    Ok(())
}

async fn max_blob_size_cap_enforced_in_get_or_create<S>(trial: &Trial<S>, _: S) -> Outcome
where
    S: MapMut + BlobStatus + ListBlobs,
{
    for limit in LIMITS {
        let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
        for claim in [limit + 1, 1 << 40, u64::MAX] {
            let result = store.get_or_create(over.hash, claim).await.map(drop);
            refused(&store, &over, limit, result).await?;
        }
        fits.write(&store, &ChunkRanges::all()).await?;
        // A lie over the limit changes nothing of what is there.
        assert!(store.get_or_create(fits.hash, limit + 1).await.is_err());
        store.insert_complete(store.get_or_create(fits.hash, limit).await?).await?;
        assert_eq!(store.read_to_bytes(fits.hash).await?, fits.data);
    }
    Ok(())
}

async fn max_blob_size_cap_enforced_in_import_bao<S>(trial: &Trial<S>, _: S) -> Outcome
where
    S: MapMut + BlobStatus + ListBlobs,
{
    for limit in LIMITS {
        let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
        let all = ChunkRanges::all();
        let result = store.import_bao(over.hash, over.size(), all.clone(), over.encode(&all)).await.map(drop);
        refused(&store, &over, limit, result).await?;
        store.import_bao(fits.hash, fits.size(), all.clone(), fits.encode(&all)).await?;
        assert_eq!(store.read_to_bytes(fits.hash).await?, fits.data);
    }
    Ok(())
}

async fn max_blob_size_cap_enforced_in_import_bytes<S>(trial: &Trial<S>, _: S) -> Outcome
where
    S: ImportingStore,
{
    for limit in LIMITS {
        let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
        refused(&store, &over, limit, over.import(&store).await.map(drop)).await?;
        let _pinned = fits.import(&store).await?;
        assert_eq!(store.read_to_bytes(fits.hash).await?, fits.data);
    }
    Ok(())
}

/// The stream of a blob in pieces.
fn pieces(sample: &Sample) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    let sample = sample.clone();
    stream::iter((0..sample.size().div_ceil(7000)).map(move |i| Ok(sample.slice(i * 7000, 7000))))
}

async fn max_blob_size_cap_enforced_in_import_stream<S: ImportingStore>(trial: &Trial<S>, _: S) -> Outcome {
    for limit in LIMITS {
        let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
        let result = store.import_stream(pieces(&over), BlobFormat::Raw, Progress::none()).await.map(drop);
        refused(&store, &over, limit, result).await?;
        let imported = store.import_stream(pieces(&fits), BlobFormat::Raw, Progress::none()).await?;
        assert_eq!((imported.0.hash(), imported.1), (fits.hash, limit));
        assert_eq!(store.read_to_bytes(fits.hash).await?, fits.data);
    }
    Ok(())
}

async fn max_blob_size_cap_enforced_in_import_reader<S: ImportingStore>(trial: &Trial<S>, _: S) -> Outcome {
    for limit in LIMITS {
        let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
        let reader = |sample: &Sample| io::Cursor::new(sample.data.clone());
        let result = store.import_reader(reader(&over), BlobFormat::Raw, Progress::none()).await.map(drop);
        refused(&store, &over, limit, result).await?;
        let imported = store.import_reader(reader(&fits), BlobFormat::Raw, Progress::none()).await?;
        assert_eq!((imported.0.hash(), imported.1), (fits.hash, limit));
    }
    Ok(())
}

async fn max_blob_size_cap_enforced_in_import_file<S: ImportingStore>(trial: &Trial<S>, _: S) -> Outcome {
    for limit in LIMITS {
        for mode in [ImportMode::Copy, ImportMode::TryReference] {
            let (store, (fits, over)) = (capped(trial, limit).await?, around(limit)?);
            let [fits_path, over_path] = [
                trial.user_file(&format!("fits {limit}"), &fits.data)?,
                trial.user_file(&format!("over {limit}"), &over.data)?,
            ];
            let import = store.import_file(over_path.clone(), mode, BlobFormat::Raw, Progress::none());
            refused(&store, &over, limit, import.await.map(drop)).await?;
            let import = store.import_file(fits_path, mode, BlobFormat::Raw, Progress::none());
            assert_eq!(import.await?.0.hash(), fits.hash);
            assert_eq!(store.read_to_bytes(fits.hash).await?, fits.data);
            assert_eq!(std::fs::read(over_path)?, over.data);
            trial.abandon(store);
        }
    }
    Ok(())
}

async fn max_blob_size_cap_ends_a_stream_that_never_ends<S: ImportingStore>(
    trial: &Trial<S>,
    _: S,
) -> Outcome {
    let limit = 300_000;
    let store = capped(trial, limit).await?;
    // A store without a limit is stopped by the end of this, after 64 MiB.
    let endless = stream::iter((0..1024).map(|_| Ok(Bytes::from(vec![7; 64 << 10]))));
    let result = store.import_stream(endless, BlobFormat::Raw, Progress::none()).await.map(drop);
    refused(&store, &Sample::new(0x7777), limit, result).await?;
    assert!(collect(store.blobs().await?).await?.is_empty());
    Ok(())
}

/// What the cases about imports need.
pub trait ImportingStore: MapExt + Import + BlobStatus + ListBlobs {}

impl<S: MapExt + Import + BlobStatus + ListBlobs> ImportingStore for S {}
