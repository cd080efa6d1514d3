//! What validation and repair need of a store.

use blob_traits::{BlobStatus, Demote, ListBlobs, Map, MapMut, ReadTags, ScanBlobs, TempTags};

/// A store whose blobs can be validated. Implemented by whatever has the capabilities.
pub trait ValidateStore: Map + BlobStatus + ListBlobs + ReadTags + ScanBlobs {}

impl<T: Map + BlobStatus + ListBlobs + ReadTags + ScanBlobs> ValidateStore for T {}

/// A store whose blobs can be repaired. Implemented by whatever has the capabilities.
pub trait RepairStore: ValidateStore + MapMut + Demote + TempTags {}

impl<T: ValidateStore + MapMut + Demote + TempTags> RepairStore for T {}
