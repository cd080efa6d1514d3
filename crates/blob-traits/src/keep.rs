//! What keeps blobs alive, and what removes them: tags, temporary tags, forced deletion.

use std::future::Future;

use crate::{Hash, HashAndFormat, ReadTags, Result, Tag, TagRange, TempTag};

/// Writes tags. Every change is atomic, and durable when the call returns.
pub trait WriteTags: ReadTags {
    /// Points a tag somewhere, or deletes it with `None`; a missing tag may be deleted. The blob need not be there.
    ///
    /// # Errors
    /// [`Error::TagTooLong`](crate::Error::TagTooLong).
    fn set_tag(&self, tag: Tag, content: Option<HashAndFormat>) -> impl Future<Output = Result<()>> + Send;

    /// Points a new tag somewhere, whose name no tag has: `auto-<UTC time>`, with `-<n>` where needed.
    fn create_tag(&self, content: HashAndFormat) -> impl Future<Output = Result<Tag>> + Send;

    /// Deletes all tags in a range, in one step.
    fn delete_tags(&self, range: impl Into<TagRange> + Send) -> impl Future<Output = Result<()>> + Send;

    /// Gives a tag another name, in one step; a tag that has that name is replaced.
    ///
    /// # Errors
    /// [`Error::TagNotFound`](crate::Error::TagNotFound).
    fn rename_tag(&self, from: Tag, to: Tag) -> impl Future<Output = Result<()>> + Send;
}

/// Conveniences for [`WriteTags`].
pub trait WriteTagsExt: WriteTags {
    /// Deletes a tag; a missing one is fine.
    fn delete_tag(&self, tag: Tag) -> impl Future<Output = Result<()>> + Send {
        self.set_tag(tag, None)
    }
}

impl<T: WriteTags + ?Sized> WriteTagsExt for T {}

/// Issues temporary tags.
pub trait TempTags: Send + Sync {
    /// Keeps a blob alive from this moment on, whether it is there yet or not.
    fn temp_tag(&self, content: HashAndFormat) -> TempTag;

    /// Everything that is held by a temporary tag at this moment, each once, in order.
    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static>;
}

/// Deletes by force.
pub trait Delete: Send + Sync {
    /// Removes blobs, complete or partial, whatever tags and temporary tags say; missing ones are fine.
    ///
    /// Each blob goes in one step, durable when the call returns. Readers that are open go on or fail clearly; a file of the user's that
    /// a blob refers to is never touched. Collection, which deletes only what nothing reaches, does not use this.
    fn delete(&self, hashes: Vec<Hash>) -> impl Future<Output = Result<()>> + Send;
}

/// Ends a store's work in good order.
pub trait Lifecycle: Send + Sync {
    /// Makes everything that was acknowledged before the call durable, partial blobs included.
    fn sync(&self) -> impl Future<Output = Result<()>> + Send;

    /// Does what [`sync`](Self::sync) does and closes the store; every later call fails with
    /// [`Error::Closed`](crate::Error::Closed), a second shutdown succeeds. Afterwards the store can be opened again at
    /// once, in this process too.
    fn shutdown(&self) -> impl Future<Output = Result<()>> + Send;
}
