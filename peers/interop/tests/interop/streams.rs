//! Verified streams: all stores write the same bytes.

use blob_traits::{
    Error, Hash,
    bao_tree::{ChunkNum, ChunkRanges},
};
use bytes::Bytes;

use crate::{
    case::{Case, whole_groups},
    party::{Party, Refused},
    sample,
};

#[tokio::test]
async fn all_stores_export_the_same_bytes() {
    let parties = Party::all().await;
    for case in Case::all() {
        let mut first: Option<Bytes> = None;
        for party in &parties {
            assert_eq!(party.add(case.blob()).await, case.hash());
            let stream = party.export(case.hash(), case.size(), case.ranges.clone()).await;
            let expected = first.get_or_insert_with(|| stream.clone());
            assert!(stream == *expected, "{} differs for {case:?}", party.name);
        }
    }
}

/// 1 MiB and more: several leaves, and on disk an outboard of its own in every store.
#[tokio::test]
async fn all_stores_export_the_same_bytes_of_large_blobs() {
    let parties = Party::all().await;
    for (size, seed) in [(1 << 20, 1), ((4 << 20) + 777, 2), ((9 << 20) + 1, 3)] {
        let blob = sample::bytes(seed, size);
        let mut streams = Vec::new();
        for party in &parties {
            let hash = party.add(blob.clone()).await;
            streams.push(party.export(hash, size as u64, ChunkRanges::all()).await);
        }
        assert!(streams.windows(2).all(|pair| pair.first() == pair.last()), "size {size}");
    }
}

#[tokio::test]
async fn stream_of_the_empty_blob_is_empty() {
    for party in Party::all().await {
        party.add(Bytes::new()).await;
        assert!(party.export(Hash::EMPTY, 0, ChunkRanges::all()).await.is_empty(), "{}", party.name);
        let other = Party::ours_in_memory();
        other.import(Hash::EMPTY, 0, ChunkRanges::all(), Bytes::new()).await.unwrap();
        assert!(party.is_complete(Hash::EMPTY).await && other.is_complete(Hash::EMPTY).await);
    }
}

#[tokio::test]
async fn each_store_takes_in_the_streams_of_the_other_project() {
    let (ours, theirs) = (Party::ours_in_memory(), Party::theirs_in_memory());
    let readers = Party::all().await;
    for case in Case::not_empty() {
        for writer in [&ours, &theirs] {
            writer.add(case.blob()).await;
        }
        for reader in &readers {
            let writer = if reader.is_ours() { &theirs } else { &ours };
            let stream = writer.export(case.hash(), case.size(), case.ranges.clone()).await;
            let taken = reader.import(case.hash(), case.size(), case.ranges.clone(), stream).await;
            assert!(taken.is_ok(), "{} refuses {case:?}: {taken:?}", reader.name);
            let whole = whole_groups(case.size, &reader.state(case.hash()).await.ranges);
            let again = reader.export(case.hash(), case.size(), whole.clone()).await;
            let expected = writer.export(case.hash(), case.size(), whole).await;
            assert!(again == expected, "{} does not give {case:?} back", reader.name);
        }
    }
}

/// No store keeps what it would take to prove a part of a chunk group without the rest.
#[tokio::test]
async fn no_store_exports_from_a_group_of_which_it_lacks_a_part() {
    let writer = Party::theirs_in_memory();
    let (blob, size) = (sample::bytes(1, 100_007), 100_007);
    let hash = writer.add(blob).await;
    let part = ChunkRanges::from(ChunkNum(20)..ChunkNum(25));
    let stream = writer.export(hash, size, part.clone()).await;
    for reader in Party::all().await {
        reader.import(hash, size, part.clone(), stream.clone()).await.unwrap();
        let refused = reader.try_export(hash, size, part.clone()).await.unwrap_err();
        let expected = if reader.is_ours() {
            matches!(refused, Refused::ByOurs(Error::Incomplete { first_missing: 16_384, .. }))
        } else {
            matches!(refused, Refused::ByTheirs)
        };
        assert!(expected, "{}: {refused:?}", reader.name);
    }
}
