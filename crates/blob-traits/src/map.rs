//! Looking blobs up and writing partial ones.

use std::future::Future;

use bao_tree::ChunkRanges;

use crate::{EntryStatus, Hash, MapEntry, MapEntryMut, Result};

/// Looks blobs up by their hash.
pub trait Map: Clone + Send + Sync + 'static {
    /// The handle to a blob.
    type Entry: MapEntry;

    /// Returns a handle to a complete or partial blob, or `None`. Cheap; opens nothing.
    fn get(&self, hash: &Hash) -> impl Future<Output = Result<Option<Self::Entry>>> + Send;
}

/// Tells what is recorded of a blob, without opening or verifying anything.
pub trait BlobStatus: Send + Sync {
    /// Tells whether a blob is complete, partial or absent.
    fn entry_status(&self, hash: &Hash) -> impl Future<Output = Result<EntryStatus>> + Send;

    /// The same for synchronous code. May block for a look-up in the index; safe to call inside a runtime.
    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus>;

    /// Returns the chunks that are present by the recorded state, all of them for a complete blob, or `None` for an
    /// absent one. What a resumed download starts from.
    fn present_ranges(&self, hash: &Hash) -> impl Future<Output = Result<Option<ChunkRanges>>> + Send;

    /// Tells whether a blob is partial because it was [demoted](crate::Demote), and not because it is still on its way.
    /// As long as that is so, a hash sequence may list blobs that nobody can name any more: collection keeps off.
    ///
    /// A backend that cannot demote returns `false`.
    fn was_demoted(&self, hash: &Hash) -> impl Future<Output = Result<bool>> + Send;
}

/// Writes partial blobs and promotes them.
pub trait MapMut: Map {
    /// The handle through which a blob can be written.
    type EntryMut: MapEntryMut;

    /// Returns a handle to a complete or partial blob, or `None`.
    fn get_mut(&self, hash: &Hash) -> impl Future<Output = Result<Option<Self::EntryMut>>> + Send;

    /// Returns the existing entry of a blob, or begins a partial one with `size` as its claim.
    ///
    /// A complete blob stays complete, whatever `size` says. A partial blob whose size is unverified takes the new
    /// claim: valid leaves that both sizes share stay, others leave the valid ranges, and writers under the old claim
    /// get a conflict. Reserves no memory and no disk from the claim.
    ///
    /// # Errors
    /// [`Error::SizeConflict`](crate::Error::SizeConflict) when the size is verified and another one,
    /// [`Error::TooLarge`](crate::Error::TooLarge) when it is over the store's limit.
    fn get_or_create(&self, hash: Hash, size: u64) -> impl Future<Output = Result<Self::EntryMut>> + Send;

    /// Promotes a partial blob whose bytes are all present to a complete one, atomically and durably. Idempotent.
    ///
    /// It checks presence and the last chunk; it does not hash again.
    ///
    /// # Errors
    /// [`Error::Incomplete`](crate::Error::Incomplete) when chunks are missing,
    /// [`Error::SizeUnverified`](crate::Error::SizeUnverified) when the last chunk never came,
    /// [`Error::NotFound`](crate::Error::NotFound) when the blob was deleted meanwhile.
    fn insert_complete(&self, entry: Self::EntryMut) -> impl Future<Output = Result<()>> + Send;
}
