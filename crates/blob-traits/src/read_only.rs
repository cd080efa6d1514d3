//! A store that cannot be written any more.

use std::{io, path::PathBuf};

use bao_tree::ChunkRanges;

use crate::{
    BaoBlobSize, BlobStatus, BoxStream, CheckMode, ConsistencyCheck, ConsistencyCheckProgress, EntryStatus,
    Export, ExportMode, ExportOptions, ExportProgress, Hash, HashAndFormat, ListBlobs, Map, MapEntry,
    Progress, ReadTags, Result, Scan, ScanBlobs, ScanOf, Tag, TagRange, TempTag, TempTags,
};

/// Takes from a store all that writes: a [`ReadableStore`](crate::ReadableStore), and no more.
///
/// For handing a store to code that is to read it alone, and an example of a store over another one: a capability
/// that is left out is missing at compile time. What others do to the store inside shows here at once.
///
/// Every call goes to the store inside as it is, with two exceptions: exports with [`ExportMode::TryReference`] would move
/// blobs out of the store, so that they copy instead, and a consistency check reports what it would repair. Temporary tags are allowed, as they keep alive what is being
/// read.
///
/// # Example
///
/// ```
/// use blob_traits::{Hash, ReadOnly, Result, prelude::*};
///
/// async fn first_kib(store: impl Store, hash: Hash) -> Result<bytes::Bytes> {
///     let readable = ReadOnly::new(store);
///     readable.read_range(hash, 0..1024).await
/// }
/// ```
///
/// This does not compile:
///
/// ```compile_fail,E0599
/// use blob_traits::{Hash, ReadOnly, Result, prelude::*};
///
/// async fn remove(store: impl Store, hash: Hash) -> Result<()> {
///     let readable = ReadOnly::new(store);
///     readable.delete(vec![hash]).await
/// }
/// ```
#[derive(Clone, Debug)]
pub struct ReadOnly<S>(S);

impl<S> ReadOnly<S> {
    /// Wraps a store.
    pub fn new(store: S) -> Self {
        Self(store)
    }
}

/// The handle to a blob in a [`ReadOnly`] store, through which it cannot be written, even if that of the store inside
/// can do both.
#[derive(Clone, Debug)]
pub struct ReadOnlyEntry<E>(E);

impl<S: Map> Map for ReadOnly<S> {
    type Entry = ReadOnlyEntry<S::Entry>;

    async fn get(&self, hash: &Hash) -> Result<Option<Self::Entry>> {
        Ok(self.0.get(hash).await?.map(ReadOnlyEntry))
    }
}

impl<E: MapEntry> MapEntry for ReadOnlyEntry<E> {
    type DataReader = E::DataReader;
    type Outboard = E::Outboard;

    fn hash(&self) -> Hash {
        self.0.hash()
    }

    fn size(&self) -> BaoBlobSize {
        self.0.size()
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    async fn outboard(&self) -> io::Result<E::Outboard> {
        self.0.outboard().await
    }

    async fn data_reader(&self) -> io::Result<E::DataReader> {
        self.0.data_reader().await
    }
}

impl<S: BlobStatus> BlobStatus for ReadOnly<S> {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        self.0.entry_status(hash).await
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        self.0.entry_status_sync(hash)
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        self.0.present_ranges(hash).await
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        self.0.was_demoted(hash).await
    }
}

impl<S: ScanBlobs> ScanBlobs for ReadOnly<S> {
    async fn scan(&self, which: ScanOf) -> Result<Scan<Self::Entry>> {
        Ok(self.0.scan(which).await?.map(ReadOnlyEntry))
    }
}

impl<S: ConsistencyCheck> ConsistencyCheck for ReadOnly<S> {
    async fn consistency_check(
        &self,
        _: CheckMode,
        progress: Progress<ConsistencyCheckProgress>,
    ) -> Result<()> {
        self.0.consistency_check(CheckMode::Report, progress).await
    }
}

impl<S: ListBlobs> ListBlobs for ReadOnly<S> {
    async fn blobs(&self) -> Result<BoxStream<Hash>> {
        self.0.blobs().await
    }

    async fn partial_blobs(&self) -> Result<BoxStream<Hash>> {
        self.0.partial_blobs().await
    }
}

impl<S: ReadTags> ReadTags for ReadOnly<S> {
    async fn tags(&self, range: impl Into<TagRange> + Send) -> Result<BoxStream<(Tag, HashAndFormat)>> {
        self.0.tags(range).await
    }
}

impl<S: TempTags> TempTags for ReadOnly<S> {
    fn temp_tag(&self, content: HashAndFormat) -> TempTag {
        self.0.temp_tag(content)
    }

    fn temp_tags(&self) -> Box<dyn Iterator<Item = HashAndFormat> + Send + Sync + 'static> {
        self.0.temp_tags()
    }
}

impl<S: Export> Export for ReadOnly<S> {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        let options = ExportOptions { mode: ExportMode::Copy, ..options.into() };
        self.0.export(hash, target, options, progress).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::ExistingTarget;

    /// Takes note of the options of exports.
    #[derive(Default)]
    struct Noted(Mutex<Vec<ExportOptions>>);

    impl Export for &Noted {
        async fn export(
            &self,
            _: Hash,
            _: PathBuf,
            options: impl Into<ExportOptions> + Send,
            _: Progress<ExportProgress>,
        ) -> Result<()> {
            self.0.lock().unwrap().push(options.into());
            Ok(())
        }
    }

    #[tokio::test]
    async fn export_copies_instead_of_moving_out() {
        let noted = Noted::default();
        let store = ReadOnly::new(&noted);
        let asked = ExportOptions { mode: ExportMode::TryReference, existing: ExistingTarget::Replace };
        store.export(Hash::EMPTY, "/x".into(), asked, Progress::none()).await.unwrap();
        let copied = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };
        assert_eq!(*noted.0.lock().unwrap(), [copied]);
    }
}
