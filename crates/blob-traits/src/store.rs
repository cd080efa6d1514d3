//! The whole of a store, as aliases over its capabilities.

use std::fmt::Debug;

use crate::{
    BlobStatus, ConsistencyCheck, Delete, Demote, Export, ExportExt, Import, ImportExt, Lifecycle, ListBlobs,
    Map, MapExt, MapMut, MapMutExt, ReadTags, ReadTagsExt, ScanBlobs, Sweep, TempTags, WriteTags,
    WriteTagsExt,
};

/// A store that can be read. Implemented by whatever has the capabilities.
pub trait ReadableStore:
    Map
    + MapExt
    + BlobStatus
    + ListBlobs
    + ReadTags
    + ReadTagsExt
    + TempTags
    + Export
    + ExportExt
    + ConsistencyCheck
{
}

impl<T: Map + BlobStatus + ListBlobs + ReadTags + TempTags + Export + ConsistencyCheck> ReadableStore for T {}

/// A store that can be read and written. Implemented by whatever has the capabilities; generic code needs this
/// import alone.
pub trait Store:
    ReadableStore
    + MapMut
    + MapMutExt
    + Import
    + ImportExt
    + WriteTags
    + WriteTagsExt
    + Delete
    + Lifecycle
    + Debug
{
}

impl<T: ReadableStore + MapMut + Import + WriteTags + Delete + Lifecycle + Debug> Store for T {}

/// A store with every capability: it can be collected, validated and repaired as well. Implemented by whatever has them.
pub trait FullStore: Store + Sweep + ScanBlobs + Demote {}

impl<T: Store + Sweep + ScanBlobs + Demote> FullStore for T {}
