//! What a store is expected to hold, as far as its answers tell.

use std::collections::BTreeMap;

use bao_tree::ChunkRanges;
use blob_fs::FsStore;
use blob_traits::{EntryStatus, Hash, HashAndFormat, Result, Tag, TagRange, collect, prelude::*};
use bytes::Bytes;

/// What there may be of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Has {
    Nothing,
    /// At least these chunks, and not said to be complete.
    Partial(ChunkRanges),
    Complete,
}

/// For each key what may be there: one state where an operation on it succeeded last, several after a failure.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    contents: BTreeMap<Hash, Bytes>,
    blobs: BTreeMap<Hash, Vec<Has>>,
    tags: BTreeMap<Tag, Vec<Option<HashAndFormat>>>,
    /// A tag may have been created whose name nobody was told.
    pub(crate) unknown_tags: bool,
}

impl World {
    /// Takes note of an operation on a blob: of its result, or of what it would have been.
    pub(crate) fn blob<T>(&mut self, data: &Bytes, has: Has, result: &Result<T>) {
        let hash = Hash::new(data);
        self.contents.insert(hash, data.clone());
        let states = self.blobs.entry(hash).or_insert_with(|| vec![Has::Nothing]);
        if result.is_ok() {
            states.clear();
        }
        if !states.contains(&has) {
            states.push(has);
        }
    }

    /// The same for a tag.
    pub(crate) fn tag<T>(&mut self, tag: &Tag, content: Option<HashAndFormat>, result: &Result<T>) {
        let states = self.tags.entry(tag.clone()).or_insert_with(|| vec![None]);
        if result.is_ok() {
            states.clear();
        }
        if !states.contains(&content) {
            states.push(content);
        }
    }

    /// Takes in what is known about other keys.
    pub(crate) fn merge(&mut self, other: Self) {
        self.contents.extend(other.contents);
        self.blobs.extend(other.blobs);
        self.tags.extend(other.tags);
        self.unknown_tags |= other.unknown_tags;
    }

    /// All blobs that were ever there.
    pub(crate) fn blobs(&self) -> Vec<Hash> {
        self.blobs.keys().copied().collect()
    }

    /// The chunks that are there in all states.
    pub(crate) fn synced(&self, hash: &Hash) -> ChunkRanges {
        let states = self.blobs.get(hash).map(Vec::as_slice).unwrap_or_default();
        let chunks = |has: &Has| match has {
            Has::Nothing => ChunkRanges::empty(),
            Has::Partial(ranges) => ranges.clone(),
            Has::Complete => ChunkRanges::all(),
        };
        states.iter().map(chunks).reduce(|a, b| a & b).unwrap_or_else(ChunkRanges::empty)
    }

    pub(crate) fn may_be_complete(&self, hash: &Hash) -> bool {
        self.blobs.get(hash).is_some_and(|states| states.contains(&Has::Complete))
    }

    /// The tags that may be there and start with a prefix.
    pub(crate) fn tags_with(&self, prefix: &str) -> Vec<Tag> {
        let named = self.tags.keys().filter(|tag| tag.as_ref().starts_with(prefix.as_bytes()));
        named.cloned().collect()
    }

    /// Checks a store by looking every key up, and by listing.
    pub(crate) async fn check(&self, store: &FsStore) {
        for hash in self.blobs.keys() {
            self.see_blob(store, hash).await;
        }
        self.see_tags(store).await;
        let listed = collect(store.blobs().await.unwrap()).await.unwrap();
        assert!(listed.is_sorted() && listed.iter().all(|hash| self.blobs.contains_key(hash)), "{listed:?}");
        for hash in self.blobs.keys() {
            let complete = store.entry_status(hash).await.unwrap() == EntryStatus::Complete;
            assert_eq!(listed.contains(hash), complete, "{hash} in the listing");
        }
    }

    /// Checks a store that was just opened: what it says now it has to go on saying.
    pub(crate) async fn settle(&mut self, store: &FsStore) {
        self.check(store).await;
        for hash in self.blobs() {
            let seen = self.see_blob(store, &hash).await;
            self.blobs.insert(hash, vec![seen]);
        }
        for (tag, content) in self.see_tags(store).await {
            self.tags.insert(tag, vec![content]);
        }
        self.unknown_tags = false;
    }

    async fn see_blob(&self, store: &FsStore, hash: &Hash) -> Has {
        let data = &self.contents[hash];
        let seen = match store.entry_status(hash).await.unwrap() {
            EntryStatus::NotFound => Has::Nothing,
            EntryStatus::Partial => {
                let present = store.present_ranges(hash).await.unwrap().unwrap();
                store.export_bao(*hash, present.clone(), Vec::new()).await.unwrap();
                Has::Partial(present)
            }
            EntryStatus::Complete => {
                let read = store.read_verified(*hash, 0..u64::MAX).await;
                assert!(read.as_ref().is_ok_and(|read| read == data), "{hash}: {read:?}");
                Has::Complete
            }
        };
        let states = &self.blobs[hash];
        let fits = |allowed: &Has| match (allowed, &seen) {
            (Has::Partial(least), Has::Partial(present)) => least.is_subset(present),
            (allowed, seen) => allowed == seen,
        };
        assert!(states.iter().any(fits), "{hash} of {} bytes is {seen:?}, not one of {states:?}", data.len());
        seen
    }

    async fn see_tags(&self, store: &FsStore) -> BTreeMap<Tag, Option<HashAndFormat>> {
        let listed = collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap();
        let listed: BTreeMap<Tag, HashAndFormat> = listed.into_iter().collect();
        for tag in listed.keys() {
            let created = tag.as_ref().starts_with(b"auto-") && self.unknown_tags;
            assert!(self.tags.contains_key(tag) || created, "{tag:?} came from nowhere");
        }
        let seen = |tag: &Tag| listed.get(tag).copied();
        for (tag, states) in &self.tags {
            assert!(states.contains(&seen(tag)), "{tag:?} is {:?}, not one of {states:?}", seen(tag));
        }
        let keys = self.tags.keys().chain(listed.keys());
        keys.map(|tag| (tag.clone(), seen(tag))).collect()
    }
}
