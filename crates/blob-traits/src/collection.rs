//! Names for the blobs in a hash sequence.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    BlobFormat, Error, Hash, HashSeq, HashSeqError, Import, ImportExt, Map, MapEntry, MapExt, ReadBlob,
    Result, TempTag,
};

/// How large a metadata blob [`Collection::load`] reads.
const MAX_METADATA_BYTES: u64 = 64 << 20;
/// The length of one record of a hash sequence.
const RECORD_BYTES: u64 = 32;

/// Blobs with names, in order: what a hash sequence is whose first blob holds the names of the others.
///
/// Any string may be a name, twice too. What can be written as files is for
/// [`check_export_names`](crate::check_export_names) to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    blobs: Vec<(String, Hash)>,
}

/// Says why two blobs are no collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CollectionError {
    /// The length of the root is not that of a hash sequence.
    #[error(transparent)]
    HashSeq(#[from] HashSeqError),
    /// The hash sequence is empty, where the first hash would name the metadata blob.
    #[error("the hash sequence of a collection is empty")]
    NoMetadata,
    /// The metadata blob does not begin with [`Collection::HEADER`].
    #[error("the first blob of the hash sequence has no collection header")]
    Header,
    /// There are not as many names as blobs.
    #[error("a collection has {n_names} names for {n_blobs} blobs")]
    Count {
        /// How many names the metadata blob says it has.
        n_names: u64,
        /// How many blobs the hash sequence names, without the metadata blob.
        n_blobs: u64,
    },
    /// The metadata blob ends early, or a name is not UTF-8.
    #[error("the metadata of a collection is cut off or malformed")]
    Malformed,
    /// Something follows the last name.
    #[error("the metadata of a collection is followed by {0} bytes")]
    TrailingBytes(usize),
    /// The metadata blob is larger than the caller wants to read.
    #[error("the metadata of a collection has {size} bytes, more than {limit}")]
    MetadataTooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Collection {
    /// What the metadata blob begins with.
    pub const HEADER: &'static [u8; 13] = b"CollectionV0.";

    /// Iterates over names and hashes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &(String, Hash)> {
        self.blobs.iter()
    }

    /// Returns the number of blobs, without the metadata blob.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Returns whether there is no blob.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }

    /// Adds a blob at the end.
    pub fn push(&mut self, name: String, hash: Hash) {
        self.blobs.push((name, hash));
    }

    /// Writes the collection as two blobs: the metadata, then the hash sequence, whose hash names the collection.
    pub fn to_blobs(&self) -> [Bytes; 2] {
        let names: Vec<&str> = self.blobs.iter().map(|(name, _)| name.as_str()).collect();
        let metadata: Bytes = postcard::to_stdvec(&(Self::HEADER, names))
            .expect("writing plain data to memory cannot fail")
            .into();
        let hashes = std::iter::once(Hash::new(&metadata)).chain(self.blobs.iter().map(|(_, hash)| *hash));
        [metadata, hashes.collect::<HashSeq>().into_inner()]
    }

    /// Reads a collection from its hash sequence and its metadata blob.
    ///
    /// Total. What is allocated is at most a small multiple of what is passed in.
    pub fn parse(hash_seq: &HashSeq, metadata: &[u8]) -> Result<Self, CollectionError> {
        let n_blobs = hash_seq.len().checked_sub(1).ok_or(CollectionError::NoMetadata)?;
        let (n_names, mut rest) = parse_header(metadata)?;
        check_count(n_names, n_blobs as u64)?;
        let mut blobs = Vec::with_capacity(n_blobs);
        for hash in hash_seq.iter().skip(1) {
            let (name, left) =
                postcard::take_from_bytes::<&str>(rest).map_err(|_| CollectionError::Malformed)?;
            blobs.push((name.to_owned(), hash));
            rest = left;
        }
        if rest.is_empty() { Ok(Self { blobs }) } else { Err(CollectionError::TrailingBytes(rest.len())) }
    }

    /// Stores the two blobs of the collection, not those that it names. Returns what keeps the collection and
    /// everything that it names alive.
    ///
    /// # Errors
    /// Those of [`Import::import`].
    pub async fn store(&self, store: &impl Import) -> Result<TempTag> {
        let [metadata, root] = self.to_blobs();
        let _metadata_tag = store.import_bytes(metadata, BlobFormat::Raw).await?;
        store.import_bytes(root, BlobFormat::HashSeq).await
    }

    /// Loads a collection whose metadata blob has at most 64 MiB.
    ///
    /// # Errors
    /// Those of [`load_with_limit`](Self::load_with_limit).
    pub async fn load(hash: Hash, store: &impl Map) -> Result<Self> {
        Self::load_with_limit(hash, store, MAX_METADATA_BYTES).await
    }

    /// Loads a collection whose metadata blob has at most `max_metadata_bytes`, which bounds the names and thereby
    /// all that is read.
    ///
    /// # Errors
    /// [`Error::NotFound`] and [`Error::Incomplete`] when one of its two blobs is absent or partial,
    /// [`Error::NotACollection`] when they do not fit together or are over the limit.
    pub async fn load_with_limit(hash: Hash, store: &impl Map, max_metadata_bytes: u64) -> Result<Self> {
        let refuse = |error: CollectionError| Error::NotACollection { hash, reason: error.to_string() };
        let root = store.existing(hash).await?;
        let len_bytes = root.size().value();
        if !len_bytes.is_multiple_of(RECORD_BYTES) {
            return Err(refuse(HashSeqError { len_bytes }.into()));
        }
        let mut root = root.data_reader().await?;
        let first = HashSeq::try_from(root.read_range(0, to_len(RECORD_BYTES)).await?);
        let first = first.map_err(|error| refuse(error.into()))?.get(0);
        let metadata = store.existing(first.ok_or_else(|| refuse(CollectionError::NoMetadata))?).await?;
        let size = metadata.size().value();
        if size > max_metadata_bytes {
            return Err(refuse(CollectionError::MetadataTooLarge { size, limit: max_metadata_bytes }));
        }
        let metadata = metadata.data_reader().await?.read_range(0, to_len(size)).await?;
        // each name takes a byte at least, so that this bounds the root
        let (n_names, _) = parse_header(&metadata).map_err(refuse)?;
        check_count(n_names, len_bytes / RECORD_BYTES - 1).map_err(refuse)?;
        let root = HashSeq::try_from(root.read_range(0, to_len(len_bytes)).await?);
        let root = root.map_err(|error| refuse(error.into()))?;
        Self::parse(&root, &metadata).map_err(refuse)
    }
}

/// What is too long for memory is read as far as memory goes.
fn to_len(size: u64) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Reads the beginning of a metadata blob: how many names it says it has, and where they begin.
fn parse_header(metadata: &[u8]) -> Result<(u64, &[u8]), CollectionError> {
    let (header, rest) = take::<[u8; 13]>(metadata).map_err(|_| CollectionError::Header)?;
    if header == *Collection::HEADER { take(rest) } else { Err(CollectionError::Header) }
}

fn take<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), CollectionError> {
    postcard::take_from_bytes(bytes).map_err(|_| CollectionError::Malformed)
}

fn check_count(n_names: u64, n_blobs: u64) -> Result<(), CollectionError> {
    if n_names == n_blobs { Ok(()) } else { Err(CollectionError::Count { n_names, n_blobs }) }
}

impl<K: Into<String>, V: Into<Hash>> Extend<(K, V)> for Collection {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, blobs: I) {
        self.blobs.extend(blobs.into_iter().map(|(name, hash)| (name.into(), hash.into())));
    }
}

impl<K: Into<String>, V: Into<Hash>> FromIterator<(K, V)> for Collection {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(blobs: I) -> Self {
        let mut collection = Self::default();
        collection.extend(blobs);
        collection
    }
}

impl IntoIterator for Collection {
    type Item = (String, Hash);
    type IntoIter = std::vec::IntoIter<(String, Hash)>;

    fn into_iter(self) -> Self::IntoIter {
        self.blobs.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Collection {
        [("a", [1; 32]), ("bc", [2; 32])].into_iter().collect()
    }

    fn hash_seq(n_hashes: usize) -> HashSeq {
        (0..n_hashes).map(|i| Hash::new(i.to_le_bytes())).collect()
    }

    fn parse(n_hashes: usize, metadata: &[u8]) -> Result<Collection, CollectionError> {
        Collection::parse(&hash_seq(n_hashes), metadata)
    }

    #[test]
    fn known_bytes() {
        let [metadata, root] = sample().to_blobs();
        assert_eq!(&metadata[..], b"CollectionV0.\x02\x01a\x02bc");
        assert_eq!(root, [*Hash::new(&metadata).as_bytes(), [1; 32], [2; 32]].concat());
        let [metadata, root] = Collection::default().to_blobs();
        assert_eq!(&metadata[..], b"CollectionV0.\x00");
        assert_eq!(&root[..], Hash::new(&metadata).as_bytes());
    }

    #[test]
    fn what_is_no_collection_is_told_apart() {
        assert_eq!(parse(0, b"CollectionV0.\x00"), Err(CollectionError::NoMetadata));
        for metadata in [&b""[..], b"CollectionV0", b"CollectionV1.\x00", b"collectionV0.\x00"] {
            assert_eq!(parse(1, metadata), Err(CollectionError::Header));
        }
        for metadata in
            [&b"CollectionV0."[..], b"CollectionV0.\x80", b"CollectionV0.\x01", b"CollectionV0.\x01\x02a"]
        {
            assert_eq!(parse(2, metadata), Err(CollectionError::Malformed));
        }
        assert_eq!(parse(2, b"CollectionV0.\x01\x01\xff"), Err(CollectionError::Malformed));
        assert_eq!(parse(2, b"CollectionV0.\x01\x01ab"), Err(CollectionError::TrailingBytes(1)));
    }

    #[test]
    fn numbers_of_names_and_blobs_must_agree() {
        for (n_hashes, n_names) in [(1, 2), (2, 2), (4, 2), (2, 0)] {
            let metadata = [&Collection::HEADER[..], &[n_names], &[0; 2]].concat();
            let expected = CollectionError::Count { n_names: n_names.into(), n_blobs: n_hashes as u64 - 1 };
            assert_eq!(parse(n_hashes, &metadata), Err(expected));
        }
    }

    #[test]
    fn huge_number_of_names_reserves_nothing() {
        let n = postcard::to_stdvec(&u64::MAX).unwrap();
        let metadata = [&Collection::HEADER[..], &n].concat();
        assert_eq!(parse(2, &metadata), Err(CollectionError::Count { n_names: u64::MAX, n_blobs: 1 }));
    }

    proptest! {
        #[test]
        fn collection_survives(blobs in prop::collection::vec((".{0,20}", any::<[u8; 32]>()), 0..20)) {
            let collection: Collection = blobs.into_iter().collect();
            let [metadata, root] = collection.to_blobs();
            let root = HashSeq::try_from(root).unwrap();
            prop_assert_eq!(root.len(), collection.len() + 1);
            prop_assert_eq!(root.get(0), Some(Hash::new(&metadata)));
            prop_assert_eq!(Collection::parse(&root, &metadata), Ok(collection));
        }

        #[test]
        fn parsing_is_total(n in 0..5_usize, with_header: bool, tail in prop::collection::vec(any::<u8>(), 0..20)) {
            let header = if with_header { &Collection::HEADER[..] } else { &[] };
            let metadata = [header, &tail].concat();
            if let Ok(collection) = parse(n, &metadata) {
                prop_assert_eq!(collection.len() + 1, n);
                // a number may be written with more bytes than it needs, so only the meaning comes back
                let [again, _] = collection.to_blobs();
                prop_assert_eq!(parse(n, &again), Ok(collection));
            }
        }
    }
}
