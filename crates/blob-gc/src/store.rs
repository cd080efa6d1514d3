//! What collection needs of a store.

use blob_traits::{BlobStatus, ListBlobs, Map, ReadTags, Sweep, TempTags};

/// A store whose reachable blobs can be told from the others. Implemented by whatever has the capabilities.
pub trait MarkStore: Map + BlobStatus + ListBlobs + ReadTags + TempTags {}

impl<T: Map + BlobStatus + ListBlobs + ReadTags + TempTags> MarkStore for T {}

/// A store that can be collected. Implemented by whatever has the capabilities.
pub trait GcStore: MarkStore + Sweep {}

impl<T: MarkStore + Sweep> GcStore for T {}
