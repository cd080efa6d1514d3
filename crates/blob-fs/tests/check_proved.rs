//! A blob of which both files are damaged: what the pairs that are left prove is kept by a check that repairs.

#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::path::PathBuf;

use bao_tree::ChunkRanges;
use blob_traits::{CheckMode, EntryStatus, Progress, prelude::*};
use support::{chunks, copy_dir, files::all_files, hash, import, log::change, open, temp_dir, tiny};

/// Twelve groups and a bit.
const LEN: usize = 200_000;

/// What is done to the data and to the outboard, and the chunks that stay.
type Damage = (fn(&mut Vec<u8>), fn(&mut Vec<u8>), ChunkRanges);

fn cases() -> [Damage; 3] {
    [
        // The left half of the tree is there, and the first pair says what the right one adds up to.
        (|data| data[20_000] ^= 1, |outboard| outboard.truncate(8 * 64), chunks(0..16) | chunks(32..128)),
        (|data| data.truncate(140_000), |outboard| outboard.truncate(8 * 64), chunks(0..128)),
        (|data| data[0] ^= 1, Vec::clear, ChunkRanges::empty()),
    ]
}

#[tokio::test]
async fn what_is_left_of_the_pairs_proves_what_is_left_of_the_bytes() {
    let base = temp_dir();
    let store = open(tiny(base.path())).await;
    let name = import(&store, 1, LEN).await;
    assert_eq!(name, hash(1, LEN));
    store.shutdown().await.unwrap();
    open(tiny(base.path())).await.shutdown().await.unwrap();
    for (damage_data, damage_outboard, expected) in cases() {
        let copy = temp_dir();
        copy_dir(base.path(), copy.path());
        let file = |extension: &str| -> PathBuf {
            let files = all_files(&copy.path().join("data"));
            files.into_iter().find(|path| path.extension().is_some_and(|its| its == extension)).unwrap()
        };
        change(&file("data"), damage_data);
        change(&file("obao4"), damage_outboard);
        let store = open(tiny(copy.path())).await;
        store.consistency_check(CheckMode::Repair, Progress::none()).await.unwrap();
        assert_eq!(store.entry_status(&name).await.unwrap(), EntryStatus::Partial);
        assert_eq!(store.present_ranges(&name).await.unwrap(), Some(expected.clone()));
        let proved = store.verified_ranges(name).await.unwrap();
        assert_eq!(proved, Some(expected));
        store.shutdown().await.unwrap();
    }
}
