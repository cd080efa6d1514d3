//! Partial blobs: all stores agree on what is there, and finish what another began.

use blob_traits::bao_tree::ChunkRanges;

use crate::{
    case::Case,
    party::{Party, State},
};

#[tokio::test]
async fn all_stores_agree_on_what_is_there() {
    let writer = Party::ours_in_memory();
    let readers = Party::all().await;
    for case in Case::not_empty() {
        writer.add(case.blob()).await;
        let stream = writer.export(case.hash(), case.size(), case.ranges.clone()).await;
        let mut first: Option<State> = None;
        for reader in &readers {
            reader.import(case.hash(), case.size(), case.ranges.clone(), stream.clone()).await.unwrap();
            let state = reader.state(case.hash()).await;
            let expected = first.get_or_insert_with(|| state.clone());
            assert_eq!(state, *expected, "{} differs for {case:?}", reader.name);
        }
    }
}

/// Half of the ranges come from one project, the rest from the other.
#[tokio::test]
async fn halves_of_both_projects_make_a_whole() {
    let (ours, theirs) = (Party::ours_in_memory(), Party::theirs_in_memory());
    let readers = Party::all().await;
    for case in Case::all() {
        for writer in [&ours, &theirs] {
            writer.add(case.blob()).await;
        }
        for reader in &readers {
            let (first, second) = if reader.is_ours() { (&theirs, &ours) } else { (&ours, &theirs) };
            for (writer, half) in [(first, case.clone()), (second, case.rest())] {
                let stream = writer.export(half.hash(), half.size(), half.ranges.clone()).await;
                reader.import(half.hash(), half.size(), half.ranges, stream).await.unwrap();
            }
            assert!(reader.is_complete(case.hash()).await, "{} lacks something of {case:?}", reader.name);
            assert!(reader.read(case.hash()).await == case.blob(), "{} reads {case:?}", reader.name);
            let whole = reader.export(case.hash(), case.size(), ChunkRanges::all()).await;
            let expected = ours.export(case.hash(), case.size(), ChunkRanges::all()).await;
            assert!(whole == expected, "{} exports {case:?}", reader.name);
        }
    }
}
