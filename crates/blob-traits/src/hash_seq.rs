//! Blobs that are sequences of hashes.

use std::{fmt, io};

use bytes::Bytes;
use iroh_io::AsyncSliceReader;

use crate::Hash;

/// The length of one record.
const HASH_BYTES: usize = 32;

/// How many records the stream reads at a time.
const PAGE_HASHES: u64 = 1024;

/// A sequence of hashes, held as the bytes of the blob that it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HashSeq(Bytes);

/// Says that a blob is no hash sequence: its length is not a multiple of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hash sequence has a length that is a multiple of 32, not {len_bytes} bytes")]
pub struct HashSeqError {
    /// The length of the blob.
    pub len_bytes: u64,
}

impl HashSeq {
    /// Iterates over the hashes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Hash> + '_ {
        self.records().iter().copied().map(Hash::from_bytes)
    }

    /// Returns the hash at a position.
    pub fn get(&self, index: usize) -> Option<Hash> {
        self.records().get(index).copied().map(Hash::from_bytes)
    }

    /// Returns the number of hashes.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// Returns whether there is no hash.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the bytes of the blob.
    pub fn into_inner(self) -> Bytes {
        self.0
    }

    fn records(&self) -> &[[u8; HASH_BYTES]] {
        self.0.as_chunks().0
    }
}

impl TryFrom<Bytes> for HashSeq {
    type Error = HashSeqError;

    fn try_from(bytes: Bytes) -> Result<Self, Self::Error> {
        if bytes.len().is_multiple_of(HASH_BYTES) {
            Ok(Self(bytes))
        } else {
            Err(HashSeqError { len_bytes: bytes.len() as u64 })
        }
    }
}

impl FromIterator<Hash> for HashSeq {
    fn from_iter<I: IntoIterator<Item = Hash>>(hashes: I) -> Self {
        let mut bytes = Vec::new();
        for hash in hashes {
            bytes.extend_from_slice(hash.as_bytes());
        }
        Self(bytes.into())
    }
}

impl fmt::Debug for HashSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl IntoIterator for HashSeq {
    type Item = Hash;
    type IntoIter = HashSeqIter;

    fn into_iter(self) -> HashSeqIter {
        HashSeqIter { seq: self, next: 0 }
    }
}

/// Iterates over the hashes of a [`HashSeq`] that it owns.
#[derive(Clone, Debug, Default)]
pub struct HashSeqIter {
    seq: HashSeq,
    next: usize,
}

impl Iterator for HashSeqIter {
    type Item = Hash;

    fn next(&mut self) -> Option<Hash> {
        let hash = self.seq.get(self.next)?;
        self.next += 1;
        Some(hash)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let n_left = self.seq.len() - self.next;
        (n_left, Some(n_left))
    }
}

impl ExactSizeIterator for HashSeqIter {}

/// Reads the hashes of a sequence from a blob, 32 KiB at a time.
#[derive(Debug)]
pub struct HashSeqStream<R> {
    reader: R,
    n_hashes: u64,
    /// How many hashes have been read into pages, `page` included.
    n_read: u64,
    page: HashSeqIter,
}

impl<R: AsyncSliceReader> HashSeqStream<R> {
    /// Returns the next hash, or `None` after the last.
    ///
    /// # Errors
    ///
    /// What the reader says, and [`io::ErrorKind::UnexpectedEof`] when the blob has become shorter meanwhile. The
    /// call may be repeated after an error.
    pub async fn next(&mut self) -> io::Result<Option<Hash>> {
        if let Some(hash) = self.page.next() {
            return Ok(Some(hash));
        }
        let n = PAGE_HASHES.min(self.n_hashes - self.n_read);
        if n == 0 {
            return Ok(None);
        }
        let n_bytes = usize::try_from(n).map_err(io::Error::other)? * HASH_BYTES;
        let bytes = self.reader.read_exact_at(self.n_read * HASH_BYTES as u64, n_bytes).await?;
        self.page = HashSeq::try_from(bytes).map_err(io::Error::other)?.into_iter();
        self.n_read += n;
        Ok(self.page.next())
    }
}

/// Reads a blob as a sequence of hashes. Returns a stream of them and their number.
///
/// Only a page of the blob is held in memory at any time.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] with a [`HashSeqError`] inside when the size is not a multiple of 32; what the
/// reader says.
pub async fn parse_hash_seq<R: AsyncSliceReader>(mut reader: R) -> io::Result<(HashSeqStream<R>, u64)> {
    let len_bytes = reader.size().await?;
    if !len_bytes.is_multiple_of(HASH_BYTES as u64) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, HashSeqError { len_bytes }));
    }
    let n_hashes = len_bytes / HASH_BYTES as u64;
    Ok((HashSeqStream { reader, n_hashes, n_read: 0, page: HashSeqIter::default() }, n_hashes))
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;
    use proptest::prelude::*;

    use super::*;

    fn hashes(n: u64) -> Vec<Hash> {
        (0..n).map(|i| Hash::new(i.to_le_bytes())).collect()
    }

    fn read_all(bytes: Bytes) -> io::Result<Vec<Hash>> {
        block_on(async {
            let (mut stream, count) = parse_hash_seq(bytes).await?;
            let mut hashes = Vec::new();
            while let Some(hash) = stream.next().await? {
                hashes.push(hash);
            }
            assert_eq!(hashes.len() as u64, count);
            assert_eq!(stream.next().await?, None);
            Ok(hashes)
        })
    }

    #[test]
    fn records_are_the_hashes_one_after_another() {
        let seq: HashSeq = [Hash::from_bytes([1; 32]), Hash::from_bytes([2; 32])].into_iter().collect();
        assert_eq!(seq.into_inner(), [[1; 32], [2; 32]].concat());
    }

    #[test]
    fn length_that_is_no_multiple_of_32_is_an_error() {
        for len in [1, 31, 33, 63, 65] {
            let bytes = Bytes::from(vec![0; len]);
            let expected = HashSeqError { len_bytes: len as u64 };
            assert_eq!(HashSeq::try_from(bytes.clone()), Err(expected));
            let error = read_all(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(error.downcast::<HashSeqError>().unwrap(), expected);
        }
    }

    #[test]
    fn stream_yields_all_pages() {
        for n in [0, 1, PAGE_HASHES - 1, PAGE_HASHES, PAGE_HASHES + 1, 3 * PAGE_HASHES + 7] {
            let seq: HashSeq = hashes(n).into_iter().collect();
            assert_eq!(read_all(seq.into_inner()).unwrap(), hashes(n));
        }
    }

    /// A reader that holds no bytes, remembers how much it was asked for and ends early.
    struct Truncated {
        size: u64,
        longest_read: usize,
    }

    impl AsyncSliceReader for Truncated {
        async fn read_at(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
            self.longest_read = self.longest_read.max(len);
            let left = (self.size / 2).saturating_sub(offset);
            Ok(vec![0; len.min(usize::try_from(left).unwrap())].into())
        }

        async fn size(&mut self) -> io::Result<u64> {
            Ok(self.size)
        }
    }

    #[test]
    fn stream_reads_pages_and_notices_an_early_end() {
        block_on(async {
            let reader = Truncated { size: 32 * 5000, longest_read: 0 };
            let (mut stream, count) = parse_hash_seq(reader).await.unwrap();
            assert_eq!(count, 5000);
            let error = loop {
                match stream.next().await {
                    Ok(hash) => assert!(hash.is_some()),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(stream.reader.longest_read, 32 * 1024);
        });
    }

    #[test]
    fn huge_claims_cost_nothing() {
        block_on(async {
            let (_, count) =
                parse_hash_seq(Truncated { size: u64::MAX - 31, longest_read: 0 }).await.unwrap();
            assert_eq!(count, u64::MAX / 32);
        });
    }

    proptest! {
        #[test]
        fn sequence_survives(n in 0..50_u64, index in 0..60_usize) {
            let hashes = hashes(n);
            let seq: HashSeq = hashes.iter().copied().collect();
            prop_assert_eq!(seq.len(), hashes.len());
            prop_assert_eq!(seq.is_empty(), hashes.is_empty());
            prop_assert_eq!(seq.get(index), hashes.get(index).copied());
            prop_assert_eq!(&seq.iter().collect::<Vec<_>>(), &hashes);
            let again = HashSeq::try_from(seq.clone().into_inner()).unwrap();
            prop_assert_eq!(&again, &seq);
            let iter = again.into_iter();
            prop_assert_eq!(iter.len(), hashes.len());
            prop_assert_eq!(iter.collect::<Vec<_>>(), hashes);
        }

        #[test]
        fn parsing_is_total(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let valid = bytes.len() % 32 == 0;
            let seq = HashSeq::try_from(Bytes::from(bytes.clone()));
            prop_assert_eq!(seq.is_ok(), valid);
            prop_assert_eq!(read_all(bytes.into()).ok(), seq.ok().map(|seq| seq.iter().collect::<Vec<_>>()));
        }
    }
}
