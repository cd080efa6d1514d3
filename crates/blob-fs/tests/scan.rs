//! Scanning: each blob once, as it is stored, whatever lies where and whatever happens meanwhile.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use bao_tree::io::outboard::PreOrderMemOutboard;
use blob_fs::{CompactOptions, Entry, FsStore, Options};
use blob_traits::{
    BLOCK_SIZE, BlobFormat, Error, Hash, ImportMode, ImportSource, Progress, ScanOf, Scanned, prelude::*,
};
use futures_lite::StreamExt;
use support::{
    bao, chunks, content,
    files::{all_files, last_segment},
    hash, import,
    log::change,
    open, temp_dir, tiny, write,
};

const LARGE: usize = 100_000;
/// Not read in one go.
const LARGER: usize = 600_000;
const PARTIAL: usize = 150_000;

/// Everything that a scan hands out.
async fn scan(store: &FsStore, which: ScanOf) -> Vec<Scanned<Entry>> {
    let scan = store.scan(which).await.unwrap();
    let n_blobs = scan.n_blobs;
    let all = scan.read_all().await.unwrap();
    assert!(all.len() as u64 <= n_blobs);
    all
}

/// By name; none comes twice.
fn by_hash(all: Vec<Scanned<Entry>>) -> BTreeMap<Hash, Scanned<Entry>> {
    let (n, all) =
        (all.len(), all.into_iter().map(|scanned| (scanned.hash(), scanned)).collect::<BTreeMap<_, _>>());
    assert_eq!(all.len(), n);
    all
}

/// Checks that a blob is handed out as a whole.
fn assert_whole(scanned: Option<&Scanned<Entry>>, seed: u64, len: usize) {
    assert_whole_in(scanned, seed, len, None);
}

fn assert_whole_in(scanned: Option<&Scanned<Entry>>, seed: u64, len: usize, file: Option<&Path>) {
    let Some(Scanned::Whole { data, outboard, path, .. }) = scanned else { panic!("{seed}: {scanned:?}") };
    assert_eq!(path.as_deref(), file);
    let expected = content(seed, len);
    assert!(
        *data == expected && **outboard == PreOrderMemOutboard::create(&expected, BLOCK_SIZE).data,
        "{seed}"
    );
}

fn assert_entry(scanned: Option<&Scanned<Entry>>, expected: Option<&Path>, is_complete: bool) {
    let Some(Scanned::Entry { entry, path }) = scanned else { panic!("{scanned:?}") };
    assert_eq!((path.as_deref(), entry.is_complete()), (expected, is_complete));
}

fn len(seed: u64) -> usize {
    [0, 100, 4096, 16_384, 16_385, 20_000, 60_000]
        .into_iter()
        .cycle()
        .nth(usize::try_from(seed).unwrap())
        .unwrap()
}

async fn refer(store: &FsStore, path: &Path, seed: u64) {
    fs::write(path, content(seed, LARGE)).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let source = ImportSource::File { path: path.to_owned(), mode: ImportMode::TryReference };
    store.import(source, BlobFormat::Raw.into(), Progress::none()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_blob_comes_once_as_it_is_stored() {
    let dir = temp_dir();
    let (user, root) = (dir.path().join("file"), dir.path().join("store"));
    let options = || Options { partial_memory_max: 40_000, ..tiny(&root) };
    let store = open(options()).await;
    for seed in 1..40 {
        import(&store, seed, len(seed)).await;
    }
    store.delete((1..5).map(|seed| hash(seed, len(seed))).collect()).await.unwrap();
    import(&store, 100, LARGE).await;
    import(&store, 103, LARGER).await;
    refer(&store, &user, 101).await;
    store
        .import_bao(
            hash(102, PARTIAL),
            PARTIAL as u64,
            chunks(0..64),
            bao(&content(102, PARTIAL), &chunks(0..64)),
        )
        .await
        .unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    let file = |part: &str, hash: Hash| {
        let is_data = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "data");
        let is_its = |path: &PathBuf| path.to_str().unwrap().contains(&hash.to_string());
        all_files(&root.join(part)).into_iter().find(|path| is_data(path) && is_its(path))
    };
    // Once out of the index, once with changes that it does not have.
    for overlay_rows in [2, 1 << 20] {
        let store = open(Options { overlay_rows, ..options() }).await;
        import(&store, 200, 5_000).await;
        drop(write(&store, &content(201, PARTIAL), &chunks(0..16)).await.unwrap());
        let all = by_hash(scan(&store, ScanOf::All).await);
        for seed in (5..40).filter(|seed| len(*seed) > 0) {
            assert_whole(all.get(&hash(seed, len(seed))), seed, len(seed));
        }
        assert_whole(all.get(&hash(200, 5_000)), 200, 5_000);
        let in_file = file("data", hash(100, LARGE));
        assert!(in_file.is_some());
        assert_whole_in(all.get(&hash(100, LARGE)), 100, LARGE, in_file.as_deref());
        assert_entry(all.get(&hash(103, LARGER)), file("data", hash(103, LARGER)).as_deref(), true);
        assert_entry(all.get(&hash(101, LARGE)), Some(&user), true);
        assert_entry(all.get(&hash(102, PARTIAL)), file("partial", hash(102, PARTIAL)).as_deref(), false);
        assert_entry(all.get(&hash(201, PARTIAL)), None, false);
        let n_small = (5..40).filter(|seed| len(*seed) > 0).count() + 1;
        let n_empty = usize::from(all.contains_key(&Hash::EMPTY));
        assert_eq!(all.len(), n_small + n_empty + 5);
        assert_eq!(store.scan(ScanOf::All).await.unwrap().n_blobs, all.len() as u64);
        let some = BTreeSet::from([hash(6, len(6)), hash(1, len(1)), hash(100, LARGE), hash(201, PARTIAL)]);
        let found = by_hash(scan(&store, ScanOf::Hashes(some.clone())).await);
        assert!(found.keys().all(|hash| some.contains(hash)) && found.len() == 3);
        assert_eq!(store.scan(ScanOf::Hashes(some)).await.unwrap().n_blobs, 3);
        drop((all, found));
        store.delete(vec![hash(200, 5_000), hash(201, PARTIAL)]).await.unwrap();
        store.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_blobs_come_in_the_order_of_the_log() {
    let dir = temp_dir();
    let store = open(Options { segment_size: 1 << 20, ..tiny(dir.path()) }).await;
    let mut order = Vec::new();
    for seed in 0..300 {
        order.push(import(&store, seed, 8_000).await);
    }
    let hashes = |all: &[Scanned<Entry>]| all.iter().map(Scanned::hash).collect::<Vec<_>>();
    assert_eq!(hashes(&scan(&store, ScanOf::All).await), order);
    // What lies between is left out, be it much or little.
    let gone: Vec<Hash> = (0..300)
        .filter(|seed| (50..90).contains(seed) || seed % 7 == 0)
        .map(|seed| hash(seed, 8_000))
        .collect();
    store.delete(gone.clone()).await.unwrap();
    order.retain(|hash| !gone.contains(hash));
    let all = scan(&store, ScanOf::All).await;
    assert_eq!(hashes(&all), order);
    for seed in (0..300).filter(|seed| !gone.contains(&hash(*seed, 8_000))) {
        let name = hash(seed, 8_000);
        assert_whole(all.iter().find(|scanned| scanned.hash() == name), seed, 8_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_handed_out_for_its_reader_to_say_so() {
    let dir = temp_dir();
    let store = open(Options { segment_size: 1 << 20, ..tiny(dir.path()) }).await;
    for seed in 0..5 {
        import(&store, seed, 20_000).await;
    }
    store
        .import_bao(
            hash(9, PARTIAL),
            PARTIAL as u64,
            chunks(0..64),
            bao(&content(9, PARTIAL), &chunks(0..64)),
        )
        .await
        .unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    let store = open(tiny(dir.path())).await;
    change(&last_segment(dir.path()), |bytes| bytes.truncate(4096 + 70_000));
    let data = all_files(&dir.path().join("partial"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "data"));
    fs::remove_file(data.unwrap()).unwrap();
    let all = by_hash(scan(&store, ScanOf::All).await);
    assert_eq!(all.len(), 6);
    for (seed, is_there) in [(0, true), (1, true), (2, true), (3, false), (4, false)] {
        let Some(Scanned::Entry { entry, .. }) = all.get(&hash(seed, 20_000)) else { panic!("{all:?}") };
        let read = entry.data_reader().await.unwrap().read_range(0, 20_000).await;
        assert_eq!(read.is_ok_and(|read| read == content(seed, 20_000)), is_there, "{seed}");
    }
    let Some(Scanned::Entry { entry, .. }) = all.get(&hash(9, PARTIAL)) else { panic!("{all:?}") };
    assert!(entry.data_reader().await.unwrap().read_range(0, 1000).await.is_err());
    assert_eq!(store.entry_status(&hash(9, PARTIAL)).await.unwrap(), blob_traits::EntryStatus::Partial);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_takes_nothing_from_a_scan() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in 0..40 {
        import(&store, seed, 20_000).await;
    }
    let scan = store.scan(ScanOf::All).await.unwrap();
    store
        .delete((0..40).filter(|seed| seed % 2 == 0).map(|seed| hash(seed, 20_000)).collect())
        .await
        .unwrap();
    store.compact(CompactOptions::default()).await.unwrap();
    let all = scan.read_all().await.unwrap();
    assert_eq!(all.len(), 40);
    let all = by_hash(all);
    (0..40).for_each(|seed| assert_whole(all.get(&hash(seed, 20_000)), seed, 20_000));
    drop(all);
    // A scan that is dropped halfway keeps nothing either.
    let mut scan = store.scan(ScanOf::All).await.unwrap();
    assert!(scan.batches.next().await.unwrap().is_ok());
    drop(scan);
    store.compact(CompactOptions::default()).await.unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    assert!(support::has(&open(tiny(dir.path())).await, 1, 20_000).await);
    assert!(all_files(&dir.path().join("temp")).is_empty());
}

/// Somebody else may have the directory by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scan_ends_with_its_store() {
    for len in [1000, LARGE, LARGER] {
        let dir = temp_dir();
        let store = open(tiny(dir.path())).await;
        import(&store, 1, len).await;
        let scan = store.scan(ScanOf::Hashes(BTreeSet::from([hash(1, len)]))).await.unwrap();
        store.shutdown().await.unwrap();
        let read = scan.read_all().await;
        assert!(matches!(read, Err(Error::Closed)), "{len}: {read:?}");
    }
}
