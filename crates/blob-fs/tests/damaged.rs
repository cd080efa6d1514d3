//! Damage (E6, E53, E63-E69): what is bad harms what lies in it and nothing else, and nobody gets wrong bytes.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use blob_fs::{FsStore, Options};
use blob_traits::{
    BlobFormat, EntryStatus, Error, ExportMode, HashAndFormat, ImportMode, Progress, bao_tree::ChunkRanges,
    prelude::*,
};
use support::{
    accepting, bao, chunks, content, copy_dir,
    files::{all_files, assert_same, last_segment, segments, snapshot},
    has, hash, import, lazy,
    log::{HEADER, RECORD, Raw, SMALL, change, records},
    open, temp_dir, tiny,
};

const SMALL_LEN: usize = 20_000;
const LARGE_LEN: usize = 100_000;
/// Seeds of the small blobs, which fill several segments.
const SMALLS: Range<u64> = 0..12;
const LARGES: Range<u64> = 100..103;

/// A store of small and large blobs, dropped.
async fn store(options: impl Fn(PathBuf) -> Options) -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(options(dir.path().to_owned())).await;
    for seed in SMALLS {
        import(&store, seed, SMALL_LEN).await;
    }
    for seed in LARGES {
        import(&store, seed, LARGE_LEN).await;
    }
    store.set_tag("tag".into(), Some(HashAndFormat::raw(hash(1, SMALL_LEN)))).await.unwrap();
    store.shutdown().await.unwrap();
    dir
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    copy
}

fn forget_index(dir: &Path) {
    fs::remove_file(dir.join("index.redb")).unwrap();
}

/// Flips a bit.
fn flip(path: &Path, offset: usize) {
    change(path, |bytes| bytes[offset] ^= 1);
}

/// The small blobs of a segment, in order, with their seeds.
fn smalls(segment: &Path) -> Vec<(u64, Raw)> {
    let bytes = fs::read(segment).unwrap();
    let small = records(segment).into_iter().filter(|record| record.kind == SMALL);
    let seed = |record: &Raw| {
        SMALLS
            .into_iter()
            .find(|seed| bytes[record.range.start + 24..][..32] == *hash(*seed, SMALL_LEN).as_bytes())
    };
    small.map(|record| (seed(&record).unwrap(), record)).collect()
}

async fn assert_all_but(store: &FsStore, lost: &[u64]) {
    for seed in SMALLS {
        assert_eq!(has(store, seed, SMALL_LEN).await, !lost.contains(&seed), "small {seed}");
    }
    for seed in LARGES {
        assert_eq!(has(store, seed, LARGE_LEN).await, !lost.contains(&seed), "large {seed}");
    }
}

#[tokio::test]
async fn damage_in_an_older_segment_is_reported_and_harms_its_record_alone() {
    let dir = store(tiny).await;
    for offset in [0, 5, 30, RECORD - 1, RECORD, RECORD + 7_000] {
        let copy = copy(dir.path());
        let segment = segments(copy.path())[1].clone();
        let (seed, record) = smalls(&segment).remove(1);
        flip(&segment, record.range.start + offset);
        forget_index(copy.path());
        let damaged = fs::read(&segment).unwrap();
        assert_only_accepted(tiny, copy.path()).await;
        let store = open(accepting(tiny(copy.path()))).await;
        let [range] = store.recovery().damaged.as_slice() else { panic!("{:?}", store.recovery()) };
        assert_eq!(range.path, segment.canonicalize().unwrap());
        assert_eq!(range.range, record.range.start as u64..record.range.end as u64);
        assert_all_but(&store, &[seed]).await;
        // What kept something may have been there.
        assert!(matches!(store.begin_sweep().await, Err(Error::DamagedStore { .. })));
        assert!(store.get_tag(&"tag".into()).await.unwrap().is_some());
        assert_eq!(import(&store, seed, SMALL_LEN).await, hash(seed, SMALL_LEN));
        store.shutdown().await.unwrap();
        assert_eq!(fs::read(&segment).unwrap(), damaged);
        let store = open(tiny(copy.path())).await;
        assert_all_but(&store, &[]).await;
        assert!(store.recovery().damaged.is_empty() && store.recovery().holds_collection);
        assert!(matches!(store.begin_sweep().await, Err(Error::DamagedStore { .. })));
    }
}

#[tokio::test]
async fn damage_behind_the_checkpoint_is_noticed_when_it_is_read() {
    let dir = store(tiny).await;
    let segment = segments(dir.path())[0].clone();
    let (seed, record) = smalls(&segment).remove(1);
    flip(&segment, record.range.start + RECORD + 17_000);
    let store = open(tiny(dir.path())).await;
    let name = hash(seed, SMALL_LEN);
    assert!(matches!(store.read_verified(name, 0..u64::MAX).await, Err(Error::Mismatch { .. })));
    assert_eq!(store.read_verified(name, 0..16_384).await.unwrap(), content(seed, SMALL_LEN)[..16_384]);
    assert_eq!(store.verified_ranges(name).await.unwrap().unwrap(), chunks(0..16));
    store.delete(vec![name]).await.unwrap();
    import(&store, seed, SMALL_LEN).await;
    assert_all_but(&store, &[]).await;
}

#[tokio::test]
async fn damage_in_the_newest_segment_that_later_records_prove_is_reported() {
    let one_segment = |dir| Options { segment_size: 16 << 20, ..lazy(dir) };
    let dir = store(one_segment).await;
    let segment = last_segment(dir.path());
    forget_index(dir.path());
    for i in [0, 3, 7] {
        let copy = copy(dir.path());
        let (seed, record) = smalls(&segment).remove(i);
        flip(&last_segment(copy.path()), record.range.start + RECORD + 1);
        let store = open(accepting(one_segment(copy.path().to_owned()))).await;
        assert_eq!((store.recovery().damaged.len(), store.recovery().torn_bytes), (1, 0));
        assert_all_but(&store, &[seed]).await;
    }
}

#[tokio::test]
async fn several_damaged_records_are_lost_and_no_others() {
    let dir = store(tiny).await;
    let mut lost = Vec::new();
    for segment in segments(dir.path()) {
        if let Some((seed, record)) = smalls(&segment).into_iter().next() {
            change(&segment, |bytes| bytes[record.range].fill(0));
            lost.push(seed);
        }
    }
    forget_index(dir.path());
    assert_only_accepted(tiny, dir.path()).await;
    let store = open(accepting(tiny(dir.path()))).await;
    assert_eq!(store.recovery().damaged.len(), lost.len());
    assert!(lost.len() > 2);
    assert_all_but(&store, &lost).await;
}

/// Opens a store as usual, which fails, names the command that helps, and changes nothing.
async fn assert_only_accepted(options: fn(PathBuf) -> Options, dir: &Path) {
    let before = snapshot(dir);
    let refused = FsStore::open(options(dir.to_owned())).await;
    assert!(
        matches!(&refused, Err(Error::DamagedStore { what, .. }) if what.contains("blob check --rebuild-index")),
        "{refused:?}"
    );
    assert_same(&before, &snapshot(dir));
}

/// Spoils a store so that it cannot be opened, and checks that trying changes nothing.
async fn assert_refused(dir: &Path, spoil: impl Fn(&Path)) {
    for with_index in [true, false] {
        let copy = copy(dir);
        spoil(copy.path());
        if !with_index {
            forget_index(copy.path());
        }
        let before = snapshot(copy.path());
        for _ in 0..2 {
            let refused = FsStore::open(tiny(copy.path())).await;
            assert!(matches!(refused, Err(Error::DamagedStore { .. })), "{refused:?}");
            assert_same(&before, &snapshot(copy.path()));
        }
    }
}

#[tokio::test]
async fn segment_with_a_bad_header_is_refused_and_nothing_is_changed() {
    let dir = store(tiny).await;
    for at in [0, 9, 41, 97, HEADER - 1] {
        assert_refused(dir.path(), |dir| flip(&segments(dir)[0], at)).await;
        assert_refused(dir.path(), |dir| flip(&last_segment(dir), at)).await;
    }
}

#[tokio::test]
async fn segment_that_is_too_short_is_refused_and_nothing_is_changed() {
    let dir = store(tiny).await;
    for len in [0, 100, HEADER, HEADER + 50, 50_000] {
        assert_refused(dir.path(), |dir| change(&segments(dir)[1], |bytes| bytes.truncate(len))).await;
    }
}

#[tokio::test]
async fn newest_segment_that_lost_its_end_is_refused_by_the_index_and_nothing_is_changed() {
    let dir = store(tiny).await;
    let len = fs::metadata(last_segment(dir.path())).unwrap().len();
    for len in [0, 2048, HEADER, usize::try_from(len).unwrap() - 1] {
        let copy = copy(dir.path());
        change(&last_segment(copy.path()), |bytes| bytes.truncate(len));
        let before = snapshot(copy.path());
        let refused = FsStore::open(tiny(copy.path())).await;
        assert!(matches!(refused, Err(Error::DamagedStore { .. })), "{len}: {refused:?}");
        assert_same(&before, &snapshot(copy.path()));
    }
}

#[tokio::test]
async fn segment_of_another_store_is_refused_and_nothing_is_changed() {
    let (dir, other) = (store(tiny).await, store(tiny).await);
    let put = |from: &Path, to: &Path| fs::write(to, fs::read(from).unwrap()).unwrap();
    assert_refused(dir.path(), |dir| put(&segments(other.path())[1], &segments(dir)[1])).await;
    assert_refused(dir.path(), |dir| put(&segments(dir)[0], &segments(dir)[1])).await;
}

/// The file of a large blob.
fn large_file(dir: &Path, seed: u64, extension: &str) -> PathBuf {
    let name = hash(seed, LARGE_LEN).to_string();
    let is_it = |path: &PathBuf| {
        path.to_str().unwrap().contains(&name) && path.extension().is_some_and(|found| found == extension)
    };
    all_files(&dir.join("data")).into_iter().find(is_it).unwrap()
}

#[tokio::test]
async fn large_blob_without_its_file_is_damaged_and_no_other() {
    let dir = store(tiny).await;
    for (extension, rebuilt) in [("data", true), ("data", false), ("obao4", true), ("obao4", false)] {
        let copy = copy(dir.path());
        fs::remove_file(large_file(copy.path(), 101, extension)).unwrap();
        if rebuilt {
            forget_index(copy.path());
        }
        let store = open(tiny(copy.path())).await;
        let name = hash(101, LARGE_LEN);
        let reported = if rebuilt { vec![name] } else { Vec::new() };
        assert_eq!(store.recovery().damaged_blobs, reported);
        let read = store.read_verified(name, 0..u64::MAX).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{read:?}");
        store.delete(vec![name]).await.unwrap();
        import(&store, 101, LARGE_LEN).await;
        assert_all_but(&store, &[]).await;
    }
}

#[tokio::test]
async fn large_blob_with_a_short_file_is_damaged_and_no_other() {
    let dir = store(tiny).await;
    for (extension, len) in [("data", 0), ("data", LARGE_LEN - 1), ("obao4", 64), ("obao4", 0)] {
        let copy = copy(dir.path());
        change(&large_file(copy.path(), 100, extension), |bytes| bytes.truncate(len));
        forget_index(copy.path());
        let store = open(tiny(copy.path())).await;
        let name = hash(100, LARGE_LEN);
        assert_eq!(store.recovery().damaged_blobs, [name]);
        let read = store.read_verified(name, 0..u64::MAX).await;
        assert!(matches!(read, Err(Error::Damaged { .. })), "{extension} {len}: {read:?}");
        assert!(has(&store, 101, LARGE_LEN).await);
    }
}

#[tokio::test]
async fn wrong_bytes_are_never_handed_on_as_right() {
    let dir = store(tiny).await;
    let target = temp_dir();
    for (extension, at) in [("data", 70_000), ("data", 0), ("obao4", 100), ("obao4", 3)] {
        let copy = copy(dir.path());
        flip(&large_file(copy.path(), 102, extension), at);
        let store = open(tiny(copy.path())).await;
        let name = hash(102, LARGE_LEN);
        assert!(matches!(store.read_verified(name, 0..u64::MAX).await, Err(Error::Mismatch { .. })));
        let stream = store.export_bao(name, ChunkRanges::all(), Vec::new()).await;
        assert!(matches!(stream, Err(Error::Mismatch { .. })));
        assert_ne!(store.verified_ranges(name).await.unwrap().unwrap(), chunks(0..98));
        if extension == "data" {
            let to = target.path().join("copy");
            let exported = store.export(name, to.clone(), ExportMode::Copy, Progress::none()).await;
            assert!(matches!(exported, Err(Error::Mismatch { .. })), "{exported:?}");
            assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
        }
        assert!(has(&store, 101, LARGE_LEN).await);
    }
}

/// A store with a partial blob of which the first 64 chunks are on disk.
async fn with_partial() -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    let stream = bao(&content(1, LARGE_LEN), &chunks(0..64));
    store.import_bao(hash(1, LARGE_LEN), LARGE_LEN as u64, chunks(0..64), stream).await.unwrap();
    store.shutdown().await.unwrap();
    dir
}

fn partial_file(dir: &Path, extension: &str) -> PathBuf {
    let mut files = all_files(&dir.join("partial")).into_iter();
    files.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[tokio::test]
async fn partial_blob_with_bad_bits_begins_anew() {
    let dir = with_partial().await;
    let spoil: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.clear(),
        |bytes| bytes[20] ^= 1,
        |bytes| bytes.truncate(30),
        |bytes| bytes.extend([0; 9]),
    ];
    for spoil in spoil {
        let copy = copy(dir.path());
        change(&partial_file(copy.path(), "bits"), spoil);
        let store = open(tiny(copy.path())).await;
        let name = hash(1, LARGE_LEN);
        assert_eq!(store.present_ranges(&name).await.unwrap(), Some(ChunkRanges::empty()));
        let stream = bao(&content(1, LARGE_LEN), &ChunkRanges::all());
        store.import_bao(name, LARGE_LEN as u64, ChunkRanges::all(), stream).await.unwrap();
        assert!(has(&store, 1, LARGE_LEN).await);
    }
}

#[tokio::test]
async fn partial_blob_without_its_files_is_damaged_and_an_import_mends_it() {
    let dir = with_partial().await;
    for extension in ["data", "pairs", "bits"] {
        let copy = copy(dir.path());
        fs::remove_file(partial_file(copy.path(), extension)).unwrap();
        let store = open(tiny(copy.path())).await;
        let name = hash(1, LARGE_LEN);
        let found = store.present_ranges(&name).await;
        match extension {
            "bits" => assert_eq!(found.unwrap(), Some(ChunkRanges::empty())),
            _ => assert!(matches!(found, Err(Error::Damaged { .. })), "{found:?}"),
        }
        import(&store, 1, LARGE_LEN).await;
        assert!(has(&store, 1, LARGE_LEN).await);
        store.shutdown().await.unwrap();
        support::files::check_files(copy.path());
    }
}

#[tokio::test]
async fn partial_blob_with_wrong_bytes_hands_on_none_of_them() {
    let dir = with_partial().await;
    flip(&partial_file(dir.path(), "data"), 40_000);
    let store = open(tiny(dir.path())).await;
    let stream = store.export_bao(hash(1, LARGE_LEN), chunks(0..64), Vec::new()).await;
    assert!(matches!(stream, Err(Error::Mismatch { .. })), "{stream:?}");
}

#[tokio::test]
async fn file_of_the_users_that_changed_is_never_served_as_the_blob() {
    let (dir, user) = (temp_dir(), temp_dir());
    let path = user.path().join("file");
    let data = content(1, LARGE_LEN);
    let store = open(tiny(dir.path())).await;
    let rewrite: [fn(&Path); 4] = [
        |path| flip(path, 50_000),
        |path| change(path, |bytes| bytes.truncate(10)),
        |path| change(path, |bytes| bytes.push(0)),
        |path| fs::remove_file(path).unwrap(),
    ];
    for rewrite in rewrite {
        fs::write(&path, &data).unwrap();
        let import =
            store.import_file(path.clone(), ImportMode::TryReference, BlobFormat::Raw, Progress::none());
        let name = import.await.unwrap().0.hash();
        assert_eq!(store.read_to_bytes(name).await.unwrap(), data);
        rewrite(&path);
        for read in [store.read_to_bytes(name).await, store.read_verified(name, 0..u64::MAX).await] {
            assert!(matches!(read, Err(Error::Changed { .. } | Error::FileNotFound { .. })), "{read:?}");
        }
        fs::write(&path, &data).unwrap();
        assert_eq!(store.read_to_bytes(name).await.unwrap(), data);
    }
}

#[tokio::test]
async fn files_whose_records_may_be_damaged_are_put_aside_and_not_removed() {
    let dir = temp_dir();
    let one_segment = |dir: &Path| Options { segment_size: 16 << 20, ..lazy(dir) };
    let store = open(one_segment(dir.path())).await;
    for seed in LARGES {
        import(&store, seed, LARGE_LEN).await;
    }
    drop(store);
    let segment = last_segment(dir.path());
    flip(&segment, records(&segment)[1].range.start + 10);
    let store = open(one_segment(dir.path())).await;
    assert_eq!(store.recovery().damaged.len(), 1);
    assert_eq!(store.recovery().quarantined.len(), 2);
    let lens: Vec<_> =
        store.recovery().quarantined.iter().map(|path| fs::metadata(path).unwrap().len()).collect();
    assert!(lens.contains(&(LARGE_LEN as u64)));
    assert_eq!(store.entry_status(&hash(101, LARGE_LEN)).await.unwrap(), EntryStatus::NotFound);
    assert!(has(&store, 100, LARGE_LEN).await && has(&store, 102, LARGE_LEN).await);
}
