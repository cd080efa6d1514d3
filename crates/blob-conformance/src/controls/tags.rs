//! Listings and tags with a defect.

use std::{collections::VecDeque, ops::Bound, time::Duration};

use blob_traits::{
    BoxStream, Error, Hash, HashAndFormat, ListBlobs, ReadTags, Result, Store, Tag, TagRange, WriteTags,
    collect,
};
use futures_lite::{StreamExt, stream};

use super::{Broken, Defect};

/// Longer tags are cut by a store with [`Defect::TagCut`].
const CUT: usize = 1000;

/// Between two steps somebody else gets his turn for certain.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

fn listing<T: Send + 'static>(items: Vec<T>) -> BoxStream<T> {
    Box::pin(stream::iter(items.into_iter().map(Ok)))
}

impl<S: Store> Broken<S> {
    async fn backwards<T: Send + 'static>(&self, stream: BoxStream<T>) -> Result<BoxStream<T>> {
        if !self.is(Defect::ListedBackwards) {
            return Ok(stream);
        }
        let mut items = collect(stream).await?;
        items.reverse();
        Ok(listing(items))
    }

    /// A listing that is made when it is read.
    fn later(&self, range: TagRange) -> BoxStream<(Tag, HashAndFormat)> {
        let store = self.inner.clone();
        let found = async move {
            match store.tags(range).await {
                Ok(tags) => collect(tags).await,
                Err(e) => Err(e),
            }
        };
        let items = stream::once_future(Box::pin(found)).flat_map(|found| {
            let items: VecDeque<_> = match found {
                Ok(items) => items.into_iter().map(Ok).collect(),
                Err(e) => [Err(e)].into(),
            };
            stream::iter(items)
        });
        Box::pin(items)
    }

    fn range(&self, range: TagRange) -> TagRange {
        if !self.is(Defect::RangeEndIncluded) {
            return range;
        }
        match range.bounds() {
            Some((start, Bound::Excluded(end))) => {
                TagRange::from((start.cloned(), Bound::Included(end.clone())))
            }
            _ => range,
        }
    }

    fn name(&self, tag: Tag) -> Tag {
        let is_cut = self.is(Defect::TagCut) && tag.0.len() > CUT;
        if is_cut { Tag(tag.0.slice(..CUT)) } else { tag }
    }
}

impl<S: Store> ListBlobs for Broken<S> {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        let blobs = self.inner.blobs().await?;
        if self.is(Defect::PartialIsListed) {
            let mut all = collect(blobs).await?;
            all.extend(collect(self.inner.partial_blobs().await?).await?);
            all.sort();
            return Ok(listing(all));
        }
        self.backwards(blobs).await
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        let partial = self.inner.partial_blobs().await?;
        self.backwards(partial).await
    }
}

impl<S: Store> ReadTags for Broken<S> {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        let range = self.range(range.into());
        if self.is(Defect::ListedLater) && !self.has_shut_down() {
            return Ok(self.later(range));
        }
        let tags = self.inner.tags(range).await?;
        self.backwards(tags).await
    }
}

impl<S: Store> WriteTags for Broken<S> {
    async fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> Result<()> {
        let tag = self.name(tag);
        let is_there = self.all_tags().await?.iter().any(|(found, _)| *found == tag);
        match self.defect {
            Defect::TagKept if is_there && content.is_some() => Ok(()),
            Defect::MissingTagIsAnError if !is_there && content.is_none() => Err(Error::TagNotFound { tag }),
            _ => self.told_as(self.inner.set_tag(tag, content).await),
        }
    }

    async fn create_tag(&self, content: HashAndFormat) -> Result<Tag> {
        if self.is(Defect::TagNameReused) {
            let tag = Tag::from("auto-2026-01-01T00:00:00.000Z");
            self.inner.set_tag(tag.clone(), Some(content)).await?;
            return Ok(tag);
        }
        self.inner.create_tag(content).await
    }

    async fn delete_tags(&self, range: impl Into<TagRange> + Send) -> Result<()> {
        let range = self.range(range.into());
        if !self.is(Defect::TagsDeletedInSteps) {
            return self.inner.delete_tags(range).await;
        }
        for (tag, _) in collect(self.inner.tags(range).await?).await? {
            self.inner.set_tag(tag, None).await?;
            pause().await;
        }
        Ok(())
    }

    async fn rename_tag(&self, from: Tag, to: Tag) -> Result<()> {
        let before = self.all_tags().await?.into_iter().find(|(tag, _)| *tag == from);
        match (self.defect, &before) {
            (Defect::MissingTagRenamed, None) => return Ok(()),
            (Defect::RenamedInTwoSteps, Some((_, content))) if from != to => {
                self.inner.set_tag(from, None).await?;
                pause().await;
                return self.inner.set_tag(to, Some(*content)).await;
            }
            _ => {}
        }
        self.inner.rename_tag(from, to.clone()).await?;
        match before {
            Some((tag, content)) if self.is(Defect::RenamedTagStays) && tag != to => {
                self.inner.set_tag(tag, Some(content)).await
            }
            _ => Ok(()),
        }
    }
}
