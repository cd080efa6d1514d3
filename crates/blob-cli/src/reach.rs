//! What tags keep.

use std::collections::HashSet;

use blob_fs::FsStore;
use blob_traits::{Error, Hash, HashAndFormat, MapEntry, ReadBlob, Result, Tag, TagRange, prelude::*};
use futures_lite::StreamExt;

use crate::output::Output;

/// How much of a hash sequence is read at a time.
const PAGE: usize = 32 << 10;

/// The blobs that tags keep.
#[derive(Debug, Default)]
pub(crate) struct Reached(HashSet<Hash>);

impl Reached {
    /// Follows all tags.
    pub(crate) async fn by_tags(store: &FsStore, output: &Output) -> Result<Self> {
        let mut reached = HashSet::new();
        let mut tags = store.tags(TagRange::all()).await?;
        while let Some(tag) = tags.next().await {
            let (tag, content) = tag?;
            reached.insert(content.hash);
            let whole = each_child(store, content, |child| {
                reached.insert(child);
            });
            if !whole.await? {
                output.warning(&format!(
                    "the hash sequence of tag \"{tag}\" is not complete: blobs that it lists may count as untagged"
                ));
            }
        }
        Ok(Self(reached))
    }

    /// Tells whether a tag keeps the blob.
    pub(crate) fn contains(&self, hash: &Hash) -> bool {
        self.0.contains(hash)
    }
}

/// Finds a tag that keeps a blob.
pub(crate) async fn tag_that_keeps(store: &FsStore, hash: Hash) -> Result<Option<Tag>> {
    let mut tags = store.tags(TagRange::all()).await?;
    while let Some(tag) = tags.next().await {
        let (tag, content) = tag?;
        let mut found = content.hash == hash;
        each_child(store, content, |child| found |= child == hash).await?;
        if found {
            return Ok(Some(tag));
        }
    }
    Ok(None)
}

/// Visits what a hash sequence lists, as far as it is there; returns whether that is all of it.
async fn each_child(
    store: &FsStore,
    content: HashAndFormat,
    mut visit: impl FnMut(Hash) + Send,
) -> Result<bool> {
    if content.format.is_raw() {
        return Ok(true);
    }
    let Some(entry) = store.get(&content.hash).await? else { return Ok(false) };
    let (mut reader, size) = (entry.data_reader().await?, entry.size().value());
    let mut offset = 0;
    while offset < size {
        let page = match reader.read_range(offset, PAGE).await.map_err(Error::from) {
            Err(Error::Incomplete { .. }) => return Ok(false),
            page => page?,
        };
        if page.is_empty() {
            return Ok(false);
        }
        page.as_chunks().0.iter().copied().map(Hash::from_bytes).for_each(&mut visit);
        offset += page.len() as u64;
    }
    Ok(true)
}
