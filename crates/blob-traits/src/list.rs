//! Listing what is there.

use std::{future::Future, pin::Pin};

use futures_lite::{Stream, StreamExt};

use crate::{Hash, HashAndFormat, Result, Tag, TagRange};

/// What a listing returns: a stream that can be sent and that borrows nothing. An item that fails is an `Err` item.
pub type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T>> + Send + 'static>>;

/// Lists blobs.
pub trait ListBlobs: Send + Sync {
    /// Lists the complete blobs: the state at the time of the call, in ascending order.
    fn blobs(&self) -> impl Future<Output = Result<BoxStream<Hash>>> + Send;

    /// Lists the partial blobs: the state at the time of the call, in ascending order.
    fn partial_blobs(&self) -> impl Future<Output = Result<BoxStream<Hash>>> + Send;
}

/// Reads tags.
pub trait ReadTags: Send + Sync {
    /// Lists the tags in a range: the state at the time of the call, in ascending order.
    fn tags(
        &self,
        range: impl Into<TagRange> + Send,
    ) -> impl Future<Output = Result<BoxStream<(Tag, HashAndFormat)>>> + Send;
}

/// Conveniences for [`ReadTags`].
pub trait ReadTagsExt: ReadTags {
    /// Returns what a tag points to.
    fn get_tag(&self, tag: &Tag) -> impl Future<Output = Result<Option<HashAndFormat>>> + Send {
        let range = TagRange::one(tag.clone());
        async move {
            let mut tags = self.tags(range).await?;
            Ok(tags.next().await.transpose()?.map(|(_, content)| content))
        }
    }

    /// Lists the tags that start with a prefix.
    fn tags_with_prefix(
        &self,
        prefix: impl Into<Tag> + Send,
    ) -> impl Future<Output = Result<BoxStream<(Tag, HashAndFormat)>>> + Send {
        self.tags(TagRange::prefix(prefix))
    }
}

impl<T: ReadTags + ?Sized> ReadTagsExt for T {}

/// Collects a listing; for tests and small stores.
pub async fn collect<T>(mut stream: BoxStream<T>) -> Result<Vec<T>> {
    let mut items = Vec::new();
    while let Some(item) = stream.next().await {
        items.push(item?);
    }
    Ok(items)
}
