//! Tags.

use std::ops::Bound;

use blob_traits::{BoxStream, HashAndFormat, ReadTags, Result, Tag, TagRange, WriteTags};
use futures_lite::stream;
use iroh_blobs::store::Store;

use crate::{
    convert::{content_to_ours, content_to_theirs, tag_to_ours, tag_to_theirs},
    failure::About,
    store::Seed,
};

impl<S: Store> ReadTags for Seed<S> {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        let (from, to) = to_theirs(&range.into());
        let tags = self.call(About::Store, self.store().tags(from, to)).await?;
        Ok(Box::pin(stream::iter(tags.map(|tag| {
            let (tag, content) = tag?;
            Ok((tag_to_ours(tag), content_to_ours(content)))
        }))))
    }
}

impl<S: Store> WriteTags for Seed<S> {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        let name = tag_to_theirs(tag);
        match content {
            Some(content) => {
                self.call(About::Store, self.store().set_tag(name, content_to_theirs(content))).await
            }
            None => self.call(About::Store, self.store().delete_tag(name)).await,
        }
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        let tag = self.call(About::Store, self.store().create_tag(content_to_theirs(content))).await?;
        Ok(tag_to_ours(tag))
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        let (from, to) = to_theirs(&range.into());
        self.call(About::Store, self.store().delete_tags(from, to)).await
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        let about = About::Tag(from.clone());
        self.call(about, self.store().rename_tag(tag_to_theirs(from), tag_to_theirs(to))).await
    }
}

/// The seed's ranges include their start and exclude their end. Of an empty range ours tells no more than that.
fn to_theirs(range: &TagRange) -> (Option<iroh_blobs::Tag>, Option<iroh_blobs::Tag>) {
    let Some((start, end)) = range.bounds() else {
        let first = iroh_blobs::Tag::from("");
        return (Some(first.clone()), Some(first));
    };
    let from = match start {
        Bound::Unbounded => None,
        Bound::Included(tag) => Some(tag.clone()),
        Bound::Excluded(tag) => Some(tag.successor()),
    };
    let to = match end {
        Bound::Unbounded => None,
        Bound::Included(tag) => Some(tag.successor()),
        Bound::Excluded(tag) => Some(tag.clone()),
    };
    (from.map(tag_to_theirs), to.map(tag_to_theirs))
}
