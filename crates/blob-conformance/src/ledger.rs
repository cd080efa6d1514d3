//! What a store may hold after some operations succeeded, failed, or were cut off.

use std::collections::{BTreeMap, BTreeSet};

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobStatus, EntryStatus, Hash, HashAndFormat, ListBlobs, Map, MapExt, ReadTags, ReadTagsExt, Result, Tag,
    collect,
};

use crate::{Failure, Outcome, Sample};

/// What there may be of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    Nothing,
    /// At least these chunks, and not said to be complete.
    Partial(ChunkRanges),
    Complete,
}

/// For each blob and tag what may be there: one state where an operation on it succeeded last, several after a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    blobs: BTreeMap<Hash, (Sample, Vec<Has>)>,
    tags: BTreeMap<Tag, Vec<Option<HashAndFormat>>>,
}

impl Ledger {
    /// Notes what an operation on a blob has led to, or may have led to if it failed.
    pub(crate) fn blob<T>(&mut self, sample: &Sample, has: Has, result: &Result<T>) {
        let (_, states) =
            self.blobs.entry(sample.hash).or_insert_with(|| (sample.clone(), vec![Has::Nothing]));
        if result.is_ok() {
            states.clear();
        }
        if !states.contains(&has) {
            states.push(has);
        }
    }

    /// Notes what is there of a blob.
    pub(crate) fn is(&mut self, sample: &Sample, has: Has) {
        self.blob(sample, has, &Ok(()));
    }

    /// Notes what may be there of a blob besides what was possible before.
    pub(crate) fn may_be(&mut self, sample: &Sample, has: Has) {
        self.blob(sample, has, &Err::<(), _>(blob_traits::Error::Cancelled));
    }

    /// The same as [`blob`](Self::blob) for a tag.
    pub(crate) fn tag<T>(&mut self, tag: &Tag, content: Option<HashAndFormat>, result: &Result<T>) {
        let states = self.tags.entry(tag.clone()).or_insert_with(|| vec![None]);
        if result.is_ok() {
            states.clear();
        }
        if !states.contains(&content) {
            states.push(content);
        }
    }

    /// Takes over what another one knows.
    pub(crate) fn merge(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.tags.extend(other.tags);
    }

    /// [`check`](Self::check), after which what was found has to stay.
    pub(crate) async fn settle<S: Map + BlobStatus + ReadTags>(&mut self, store: &S) -> Outcome {
        self.check(store).await?;
        for (sample, states) in self.blobs.values_mut() {
            *states = vec![look(store, sample).await?];
        }
        for (tag, states) in &mut self.tags {
            *states = vec![store.get_tag(tag).await?];
        }
        Ok(())
    }

    /// Fails unless each blob and tag is as it may be, and the bytes that are there verify.
    pub(crate) async fn check<S: Map + BlobStatus + ReadTags>(&self, store: &S) -> Outcome {
        for (sample, states) in self.blobs.values() {
            let seen = look(store, sample).await?;
            let fits = |allowed: &Has| match (allowed, &seen) {
                (Has::Partial(least), Has::Partial(present)) => least.is_subset(present),
                (allowed, seen) => allowed == seen,
            };
            let size = sample.size();
            let fit = states.iter().any(fits);
            assert!(fit, "{} of {size} bytes is {seen:?}, not one of {states:?}", sample.hash);
        }
        if self.tags.is_empty() {
            return Ok(());
        }
        let listed: BTreeMap<_, _> = collect(store.tags(..).await?).await?.into_iter().collect();
        for (tag, states) in &self.tags {
            let seen = listed.get(tag).copied();
            assert!(states.contains(&seen), "tag {tag} is {seen:?}, not one of {states:?}");
        }
        Ok(())
    }

    /// [`check`](Self::check), and fails if the listings show anything else.
    pub(crate) async fn check_all<S: Map + BlobStatus + ReadTags + ListBlobs>(&self, store: &S) -> Outcome {
        self.check(store).await?;
        let (complete, partial) = listed(store).await?;
        for (hash, status) in complete
            .iter()
            .map(|hash| (hash, EntryStatus::Complete))
            .chain(partial.iter().map(|hash| (hash, EntryStatus::Partial)))
        {
            assert!(self.blobs.contains_key(hash), "{hash} came from nowhere");
            assert_eq!(store.entry_status(hash).await?, status, "{hash}");
        }
        for hash in self.blobs.keys() {
            let status = store.entry_status(hash).await?;
            assert_eq!(complete.contains(hash), status == EntryStatus::Complete, "{hash} in the listing");
            assert_eq!(partial.contains(hash), status == EntryStatus::Partial, "{hash} in the listing");
        }
        let tags = collect(store.tags(..).await?).await?;
        assert!(tags.iter().all(|(tag, _)| self.tags.contains_key(tag)), "a tag came from nowhere: {tags:?}");
        Ok(())
    }
}

/// Complete and partial blobs, without the empty one.
async fn listed<S: ListBlobs>(store: &S) -> Result<(BTreeSet<Hash>, BTreeSet<Hash>)> {
    let mut complete: BTreeSet<_> = collect(store.blobs().await?).await?.into_iter().collect();
    complete.remove(&Hash::EMPTY);
    Ok((complete, collect(store.partial_blobs().await?).await?.into_iter().collect()))
}

/// What is there of a blob. What is said to be there must verify.
async fn look<S: Map + BlobStatus>(store: &S, sample: &Sample) -> Result<Has, Failure> {
    Ok(match store.entry_status(&sample.hash).await? {
        EntryStatus::NotFound => Has::Nothing,
        EntryStatus::Partial => {
            let present = store.present_ranges(&sample.hash).await?.ok_or("a partial blob without ranges")?;
            let stream = store.export_bao(sample.hash, present.clone(), Vec::new()).await?;
            assert!(stream == sample.encode(&present), "{} has other bytes", sample.hash);
            Has::Partial(present)
        }
        EntryStatus::Complete => {
            let bytes = store.read_verified(sample.hash, 0..u64::MAX).await?;
            assert!(bytes == sample.data, "{} has other bytes", sample.hash);
            Has::Complete
        }
    })
}

/// Fails unless all that a store lists verifies, whoever put it there.
pub(crate) async fn everything_verifies<S: Map + BlobStatus + ListBlobs>(store: &S) -> Outcome {
    let (complete, partial) = listed(store).await?;
    for hash in complete {
        assert_eq!(store.entry_status(&hash).await?, EntryStatus::Complete);
        assert_eq!(Hash::new(store.read_verified(hash, 0..u64::MAX).await?), hash);
    }
    for hash in partial {
        let present = store.present_ranges(&hash).await?.ok_or("a partial blob without ranges")?;
        store.export_bao(hash, present, Vec::new()).await?;
    }
    Ok(())
}
