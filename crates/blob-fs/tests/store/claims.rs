//! Size claims that are wrong, and what becomes of them.

use bao_tree::{
    ChunkRanges,
    io::{BaoContentItem, Leaf, fsm::Outboard},
};
use blob_traits::{BaoBlobSize, EntryStatus, Error, Hash, MapEntryMut, prelude::*};
use bytes::Bytes;
use proptest::prelude::*;

use crate::{
    home::{Home, SETUPS, Setup, has_extension, open},
    sample::{Sample, chunks, error_of, present, status, write},
};

/// The first chunk group of this blob decodes under all of them (bao-tree 0.17).
const LIES: [u64; 4] = [99_080, 99_082, 81_920, 131_072];

#[tokio::test]
async fn first_lie_does_not_block_the_truth() {
    let sample = Sample::new(99_081);
    for setup in SETUPS {
        for (i, lie) in LIES.into_iter().enumerate() {
            let (home, mut store) = open(setup).await;
            write(&store, sample.hash, lie, sample.items_as(lie, &chunks(0..16))).await.unwrap();
            assert_eq!(present(&store, sample.hash).await, chunks(0..16));
            if i % 2 == 0 {
                store = home.reopen(store).await;
            }
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            assert_eq!(entry.size(), BaoBlobSize::Unverified(99_081));
            // what came under the lie was true, and stays
            assert_eq!(present(&store, sample.hash).await, chunks(0..16));
            assert_eq!(store.read_range(sample.hash, 0..16_384).await.unwrap(), sample.data[..16_384]);
            write(&store, sample.hash, sample.size(), sample.items(&chunks(16..97))).await.unwrap();
            store.insert_complete(entry).await.unwrap();
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        }
    }
}

#[tokio::test]
async fn latest_claim_is_remembered() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        let sample = Sample::new(99_081);
        write(&store, sample.hash, sample.size(), sample.items(&chunks(0..32))).await.unwrap();
        for lie in LIES {
            store.get_or_create(sample.hash, lie).await.unwrap();
            store = home.reopen(store).await;
            let entry = store.existing(sample.hash).await.unwrap();
            assert_eq!(entry.size(), BaoBlobSize::Unverified(lie));
            assert_eq!(present(&store, sample.hash).await, chunks(0..32));
        }
    }
}

#[tokio::test]
async fn writer_under_an_old_claim_gets_a_conflict_and_changes_nothing() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(99_081);
        let entry = store.get_or_create(sample.hash, 81_920).await.unwrap();
        let mut stale = entry.batch_writer().await.unwrap();
        store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let error = error_of(stale.write_batch(81_920, sample.items_as(81_920, &chunks(0..16))).await);
        assert!(matches!(error, Error::SizeConflict { claimed: 81_920, current: 99_081, .. }));
        assert!(present(&store, sample.hash).await.is_empty());
        // the same writer may go on under the new claim
        stale.write_batch(99_081, sample.items(&chunks(0..16))).await.unwrap();
        assert_eq!(present(&store, sample.hash).await, chunks(0..16));
    }
}

#[tokio::test]
async fn verified_size_takes_no_other_claim_also_after_reopening() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        let sample = Sample::new(99_081);
        write(&store, sample.hash, sample.size(), sample.items(&chunks(96..97))).await.unwrap();
        for _ in 0..2 {
            for claim in [0, 99_080, 99_082, 1 << 40] {
                let error = store.get_or_create(sample.hash, claim).await.unwrap_err();
                assert!(
                    matches!(error, Error::SizeConflict { claimed, current: 99_081, .. } if claimed == claim)
                );
            }
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            assert_eq!(entry.size(), BaoBlobSize::Verified(99_081));
            store = home.reopen(store).await;
        }
    }
}

/// Old bytes that the new claim has no use for must not pass for written ones when the right ones come.
#[tokio::test]
async fn bytes_behind_what_a_claim_keeps_are_forgotten() {
    for setup in SETUPS {
        for synced in [false, true] {
            let (_home, store) = open(setup).await;
            let sample = Sample::new(18 * 1024 + 500);
            let leaf = |offset, data| BaoContentItem::Leaf(Leaf { offset, data });
            let wrong = leaf(16 * 1024, Bytes::from(vec![0xaa; 3 * 1024]));
            write(&store, sample.hash, 20 * 1024, vec![wrong]).await.unwrap();
            if synced {
                store.sync().await.unwrap();
            }
            let parents = sample.all_items().into_iter().filter(BaoContentItem::is_parent);
            let last = leaf(18 * 1024, sample.data.slice(18 * 1024..));
            write(&store, sample.hash, sample.size(), parents.chain([last]).collect()).await.unwrap();
            let range = 18 * 1024..u64::MAX;
            assert_eq!(store.read_range(sample.hash, range).await.unwrap(), sample.data[18 * 1024..]);
        }
    }
}

/// Both files are exactly as long as the truth in the end.
#[tokio::test]
async fn larger_lie_is_cut_off_when_the_truth_is_complete() {
    for setup in [Setup::NothingInlined, Setup::Tiny] {
        let (home, store) = open(setup).await;
        let sample = Sample::new(99_081);
        let wrong = Leaf { offset: 500 << 10, data: Bytes::from(vec![0xaa; 1 << 20]) };
        write(&store, sample.hash, 8 << 20, vec![wrong.into()]).await.unwrap();
        store.sync().await.unwrap();
        write(&store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
        store.insert_complete(store.existing(sample.hash).await.unwrap()).await.unwrap();
        let store = home.reopen(store).await;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        let outboard_len = sample.outboard.data.len() as u64;
        for (name, len) in home.files() {
            assert!(!has_extension(&name, "data") || len == 99_081, "{name} {len}");
            assert!(!has_extension(&name, "obao4") || len == outboard_len, "{name} {len}");
        }
    }
}

#[tokio::test]
async fn parents_of_a_tree_of_another_height_are_forgotten() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        let sample = Sample::new(40_000);
        write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
        store = home.reopen(store).await;
        let entry = store.get_or_create(sample.hash, 80_000).await.unwrap();
        let mut outboard = entry.outboard().await.unwrap();
        let zeros = ([0; 32].into(), [0; 32].into());
        for node in outboard.tree().pre_order_nodes_iter() {
            assert!(outboard.load(node).await.unwrap().is_none_or(|pair| pair == zeros));
        }
    }
}

#[tokio::test]
async fn lie_about_an_empty_blob_never_becomes_complete() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let hash = Hash::new(b"not empty");
        let entry = store.get_or_create(hash, 0).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        let empty = || Sample::new(0).all_items();
        assert!(matches!(error_of(writer.write_batch(0, empty()).await), Error::Mismatch { .. }));
        assert!(matches!(store.insert_complete(entry.clone()).await, Err(Error::SizeUnverified { .. })));
        drop((writer, entry));
        let store = home.reopen(store).await;
        assert_eq!(status(&store, hash), EntryStatus::Partial);
        let entry = store.get_or_create(hash, 0).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        assert!(matches!(error_of(writer.write_batch(0, empty()).await), Error::Mismatch { .. }));
        assert!(matches!(store.insert_complete(entry.clone()).await, Err(Error::SizeUnverified { .. })));
    }
}

#[tokio::test]
async fn huge_claim_takes_little_room_on_disk() {
    use std::os::unix::fs::MetadataExt;
    let home = Home::with(|options| options.partial_memory_max = 0);
    let store = home.open().await;
    let (hash, claim) = (Hash::new(b"huge"), 1 << 40);
    let leaf = |offset| Leaf { offset, data: Bytes::from(vec![0xaa; 16 << 10]) }.into();
    let mut items: Vec<BaoContentItem> = vec![leaf(0), leaf(1 << 39), leaf((1 << 40) - (16 << 10))];
    let node = |number: u64| serde_json::from_str(&number.to_string()).unwrap();
    let pair = ([1; 32].into(), [2; 32].into());
    items.push(bao_tree::io::Parent { node: node((1 << 29) - 1), pair }.into());
    write(&store, hash, claim, items).await.unwrap();
    store.sync().await.unwrap();
    let used = |home: &Home| -> u64 {
        let partial = home.files().into_keys().filter(|name| name.starts_with("partial/"));
        partial.map(|name| home.inside(&name).metadata().unwrap().blocks() * 512).sum()
    };
    assert!(used(&home) < 1 << 20, "{}", used(&home));
    let store = home.reopen(store).await;
    let mut reader = store.existing(hash).await.unwrap().data_reader().await.unwrap();
    assert!(matches!(error_of(reader.read_range(0, usize::MAX).await), Error::Incomplete { .. }));
    assert!(used(&home) < 1 << 20);
    for i in 0..300_u32 {
        store.get_or_create(Hash::new(i.to_le_bytes()), claim).await.unwrap();
    }
    assert!(used(&home) < 1 << 20);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// True ranges under the true size and under lies, mixed: nothing wrong is ever read, and the truth completes.
    #[test]
    fn any_mix_of_claims_ends_in_the_truth(
        size in 1..140_000_usize,
        setup in prop::sample::select(SETUPS.to_vec()),
        steps in prop::collection::vec((prop_oneof![1..200_000_u64, Just(0)], 0..140_u64, 1..40_u64, 0..4_u8), 0..8),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let sample = Sample::new(size);
            let (home, mut store) = open(setup).await;
            for (claim, start, len, how) in steps {
                let claim = if claim == 0 { sample.size() } else { claim };
                let Ok(entry) = store.get_or_create(sample.hash, claim).await else { continue };
                let items = sample.items_as(claim, &chunks(start..start + len));
                entry.batch_writer().await.unwrap().write_batch(claim, items).await.unwrap();
                let mut reader = entry.data_reader().await.unwrap();
                for range in present(&store, sample.hash).await.boundaries().chunks(2) {
                    let range = range[0].0..range[1].0;
                    let n_bytes = usize::try_from((range.end - range.start) * 1024).unwrap();
                    let bytes = reader.read_range(range.start * 1024, n_bytes).await.unwrap();
                    prop_assert_eq!(&bytes, &sample.bytes_of(range)[..bytes.len()]);
                }
                let true_size = entry.size().value() == sample.size();
                prop_assert!(!entry.size().is_verified() || true_size);
                if how == 0 {
                    store = home.reopen(store).await;
                }
            }
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            let items = sample.items(&ChunkRanges::all());
            entry.batch_writer().await.unwrap().write_batch(sample.size(), items).await.unwrap();
            store.insert_complete(entry).await.unwrap();
            prop_assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            Ok(())
        })?;
    }
}
