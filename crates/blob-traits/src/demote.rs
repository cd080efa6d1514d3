//! Taking back that something is there.

use std::future::Future;

use bao_tree::{ChunkRanges, io::Parent};

use crate::{MapMut, Result};

/// Takes back that a blob is complete, or that ranges of a partial one are present, where they turned out to be damaged.
///
/// All of repair rests on this: what is left is a partial blob, which is filled up and completed like any other. Nothing
/// else makes a complete blob partial.
pub trait Demote: MapMut {
    /// Makes the blob of an entry partial, and the chunks of [`Damage::lost`] absent. All others that were present stay
    /// so: for a complete blob those are all.
    ///
    /// Atomic and durable. The blob keeps its size, verified where it was. It is on record that it was
    /// [demoted](crate::BlobStatus::was_demoted), until it is complete again. Open readers go on, but for what is lost. A
    /// backend with files puts aside the lost bytes that it does not keep in place. A file of a user's that the store refers to
    /// is never touched; what is sound in it is copied.
    ///
    /// Returns `None`, and has changed nothing, where the blob is no longer what the entry shows: it was deleted, imported
    /// anew, or completed meanwhile.
    ///
    /// Dropping the future leaves the blob as it was, or demoted.
    ///
    /// # Errors
    /// [`Error::ForeignEntry`](crate::Error::ForeignEntry), and those of the system; nothing has changed then.
    fn demote(
        &self,
        entry: Self::Entry,
        damage: Damage,
    ) -> impl Future<Output = Result<Option<Self::EntryMut>>> + Send;
}

/// What is wrong with a blob.
#[derive(Debug, Default)]
pub struct Damage {
    /// Chunks that are not there, or are not what the root says.
    pub lost: ChunkRanges,
    /// The parents that are stored wrongly or not at all, as they should be, in pre-order: all that stand above a chunk
    /// which is not lost. The caller has proved them.
    pub mended: Vec<Parent>,
}
