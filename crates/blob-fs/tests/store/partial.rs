use std::sync::{Arc, Mutex};

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges,
    io::{BaoContentItem, fsm::Outboard, sync},
};
use blob_fs::{Entry, FsStore};
use blob_traits::{
    BLOCK_SIZE, BaoBlobSize, EntryStatus, Error, FallibleProgressBatchWriter, MapEntryMut, PartialTree,
    collect, prelude::*,
};
use proptest::prelude::*;

use crate::{
    drive::alone,
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, chunks, error_of, import, present, status, write},
};

fn is_leaf(item: &BaoContentItem) -> bool {
    matches!(item, BaoContentItem::Leaf(_))
}

/// A store whose partial blobs go to disk with their first batch, or stay in memory.
fn home(on_disk: bool) -> Home {
    Home::with(|options| options.partial_memory_max = if on_disk { 0 } else { 1 << 30 })
}

/// Reads each chunk and compares it, or its absence, with what should be there.
async fn check_reads(entry: &Entry, sample: &Sample, expected: &ChunkRanges) {
    let mut reader = entry.data_reader().await.unwrap();
    for chunk in 0..sample.n_chunks() {
        let read = reader.read_range(chunk * 1024, 1024).await;
        if expected.contains(&ChunkNum(chunk)) {
            assert_eq!(read.unwrap(), sample.bytes_of(chunk..chunk + 1));
        } else {
            assert!(matches!(error_of(read), Error::Incomplete { .. }));
        }
    }
}

async fn check_outboard(entry: &Entry, sample: &Sample) {
    let mut outboard = entry.outboard().await.unwrap();
    for node in BaoTree::new(sample.size(), BLOCK_SIZE).pre_order_nodes_iter() {
        let expected = sync::Outboard::load(&sample.outboard, node).unwrap();
        assert_eq!(outboard.load(node).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn blob_in_pieces_becomes_the_same_as_one_that_was_imported() {
    for setup in SETUPS {
        for sample in setup.sizes().into_iter().filter(|size| *size > 0 && *size < 2 << 20).map(Sample::new) {
            let (home, store) = open(setup).await;
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            let mut writer = entry.batch_writer().await.unwrap();
            for item in sample.all_items() {
                writer.write_batch(sample.size(), vec![item]).await.unwrap();
            }
            assert_eq!(present(&store, sample.hash).await, PartialTree::all_ranges(sample.size()));
            check_outboard(&entry, &sample).await;
            store.insert_complete(entry.clone()).await.unwrap();
            check_outboard(&entry, &sample).await;
            let store = home.reopen(store).await;
            assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            check_outboard(&store.existing(sample.hash).await.unwrap(), &sample).await;
        }
    }
}

#[tokio::test]
async fn partial_blob_survives_reopening_and_is_resumed() {
    for setup in SETUPS {
        for (size, part) in [(10_000, 3..5), (100_000, 16..50), (3_000_000, 1000..2929), (3_000_000, 0..16)] {
            let (home, mut store) = open(setup).await;
            let sample = Sample::new(size);
            let all = chunks(0..sample.n_chunks());
            let mut expected = chunks(part);
            write(&store, sample.hash, sample.size(), sample.items(&expected)).await.unwrap();
            for round in 0..3 {
                assert_eq!(present(&store, sample.hash).await, expected);
                assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
                assert_eq!(collect(store.partial_blobs().await.unwrap()).await.unwrap(), [sample.hash]);
                check_reads(&store.existing(sample.hash).await.unwrap(), &sample, &expected).await;
                if round == 1 {
                    let missing = (all.clone() - expected) & chunks(0..2000);
                    write(&store, sample.hash, sample.size(), sample.items(&missing)).await.unwrap();
                    expected = present(&store, sample.hash).await;
                    assert!(missing.is_subset(&expected));
                }
                store = home.reopen(store).await;
            }
            let rest = all - present(&store, sample.hash).await;
            store.import_bao(sample.hash, sample.size(), rest.clone(), sample.encode(&rest)).await.unwrap();
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        }
    }
}

#[tokio::test]
async fn synced_partial_blob_survives_a_drop_and_what_came_later_need_not() {
    for setup in SETUPS {
        for sync_store in [true, false] {
            let (home, store) = open(setup).await;
            let sample = Sample::new(200_000);
            let synced = chunks(16..48) | chunks(195..196);
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            let mut writer = entry.batch_writer().await.unwrap();
            writer.write_batch(sample.size(), sample.items(&synced)).await.unwrap();
            if sync_store {
                store.sync().await.unwrap();
            } else {
                writer.sync().await.unwrap();
            }
            writer.write_batch(sample.size(), sample.items(&chunks(64..80))).await.unwrap();
            drop((entry, writer, store));
            let store = home.open().await;
            let there = present(&store, sample.hash).await;
            assert!(synced.is_subset(&there), "{there:?}");
            let entry = store.existing(sample.hash).await.unwrap();
            assert_eq!(entry.size(), BaoBlobSize::Verified(200_000));
            check_reads(&entry, &sample, &there).await;
        }
    }
}

#[tokio::test]
async fn present_range_is_read_and_an_absent_one_is_an_error() {
    for on_disk in [false, true] {
        let home = home(on_disk);
        let store = home.open().await;
        let sample = Sample::new(100_000);
        let ranges = chunks(0..16) | chunks(40..50);
        write(&store, sample.hash, sample.size(), sample.items(&ranges)).await.unwrap();
        let entry = store.existing(sample.hash).await.unwrap();
        let mut reader = entry.data_reader().await.unwrap();
        for range in [0..16_384, 1000..1001, 40 * 1024 + 7..50 * 1024] {
            let found = reader.read_range(range.start as u64, range.len()).await.unwrap();
            assert_eq!(found, sample.data.slice(range));
        }
        assert!(reader.read_range(5, 0).await.unwrap().is_empty());
        assert!(reader.read_range(100_000, 10).await.unwrap().is_empty());
        assert!(reader.read_range(u64::MAX, usize::MAX).await.unwrap().is_empty());
        let error = error_of(reader.read_range(10, 16_384).await);
        assert!(matches!(error, Error::Incomplete { first_missing: 16_384, n_missing: 1, n_chunks: 98, .. }));
        let error = error_of(reader.read_range(0, usize::MAX).await);
        assert!(matches!(error, Error::Incomplete { first_missing: 16_384, n_missing: 72, .. }));
    }
}

#[tokio::test]
async fn verified_ranges_of_a_partial_blob_are_the_whole_groups_present() {
    for on_disk in [false, true] {
        let home = home(on_disk);
        let store = home.open().await;
        let sample = Sample::new(200_000);
        let ranges = chunks(16..48) | chunks(100..102);
        store.import_bao(sample.hash, sample.size(), ranges.clone(), sample.encode(&ranges)).await.unwrap();
        assert_eq!(present(&store, sample.hash).await, ranges);
        assert_eq!(store.verified_ranges(sample.hash).await.unwrap(), Some(chunks(16..48)));
        let error = store.export_bao(sample.hash, ChunkRanges::all(), Vec::new()).await.unwrap_err();
        assert!(matches!(error, Error::Incomplete { .. } | Error::Mismatch { .. }));
        let part = store.export_bao(sample.hash, chunks(16..48), Vec::new()).await.unwrap();
        assert_eq!(part, sample.encode(&chunks(16..48)));
    }
}

#[tokio::test]
async fn completing_is_refused_while_anything_is_missing() {
    for on_disk in [false, true] {
        let home = home(on_disk);
        let store = home.open().await;
        let sample = Sample::new(100_000);
        let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        let error = store.insert_complete(entry.clone()).await.unwrap_err();
        assert!(matches!(error, Error::SizeUnverified { .. }));
        writer.write_batch(sample.size(), sample.items(&chunks(0..97))).await.unwrap();
        assert_eq!(entry.size(), BaoBlobSize::Unverified(100_000));
        let error = store.insert_complete(entry.clone()).await.unwrap_err();
        assert!(matches!(error, Error::SizeUnverified { hash } if hash == sample.hash));

        let other = Sample::new(100_001);
        let entry = store.get_or_create(other.hash, other.size()).await.unwrap();
        write(&store, other.hash, other.size(), other.items(&(chunks(0..20) | chunks(30..98))))
            .await
            .unwrap();
        assert_eq!(entry.size(), BaoBlobSize::Verified(100_001));
        let error = store.insert_complete(entry.clone()).await.unwrap_err();
        assert!(matches!(
            error,
            Error::Incomplete { first_missing: 20_480, n_missing: 10, n_chunks: 98, .. }
        ));
        assert_eq!(status(&store, other.hash), EntryStatus::Partial);
        assert_eq!(present(&store, other.hash).await, chunks(0..20) | chunks(30..98));
    }
}

#[tokio::test]
async fn completing_twice_and_by_two_handles_is_fine() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(200_000);
        let first = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let second = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let mut writers = [first.batch_writer().await.unwrap(), second.batch_writer().await.unwrap()];
        for (i, item) in sample.all_items().into_iter().enumerate() {
            writers[i % 2].write_batch(sample.size(), vec![item]).await.unwrap();
        }
        assert_eq!(collect(store.partial_blobs().await.unwrap()).await.unwrap(), [sample.hash]);
        for entry in [&first, &second, &first] {
            store.insert_complete(entry.clone()).await.unwrap();
            assert!(entry.is_complete() && first.is_complete());
        }
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        assert!(collect(store.partial_blobs().await.unwrap()).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_once_meet_in_one_entry() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(1_000_000);
        let tasks: Vec<_> = (0..8)
            .map(|i| {
                let (store, sample) = (store.clone(), sample.clone());
                let part = chunks(i * 112..(i + 2) * 112);
                tokio::spawn(async move {
                    let encoded = sample.encode(&part);
                    store.import_bao(sample.hash, sample.size(), part, encoded).await
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let rest = chunks(0..977) - present(&store, sample.hash).await;
        write(&store, sample.hash, sample.size(), sample.items(&rest)).await.unwrap();
        let entry = store.get_mut(&sample.hash).await.unwrap().unwrap();
        store.insert_complete(entry).await.unwrap();
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn parents_and_leaves_may_come_apart() {
    for on_disk in [false, true] {
        for leaves_first in [false, true] {
            let home = home(on_disk);
            let store = home.open().await;
            let sample = Sample::new(100_000);
            let (first, second): (Vec<_>, Vec<_>) =
                sample.all_items().into_iter().partition(|item| is_leaf(item) == leaves_first);
            write(&store, sample.hash, sample.size(), first).await.unwrap();
            write(&store, sample.hash, sample.size(), Vec::new()).await.unwrap();
            assert!(present(&store, sample.hash).await.is_empty());
            let entry = store.existing(sample.hash).await.unwrap();
            check_reads(&entry, &sample, &ChunkRanges::empty()).await;
            write(&store, sample.hash, sample.size(), second).await.unwrap();
            assert_eq!(present(&store, sample.hash).await, chunks(0..98));
            check_reads(&entry, &sample, &chunks(0..98)).await;
        }
    }
}

#[tokio::test]
async fn complete_blob_stays_complete_whatever_is_claimed() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(100_000);
        import(&store, &sample).await;
        for claim in [0, 1, 100_000, 1 << 44] {
            let entry = store.get_or_create(sample.hash, claim).await.unwrap();
            assert!(entry.is_complete());
            assert_eq!(entry.size(), BaoBlobSize::Verified(100_000));
            let mut writer = entry.batch_writer().await.unwrap();
            writer.write_batch(claim, Vec::new()).await.unwrap();
            writer.sync().await.unwrap();
            store.insert_complete(entry).await.unwrap();
        }
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    }
}

#[tokio::test]
async fn reader_of_a_partial_blob_reads_on_when_it_is_complete() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(3 << 20);
        let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let mut reader = entry.data_reader().await.unwrap();
        let mut outboard = entry.outboard().await.unwrap();
        write(&store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
        assert_eq!(reader.read_range(0, 5).await.unwrap(), sample.data[..5]);
        store.insert_complete(entry.clone()).await.unwrap();
        assert_eq!(reader.read_range(0, usize::MAX).await.unwrap(), sample.data);
        for node in outboard.tree().pre_order_nodes_iter() {
            let expected = sync::Outboard::load(&sample.outboard, node).unwrap();
            assert_eq!(outboard.load(node).await.unwrap(), expected);
        }
        store.delete(vec![sample.hash]).await.unwrap();
        assert_eq!(reader.read_range(7, 5000).await.unwrap(), sample.data[7..5007]);
    }
}

#[tokio::test]
async fn absent_parents_are_zeros_that_never_verify() {
    for (on_disk, size) in [(false, 100_000), (true, 100_000), (false, 1000), (true, 1000)] {
        let home = home(on_disk);
        let store = home.open().await;
        let sample = Sample::new(size);
        let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        store.sync().await.unwrap();
        let mut outboard = entry.outboard().await.unwrap();
        let zeros = ([0; 32].into(), [0; 32].into());
        for node in outboard.tree().pre_order_nodes_iter() {
            let expected = sync::Outboard::load(&sample.outboard, node).unwrap().map(|_| zeros);
            assert_eq!(outboard.load(node).await.unwrap(), expected);
        }
    }
}

#[tokio::test]
async fn every_leaf_of_a_batch_is_reported() {
    let (_home, store) = open(Setup::Default).await;
    let sample = Sample::new(100_000);
    let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let leaves = seen.clone();
    let mut writer =
        FallibleProgressBatchWriter::new(entry.batch_writer().await.unwrap(), move |offset, len| {
            leaves.lock().unwrap().push((offset, len));
            if offset < 65_536 { Ok(()) } else { Err(std::io::ErrorKind::Interrupted.into()) }
        });
    let written = writer.write_batch(sample.size(), sample.all_items()).await;
    assert_eq!(written.unwrap_err().kind(), std::io::ErrorKind::Interrupted);
    let expected: Vec<_> = (0..5).map(|i| (i * 16_384, 16_384)).collect();
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// Somebody downloads many blobs and never finishes: their files are not all kept open.
#[test]
fn more_partial_blobs_are_kept_than_files_may_be_open() {
    if alone("partial::more_partial_blobs_are_kept_than_files_may_be_open") {
        tokio::runtime::Runtime::new().unwrap().block_on(keep_150_partial_blobs());
    }
}

async fn keep_150_partial_blobs() {
    let (_home, store) = open(Setup::Tiny).await;
    let limit = rustix::process::Rlimit { current: Some(100), maximum: Some(100) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    let part = chunks(0..16);
    let samples: Vec<_> = (0..150).map(|i| Sample::numbered(40_000, i)).collect();
    for sample in &samples {
        let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        writer.write_batch(sample.size(), sample.items(&part)).await.unwrap();
        writer.sync().await.unwrap();
    }
    for sample in &samples {
        assert_eq!(present(&store, sample.hash).await, part);
        assert_eq!(store.read_range(sample.hash, 0..16_384).await.unwrap(), sample.data[..16_384]);
    }
}

fn parts() -> impl Strategy<Value = Vec<ChunkRanges>> {
    let range = (0..150_u64, 1..40_u64).prop_map(|(start, len)| chunks(start..start + len));
    prop::collection::vec(range, 1..8)
}

/// What a part of the blob is answered with: where it lies beyond the end, the last chunk.
fn answered(part: ChunkRanges, n_chunks: u64) -> ChunkRanges {
    let within = part & chunks(0..n_chunks);
    if within.is_empty() { chunks(n_chunks - 1..n_chunks) } else { within }
}

async fn reopened(home: &Home, store: FsStore, how: u8) -> FsStore {
    match how {
        0 => home.reopen(store).await,
        1 => {
            store.sync().await.unwrap();
            drop(store);
            home.open().await
        }
        _ => store,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Random parts arrive one after the other, each split at a random place: what is present is what arrived.
    #[test]
    fn parts_in_any_order_add_up(
        size in 1..150_000_usize,
        setup in prop::sample::select(SETUPS.to_vec()),
        parts in parts(),
        cut in any::<prop::sample::Index>(),
        how in prop::collection::vec(0..6_u8, 8),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let sample = Sample::new(size);
            let (home, mut store) = open(setup).await;
            let mut expected = ChunkRanges::empty();
            for (part, how) in parts.into_iter().zip(how) {
                let part = answered(part, sample.n_chunks());
                let mut items = sample.items(&part);
                let rest = items.split_off(cut.index(items.len()));
                write(&store, sample.hash, sample.size(), items).await.unwrap();
                write(&store, sample.hash, sample.size(), rest).await.unwrap();
                expected |= part;
                store = reopened(&home, store, how).await;
                prop_assert_eq!(present(&store, sample.hash).await, expected.clone());
            }
            let entry = store.get_mut(&sample.hash).await.unwrap().unwrap();
            check_reads(&entry, &sample, &expected).await;
            let whole = expected == chunks(0..sample.n_chunks());
            prop_assert_eq!(store.insert_complete(entry).await.is_ok(), whole);
            if whole {
                prop_assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            }
            Ok(())
        })?;
    }

    /// A blob goes from store to store in random parts, as verified streams.
    #[test]
    fn verified_streams_of_any_ranges_are_taken(
        size in 1..150_000_usize,
        setup in prop::sample::select(SETUPS.to_vec()),
        parts in parts(),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let sample = Sample::new(size);
            let (_home, source) = open(Setup::Default).await;
            let (_home, target) = open(setup).await;
            import(&source, &sample).await;
            let mut expected = ChunkRanges::empty();
            for part in parts {
                let encoded = source.export_bao(sample.hash, part.clone(), Vec::new()).await.unwrap();
                prop_assert_eq!(&encoded, &sample.encode(&part));
                target.import_bao(sample.hash, sample.size(), part.clone(), bytes::Bytes::from(encoded)).await.unwrap();
                expected |= answered(part, sample.n_chunks());
                prop_assert_eq!(present(&target, sample.hash).await, expected.clone());
            }
            let whole = expected == chunks(0..sample.n_chunks());
            prop_assert_eq!(status(&target, sample.hash) == EntryStatus::Complete, whole);
            Ok(())
        })?;
    }
}
