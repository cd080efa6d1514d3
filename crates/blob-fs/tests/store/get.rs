use bao_tree::{
    BaoTree, ChunkRanges,
    io::{fsm::Outboard, outboard::PreOrderMemOutboard, sync},
};
use blob_traits::{
    BLOCK_SIZE, BaoBlobSize, BlobFormat, EntryStatus, Hash, PartialTree, StoredParent, collect, prelude::*,
};
use bytes::Bytes;
use iroh_io::AsyncSliceReader;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::{
    drive::{alone, runtimes},
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, chunks, import, present, status},
};

#[tokio::test]
async fn empty_blob_is_complete_without_insert() {
    let (_home, store) = open(Setup::Default).await;
    assert_eq!(status(&store, Hash::EMPTY), EntryStatus::Complete);
    let entry = store.get(&Hash::EMPTY).await.unwrap().unwrap();
    assert!(entry.is_complete());
    assert_eq!(entry.size(), BaoBlobSize::Verified(0));
    assert_eq!(store.read_to_bytes(Hash::EMPTY).await.unwrap(), Bytes::new());
    assert_eq!(store.read_verified(Hash::EMPTY, 0..u64::MAX).await.unwrap(), Bytes::new());
    assert!(store.get_mut(&Hash::EMPTY).await.unwrap().is_some());
    assert!(store.get_or_create(Hash::EMPTY, 77).await.unwrap().is_complete());
    assert_eq!(present(&store, Hash::EMPTY).await, chunks(0..1));
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn missing_blob_is_none_and_not_an_error() {
    let (_home, store) = open(Setup::Default).await;
    let hash = Hash::new(b"missing");
    assert!(store.get(&hash).await.unwrap().is_none());
    assert!(store.get_mut(&hash).await.unwrap().is_none());
    assert!(store.present_ranges(&hash).await.unwrap().is_none());
    assert!(store.verified_ranges(hash).await.unwrap().is_none());
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::NotFound);
    assert_eq!(status(&store, hash), EntryStatus::NotFound);
}

#[tokio::test]
async fn complete_entry_says_so_also_after_reopening() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        for round in 0..2 {
            for size in setup.sizes() {
                let sample = Sample::new(size);
                if round == 0 {
                    import(&store, &sample).await;
                }
                let entry = store.existing(sample.hash).await.unwrap();
                assert!(entry.is_complete());
                assert_eq!((entry.hash(), entry.size()), (sample.hash, BaoBlobSize::Verified(sample.size())));
                assert_eq!(present(&store, sample.hash).await, PartialTree::all_ranges(sample.size()));
                assert_eq!(store.entry_status(&sample.hash).await.unwrap(), EntryStatus::Complete);
                assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data, "{setup:?} {size}");
                assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            }
            store = home.reopen(store).await;
        }
    }
}

#[tokio::test]
async fn outboard_equals_the_reference() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        for sample in setup.sizes().into_iter().map(Sample::new) {
            import(&store, &sample).await;
            let entry = store.existing(sample.hash).await.unwrap();
            let mut outboard = entry.outboard().await.unwrap();
            let tree = BaoTree::new(sample.size(), BLOCK_SIZE);
            assert_eq!((outboard.tree(), outboard.root()), (tree, sample.outboard.root));
            let data = vec![0; sample.outboard.data.len()];
            let mut copy = PreOrderMemOutboard { root: outboard.root(), tree, data };
            for node in tree.pre_order_nodes_iter() {
                let pair = outboard.load(node).await.unwrap();
                assert_eq!(pair, sync::Outboard::load(&sample.outboard, node).unwrap());
                let stored = StoredParent::new(node).unwrap().pre_order(sample.size());
                assert_eq!(pair.is_some(), stored.is_some());
                if let Some(pair) = pair {
                    sync::OutboardMut::save(&mut copy, node, &pair).unwrap();
                }
            }
            assert_eq!(copy.data, sample.outboard.data, "{setup:?} {}", sample.size());
        }
    }
}

/// An outboard of over 1 MiB is not read as a whole.
#[tokio::test]
async fn long_outboard_is_read_pair_by_pair() {
    let (_home, store) = open(Setup::Default).await;
    let sample = Sample::new(273 << 20);
    import(&store, &sample).await;
    let entry = store.existing(sample.hash).await.unwrap();
    let mut outboard = entry.outboard().await.unwrap();
    for node in outboard.tree().pre_order_nodes_iter().step_by(97) {
        let pair = outboard.load(node).await.unwrap();
        assert_eq!(pair, sync::Outboard::load(&sample.outboard, node).unwrap());
    }
    let range = 200 << 20..(200 << 20) + 100_000;
    let bytes = store.read_verified(sample.hash, range.start..range.end).await.unwrap();
    assert_eq!(bytes, sample.bytes_of(range.start / 1024..range.end / 1024 + 1)[..100_000]);
}

#[tokio::test]
async fn read_past_the_end_is_short_or_empty() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        for size in [20_000, 70_000] {
            let sample = Sample::new(size);
            import(&store, &sample).await;
            let mut reader = store.existing(sample.hash).await.unwrap().data_reader().await.unwrap();
            let end = sample.size();
            for (offset, len) in
                [(end - 1, 2), (end, 1), (u64::MAX, 1), (u64::MAX, usize::MAX), (0, usize::MAX), (5, 0)]
            {
                let start = usize::try_from(offset).unwrap().min(size);
                let expected = sample.data.slice(start..start.saturating_add(len).min(size));
                assert_eq!(reader.read_at(offset, len).await.unwrap(), expected);
                assert_eq!(reader.read_range(offset, len).await.unwrap(), expected);
                let range = offset..offset.saturating_add(len as u64);
                assert_eq!(store.read_verified(sample.hash, range).await.unwrap(), expected);
            }
            assert_eq!(reader.size().await.unwrap(), end);
        }
    }
}

#[tokio::test]
async fn reader_seeks_and_reads_like_a_file() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(200_000);
        import(&store, &sample).await;
        let mut reader = store.reader(sample.hash).await.unwrap();
        let mut bytes = Vec::new();
        reader.seek(std::io::SeekFrom::End(-170_000)).await.unwrap();
        reader.read_to_end(&mut bytes).await.unwrap();
        assert_eq!(bytes, sample.data[30_000..]);
    }
}

#[tokio::test]
async fn verified_stream_goes_from_store_to_store() {
    for setup in SETUPS {
        let (_home, source) = open(setup).await;
        let (_home, target) = open(setup).await;
        for sample in setup.sizes().into_iter().map(Sample::new) {
            import(&source, &sample).await;
            let all = ChunkRanges::all();
            let encoded = source.export_bao(sample.hash, all.clone(), Vec::new()).await.unwrap();
            assert_eq!(encoded, sample.encode(&all));
            target.import_bao(sample.hash, sample.size(), all, Bytes::from(encoded)).await.unwrap();
            assert_eq!(status(&target, sample.hash), EntryStatus::Complete);
            assert_eq!(target.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        }
    }
}

#[tokio::test]
async fn status_follows_what_is_done() {
    let (_home, store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    let mut seen = vec![status(&store, sample.hash)];
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    seen.push(status(&store, sample.hash));
    store.sync().await.unwrap();
    seen.push(store.entry_status(&sample.hash).await.unwrap());
    import(&store, &sample).await;
    seen.push(status(&store, sample.hash));
    store.delete(vec![sample.hash]).await.unwrap();
    seen.push(status(&store, sample.hash));
    let [absent, partial] = [EntryStatus::NotFound, EntryStatus::Partial];
    assert_eq!(seen, [absent, partial, partial, EntryStatus::Complete, absent]);
    assert_eq!(entry.hash(), sample.hash);
}

/// It goes into logs: the bytes of the blob, or the state of the store, do not.
#[tokio::test]
async fn handle_prints_in_one_line() {
    let (_home, store) = open(Setup::Default).await;
    for i in 0..100 {
        import(&store, &Sample::numbered(10, i)).await;
    }
    let (small, large, partial) = (Sample::new(10), Sample::new(100_000), Sample::new(100_001));
    import(&store, &small).await;
    import(&store, &large).await;
    crate::sample::write(&store, partial.hash, 100_001, partial.all_items()).await.unwrap();
    for sample in [small, large, partial] {
        let entry = store.existing(sample.hash).await.unwrap();
        let reader = entry.data_reader().await.unwrap();
        for text in [format!("{entry:?}"), format!("{reader:?}")] {
            assert!(text.contains(&sample.hash.to_string()) && text.len() < 300, "{} bytes", text.len());
        }
    }
}

#[test]
fn more_entries_are_read_than_files_may_be_open() {
    if alone("get::more_entries_are_read_than_files_may_be_open") {
        for runtime in runtimes() {
            runtime.block_on(read_500_entries());
        }
    }
}

async fn read_500_entries() {
    let home = Home::with(|options| {
        options.inline_max = 0;
        options.open_files = 2;
        options.durability = blob_fs::Durability::Relaxed;
    });
    let store = home.open().await;
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: Some(64), maximum: Some(64) },
    )
    .unwrap();
    let mut open = Vec::new();
    for i in 0..500 {
        let sample = Sample::numbered(20_000, i);
        import(&store, &sample).await;
        let entry = store.existing(sample.hash).await.unwrap();
        let reader = entry.data_reader().await.unwrap();
        open.push((sample, entry, reader));
    }
    for _ in 0..2 {
        for (sample, entry, reader) in &mut open {
            assert_eq!(reader.read_range(5, 10_000).await.unwrap(), sample.data[5..10_005]);
            assert!(entry.outboard().await.is_ok());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_blob_is_read_by_many_at_once() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(300_000);
        import(&store, &sample).await;
        let readers: Vec<_> = (0..500)
            .map(|_| {
                let (store, hash) = (store.clone(), sample.hash);
                tokio::spawn(async move { store.read_to_bytes(hash).await.unwrap() })
            })
            .collect();
        for reader in readers {
            assert_eq!(reader.await.unwrap(), sample.data);
        }
    }
}

#[test]
fn all_kinds_of_runtimes_will_do() {
    for runtime in runtimes() {
        for setup in SETUPS {
            runtime.block_on(async {
                let (home, store) = open(setup).await;
                let (_other_home, other) = open(setup).await;
                for size in [3, 70_000, 3_000_000] {
                    let sample = Sample::new(size);
                    import(&store, &sample).await;
                    let all = ChunkRanges::all();
                    let encoded = store.export_bao(sample.hash, all.clone(), Vec::new()).await.unwrap();
                    other.import_bao(sample.hash, size as u64, all, Bytes::from(encoded)).await.unwrap();
                    let target = home.user(&size.to_string());
                    let none = blob_traits::Progress::none();
                    let mode = blob_traits::ExportMode::Copy;
                    other.export(sample.hash, target.clone(), mode, none).await.unwrap();
                    assert_eq!(std::fs::read(target).unwrap(), sample.data);
                    assert_eq!(
                        other.verified_ranges(sample.hash).await.unwrap(),
                        Some(present(&store, sample.hash).await)
                    );
                }
                store.shutdown().await.unwrap();
            });
        }
    }
}

/// There is no runtime at all: what blocks, blocks the caller.
#[test]
fn no_runtime_will_do() {
    futures_lite::future::block_on(async {
        let (home, store) = open(Setup::Tiny).await;
        let sample = Sample::new(100_000);
        import(&store, &sample).await;
        let store = home.reopen(store).await;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        let tag = store.import_bytes("more".into(), BlobFormat::Raw).await.unwrap();
        assert_eq!(store.read_to_bytes(tag.hash()).await.unwrap(), "more");
        store.shutdown().await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn reads_agree_with_the_bytes(
        size in 0..140_000_usize,
        setup in prop::sample::select(SETUPS.to_vec()),
        reads in prop::collection::vec((0..150_000_u64, 0..150_000_usize), 1..8),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let (_home, store) = open(setup).await;
            let sample = Sample::new(size);
            import(&store, &sample).await;
            let mut reader = store.existing(sample.hash).await.unwrap().data_reader().await.unwrap();
            for (offset, len) in reads {
                let start = usize::try_from(offset).unwrap().min(size);
                let expected = sample.data.slice(start..(start + len).min(size));
                prop_assert_eq!(&reader.read_at(offset, len).await.unwrap(), &expected);
                let range = offset..offset + len as u64;
                prop_assert_eq!(&store.read_range(sample.hash, range.clone()).await.unwrap(), &expected);
                prop_assert_eq!(&store.read_verified(sample.hash, range).await.unwrap(), &expected);
            }
            Ok(())
        })?;
    }
}
