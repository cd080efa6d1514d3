//! The kinds of sources, and what must hold of what came from them.

use std::{io, pin::Pin};

use blob_traits::{
    BlobStatus, EntryStatus, ImportMode, ImportSource, ListBlobs, Map, MapExt, TempTags, collect,
};
use bytes::Bytes;
use futures_lite::{Stream, stream};

use crate::{Outcome, Sample, Trial, eventually};

/// How long the pieces of a stream are: a large blob comes in few, for these are counted in polls.
const PIECE: usize = 1_100_000;

/// The way of a blob into a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Bytes,
    Stream,
    CopiedFile,
    ReferredFile,
}

pub(crate) type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Bytes, Self::Stream, Self::CopiedFile, Self::ReferredFile];

    /// A source of that kind. A file is written to the user's directory first, one for each sample.
    pub(crate) fn source<S: Clone>(self, trial: &Trial<S>, sample: &Sample) -> io::Result<ImportSource> {
        let file = || trial.user_file(&sample.hash.to_string(), &sample.data);
        Ok(match self {
            Self::Bytes => ImportSource::Bytes(sample.data.clone()),
            Self::Stream => ImportSource::Stream(pieces(sample, PIECE)),
            Self::CopiedFile => ImportSource::File { path: file()?, mode: ImportMode::Copy },
            Self::ReferredFile => ImportSource::File { path: file()?, mode: ImportMode::TryReference },
        })
    }
}

/// The least and the greatest of [`Trial::ways`], for what is done many times.
pub(crate) fn two_ways<S: Clone>(trial: &Trial<S>) -> [Sample; 2] {
    [1000, trial.large()].map(Sample::new)
}

/// The bytes of a sample in pieces.
pub(crate) fn pieces(sample: &Sample, len: usize) -> Pieces {
    let data = sample.data.clone();
    let pieces: Vec<_> = sample.data.chunks(len).map(|piece| Ok(data.slice_ref(piece))).collect();
    Box::pin(stream::iter(pieces))
}

/// Checks that a blob is complete and reads as what it is, with and without proof.
pub(crate) async fn check_whole<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Outcome {
    assert_eq!(store.entry_status(&sample.hash).await?, EntryStatus::Complete);
    assert!(store.read_to_bytes(sample.hash).await? == sample.data, "other bytes were stored");
    assert!(store.read_verified(sample.hash, 0..u64::MAX).await? == sample.data);
    Ok(())
}

/// Checks that nothing at all is in the store.
pub(crate) async fn check_empty<S: ListBlobs + TempTags>(store: &S) -> Outcome {
    assert_eq!(store.temp_tags().count(), 0, "temporary tags");
    assert_eq!(collect(store.blobs().await?).await?, []);
    assert_eq!(collect(store.partial_blobs().await?).await?, []);
    Ok(())
}

/// Checks what must hold soon after the future of an import was dropped: nothing happened, or all of it.
pub(crate) async fn check_dropped<S: Map + BlobStatus + TempTags>(store: &S, sample: &Sample) -> Outcome {
    eventually("no temporary tag", async || Ok(store.temp_tags().next().is_none())).await?;
    match store.entry_status(&sample.hash).await? {
        EntryStatus::NotFound => Ok(()),
        EntryStatus::Complete => check_whole(store, sample).await,
        EntryStatus::Partial => Err("an import left a partial blob".into()),
    }
}
