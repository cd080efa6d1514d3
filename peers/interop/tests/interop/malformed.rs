//! Damaged streams and blobs: each side refuses what the other would have written whole.

use std::io::ErrorKind;

use blob_traits::{Collection, Error, Hash, bao_tree::ChunkRanges, parse_hash_seq, prelude::*};
use bytes::Bytes;
use iroh_blobs::format::collection::Collection as PeerCollection;

use crate::{
    case::{Case, whole_groups},
    party::{AnyStore, Party, Refused, to_peer},
    sample::{self, Numbers},
};

/// Exports each case with a store of one project, damages the stream, and offers it to the stores of the other.
async fn offer(damage: impl Fn(&Case, Bytes) -> Bytes, check: impl Fn(&Case, &Party, Result<(), Refused>)) {
    let (ours, theirs) = (Party::ours_in_memory(), Party::theirs_in_memory());
    for reader in Party::all().await {
        let writer = if reader.is_ours() { &theirs } else { &ours };
        for case in Case::not_empty() {
            writer.add(case.blob()).await;
            let stream = writer.export(case.hash(), case.size(), case.ranges.clone()).await;
            let bad = damage(&case, stream.clone());
            let taken = reader.import(case.hash(), case.size(), case.ranges.clone(), bad).await;
            check(&case, &reader, taken);
            assert_nothing_wrong(&case, &reader).await;
            // The damage leaves nothing behind that the true stream would not mend.
            reader.import(case.hash(), case.size(), case.ranges.clone(), stream).await.unwrap();
            let whole = whole_groups(case.size, &reader.state(case.hash()).await.ranges);
            let again = reader.export(case.hash(), case.size(), whole.clone()).await;
            let expected = writer.export(case.hash(), case.size(), whole).await;
            assert!(again == expected, "{} has {case:?} wrong", reader.name);
        }
    }
}

/// What is said to be there is true, as far as ours can tell: where the whole group is there.
async fn assert_nothing_wrong(case: &Case, reader: &Party) {
    if !reader.is_ours() {
        return;
    }
    let said = whole_groups(case.size, &reader.state(case.hash()).await.ranges);
    let verified = reader.verified_ranges(case.hash()).await.unwrap_or_else(ChunkRanges::empty);
    assert!(said.is_subset(&verified), "{}: {said:?}, but {verified:?}; {case:?}", reader.name);
}

#[tokio::test]
async fn stream_that_is_cut_off_is_refused() {
    let cut = |case: &Case, mut stream: Bytes| {
        stream.truncate(usize::try_from(Numbers::of_seed(case.seed).below(stream.len() as u64)).unwrap());
        stream
    };
    offer(cut, |case, reader, taken| match taken {
        Err(Refused::ByOurs(Error::Io { source, .. })) => {
            assert_eq!(source.kind(), ErrorKind::UnexpectedEof, "{case:?}");
        }
        Err(Refused::ByTheirs) => {}
        other => panic!("{} and {case:?}: {other:?}", reader.name),
    })
    .await;
}

#[tokio::test]
async fn stream_with_a_flipped_bit_is_refused() {
    let flip = |case: &Case, stream: Bytes| {
        let mut numbers = Numbers::of_seed(case.seed);
        let at = usize::try_from(numbers.below(stream.len() as u64)).unwrap();
        let mut stream = stream.to_vec();
        *stream.get_mut(at).unwrap() ^= 1 << numbers.below(8);
        stream.into()
    };
    offer(flip, |case, reader, taken| match taken {
        Err(Refused::ByOurs(Error::Mismatch { hash, .. })) => assert_eq!(hash, case.hash()),
        Err(Refused::ByTheirs) => {}
        other => panic!("{} and {case:?}: {other:?}", reader.name),
    })
    .await;
}

#[tokio::test]
async fn stream_under_a_wrong_size_is_refused() {
    let writer = Party::theirs_in_memory();
    for reader in Party::all().await {
        for (size, seed) in [1025, 16_384, 16_385, 300_001].into_iter().zip(0..) {
            let blob = sample::bytes(seed, size);
            let hash = writer.add(blob).await;
            let stream = writer.export(hash, size as u64, ChunkRanges::all()).await;
            for wrong in [1, size as u64 - 1, size as u64 + 1, 1 << 40] {
                let taken = reader.import(hash, wrong, ChunkRanges::all(), stream.clone()).await;
                let refused = match &taken {
                    Err(Refused::ByOurs(Error::Mismatch { .. }) | Refused::ByTheirs) => true,
                    // by one byte: the stream ends before its last leaf
                    Err(Refused::ByOurs(Error::Io { source, .. })) => {
                        wrong > size as u64 && source.kind() == ErrorKind::UnexpectedEof
                    }
                    _ => false,
                };
                assert!(refused, "{}: {wrong} for {size}: {taken:?}", reader.name);
            }
        }
    }
}

/// A blob that is no sequence: one byte too many, and nothing at all where a collection has metadata.
#[tokio::test]
async fn collection_without_whole_hashes_is_refused() {
    for party in Party::all().await {
        for len in [0, 31, 33, 1025] {
            let root = party.add(sample::bytes(len as u64, len)).await;
            let refused = match &party.store {
                AnyStore::Mem(store) => is_no_collection(&Collection::load(root, store).await),
                AnyStore::Fs(store) => is_no_collection(&Collection::load(root, store).await),
                AnyStore::Peer(store) => PeerCollection::load(to_peer(root), store).await.is_err(),
            };
            assert!(refused, "{}: {len} bytes", party.name);
        }
    }
}

/// Theirs looks at neither when it loads a collection from a store.
#[tokio::test]
async fn other_header_and_trailing_bytes_are_refused_by_ours_alone() {
    let [metadata, _] = Collection::default().to_blobs();
    let header = [b"CollectionV1.".as_slice(), &[0]].concat();
    for metadata in [[&metadata[..], &[0]].concat(), header] {
        for party in Party::all().await {
            let first = party.add(Bytes::from(metadata.clone())).await;
            let root = party.add(Bytes::copy_from_slice(first.as_bytes())).await;
            match &party.store {
                AnyStore::Mem(store) => assert!(is_no_collection(&Collection::load(root, store).await)),
                AnyStore::Fs(store) => assert!(is_no_collection(&Collection::load(root, store).await)),
                AnyStore::Peer(store) => {
                    assert!(PeerCollection::load(to_peer(root), store).await.unwrap().is_empty());
                }
            }
        }
    }
}

fn is_no_collection(loaded: &blob_traits::Result<Collection>) -> bool {
    matches!(loaded, Err(Error::NotACollection { .. }))
}

#[tokio::test]
async fn sequence_of_theirs_that_is_cut_off_is_not_parsed() {
    let Party { store: AnyStore::Mem(store), .. } = Party::ours_in_memory() else { return };
    let sequence: iroh_blobs::hashseq::HashSeq = (0..50_u8).map(|i| to_peer(Hash::new([i]))).collect();
    let mut bytes = Bytes::from(sequence);
    bytes.truncate(1000);
    let pinned = store.import_bytes(bytes, blob_traits::BlobFormat::HashSeq).await.unwrap();
    let reader = store.existing(pinned.hash()).await.unwrap().data_reader().await.unwrap();
    let error = parse_hash_seq(reader).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}
