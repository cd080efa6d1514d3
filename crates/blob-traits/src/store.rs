//! The whole of a store, as aliases over its capabilities.

use std::fmt::Debug;

use crate::{
    BlobStatus, Delete, Export, ExportExt, Import, ImportExt, Lifecycle, ListBlobs, Map, MapExt, MapMut,
    MapMutExt, ReadTags, ReadTagsExt, TempTags, WriteTags, WriteTagsExt,
};

/// A store that can be read. Implemented by whatever has the capabilities.
pub trait ReadableStore:
    Map + MapExt + BlobStatus + ListBlobs + ReadTags + ReadTagsExt + TempTags + Export + ExportExt
{
}

impl<T: Map + BlobStatus + ListBlobs + ReadTags + TempTags + Export> ReadableStore for T {}

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
