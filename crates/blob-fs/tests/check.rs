//! Checking a store and mending it (E53, E65, E68): what is reported, that nothing is lost by it, and that a second run
//! finds nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use blob_fs::FsStore;
use blob_traits::{
    CheckMode, ConsistencyCheckProgress as Event, EntryStatus, Error, Hash, HashAndFormat, Progress,
    ReportLevel, Result, bao_tree::ChunkRanges, prelude::*,
};
use support::{
    bao, chunks, content, copy_dir,
    files::{all_files, assert_same, check_files, last_segment, segments, snapshot},
    has, hash, import, lazy,
    log::{RECORD, SMALL, TAG_SET, change, records},
    open, temp_dir, tiny,
};

/// A file of a blob by its extension, and what is done to it.
type Spoil = (&'static str, fn(&Path));

const SMALL_LEN: usize = 20_000;
const LARGE_LEN: usize = 100_000;
const SMALLS: Range<u64> = 0..8;
const LARGES: Range<u64> = 100..103;
const LAST: u64 = 8;

/// A store of small and large blobs, a partial one, and tags.
async fn filled() -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in SMALLS {
        import(&store, seed, SMALL_LEN).await;
    }
    for seed in LARGES {
        import(&store, seed, LARGE_LEN).await;
    }
    let stream = bao(&content(200, LARGE_LEN), &chunks(0..64));
    store.import_bao(hash(200, LARGE_LEN), LARGE_LEN as u64, chunks(0..64), stream).await.unwrap();
    store.set_tag("tag".into(), Some(HashAndFormat::raw(hash(1, SMALL_LEN)))).await.unwrap();
    // The last record is the one that the index and the log know each other by.
    import(&store, LAST, SMALL_LEN).await;
    store.shutdown().await.unwrap();
    dir
}

/// What a check says, without phases.
async fn check(store: &FsStore, mode: CheckMode) -> Vec<(ReportLevel, String, Option<Hash>)> {
    let (events, result) = events(store, mode).await;
    result.unwrap();
    assert_eq!(events.first(), Some(&Event::Start));
    assert_eq!(events.last(), Some(&Event::Done));
    let inner = events[1..events.len() - 1].iter().map(|event| match event {
        Event::Update { message, entry, level } => (*level, message.clone(), *entry),
        other => panic!("{other:?}"),
    });
    inner.filter(|(level, ..)| *level > ReportLevel::Trace).collect()
}

async fn events(store: &FsStore, mode: CheckMode) -> (Vec<Event>, Result<()>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let progress = Progress::from_fn(move |event| {
        seen.lock().unwrap().push(event);
        Ok(())
    });
    let result = store.consistency_check(mode, progress).await;
    let events = events.lock().unwrap().clone();
    (events, result)
}

/// What is wrong, by a check.
async fn wrong(store: &FsStore, mode: CheckMode) -> Vec<(ReportLevel, String, Option<Hash>)> {
    let mut found = check(store, mode).await;
    found.retain(|(level, ..)| *level >= ReportLevel::Warn);
    found
}

async fn assert_clean(store: &FsStore) {
    assert_eq!(wrong(store, CheckMode::Report).await, []);
}

async fn assert_all_but(store: &FsStore, lost: &[u64]) {
    for (seed, len) in SMALLS.map(|seed| (seed, SMALL_LEN)).chain(LARGES.map(|seed| (seed, LARGE_LEN))) {
        assert_eq!(has(store, seed, len).await, !lost.contains(&seed), "blob {seed}");
    }
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    copy
}

/// A file of a blob.
fn file(dir: &Path, seed: u64, extension: &str) -> PathBuf {
    let name = hash(seed, LARGE_LEN).to_string();
    let is_it = |path: &PathBuf| {
        path.to_str().unwrap().contains(&name) && path.extension().is_some_and(|found| found == extension)
    };
    all_files(dir).into_iter().find(is_it).unwrap()
}

#[tokio::test]
async fn clean_store_has_nothing_wrong_and_checking_changes_nothing() {
    let dir = filled().await;
    let store = open(lazy(dir.path())).await;
    let before = snapshot(dir.path());
    assert_clean(&store).await;
    assert_same(&before, &snapshot(dir.path()));
    // The room that is used is told all the same.
    assert!(check(&store, CheckMode::Report).await.iter().any(|(_, what, _)| what.contains("dead")));
    assert_eq!(wrong(&store, CheckMode::Repair).await, []);
    assert_same(&before, &snapshot(dir.path()));
}

#[tokio::test]
async fn store_that_is_written_to_has_nothing_wrong() {
    let dir = filled().await;
    let store = open(tiny(dir.path())).await;
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for seed in 0..60 {
                let len = if seed % 3 == 0 { LARGE_LEN } else { 3_000 };
                let name = import(&store, 1_000 + seed, len).await;
                let stream = bao(&content(2_000 + seed, LARGE_LEN), &chunks(0..64));
                let partial = hash(2_000 + seed, LARGE_LEN);
                store.import_bao(partial, LARGE_LEN as u64, chunks(0..64), stream).await.unwrap();
                store.sync().await.unwrap();
                if seed % 2 == 0 {
                    store.delete(vec![name, partial]).await.unwrap();
                }
            }
        }
    });
    while !writer.is_finished() {
        assert_eq!(wrong(&store, CheckMode::Repair).await, []);
    }
    writer.await.unwrap();
    assert_eq!(store.quarantined().await.unwrap(), []);
    assert_all_but(&store, &[]).await;
    store.shutdown().await.unwrap();
    check_files(dir.path());
}

#[tokio::test]
async fn files_without_a_record_are_put_aside_listed_and_purged() {
    let dir = filled().await;
    let store = open(tiny(dir.path())).await;
    let stray = hash(900, LARGE_LEN);
    let in_data = dir.path().join("data").join(&stray.to_string()[..2]);
    fs::create_dir_all(&in_data).unwrap();
    let name = format!("{stray}-00000000000000ab");
    let paths = [
        in_data.join(format!("{name}.data")),
        in_data.join(format!("{name}.obao4")),
        dir.path().join("partial").join(format!("{name}.bits")),
        dir.path().join("temp").join(format!("{name}.data")),
    ];
    for path in &paths {
        fs::write(path, b"might be data").unwrap();
    }
    let found = wrong(&store, CheckMode::Report).await;
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|(level, _, entry)| *level == ReportLevel::Warn && *entry == Some(stray)));
    assert!(paths.iter().all(|path| path.exists()));
    assert_eq!(wrong(&store, CheckMode::Repair).await.len(), 4);
    assert!(paths.iter().all(|path| !path.exists()));
    assert_clean(&store).await;
    let aside = store.quarantined().await.unwrap();
    assert_eq!(aside.len(), 4);
    assert!(aside.iter().all(|file| file.hash == Some(stray) && file.size == 13));
    assert!(aside.iter().any(|file| file.name == format!("{name}.bits")));
    assert_eq!(fs::read(&aside[0].path).unwrap(), b"might be data");
    assert_eq!(store.space().await.unwrap().quarantine_bytes, 52);
    assert_eq!(store.purge_quarantine().await.unwrap(), 52);
    assert_eq!((store.quarantined().await.unwrap(), store.purge_quarantine().await.unwrap()), (vec![], 0));
}

#[tokio::test]
async fn leftovers_are_removed_and_what_is_not_the_stores_is_left_alone() {
    let dir = filled().await;
    let store = open(tiny(dir.path())).await;
    let stale = dir.path().join("temp/00000000000000ab.data");
    fs::write(&stale, b"x").unwrap();
    let strange = ["notes.txt", "log/notes", "data/notes", "data/00/notes", "partial/notes", "temp/notes"];
    fs::create_dir_all(dir.path().join("data/00")).unwrap();
    for name in strange {
        fs::write(dir.path().join(name), b"mine").unwrap();
    }
    fs::create_dir(dir.path().join("temp/mine")).unwrap();
    std::os::unix::fs::symlink("/nowhere", dir.path().join("data/link")).unwrap();
    assert_eq!(wrong(&store, CheckMode::Report).await.len(), strange.len() + 3);
    assert!(stale.exists());
    assert_eq!(wrong(&store, CheckMode::Repair).await.len(), strange.len() + 3);
    assert!(!stale.exists());
    let still = wrong(&store, CheckMode::Repair).await;
    assert_eq!(still.len(), strange.len() + 2);
    for name in strange {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), b"mine");
        assert!(still.iter().any(|(level, what, _)| *level == ReportLevel::Warn && what.starts_with(name)));
    }
    assert!(dir.path().join("temp/mine").exists() && dir.path().join("data/link").is_symlink());
}

#[tokio::test]
async fn outboard_that_is_missing_or_of_the_wrong_length_is_computed_anew() {
    let dir = filled().await;
    let spoil: [fn(&Path); 4] = [
        |path| fs::remove_file(path).unwrap(),
        |path| change(path, |bytes| bytes.truncate(70)),
        |path| change(path, Vec::clear),
        |path| change(path, |bytes| bytes.extend([0; 64])),
    ];
    for spoil in spoil {
        let copy = copy(dir.path());
        let path = file(copy.path(), 101, "obao4");
        let before = fs::read(&path).unwrap();
        spoil(&path);
        let store = open(tiny(copy.path())).await;
        let found = wrong(&store, CheckMode::Report).await;
        assert!(
            matches!(found.as_slice(), [(ReportLevel::Error, _, Some(name))] if *name == hash(101, LARGE_LEN))
        );
        assert_eq!(wrong(&store, CheckMode::Repair).await, found);
        assert_clean(&store).await;
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_all_but(&store, &[]).await;
        store.shutdown().await.unwrap();
        check_files(copy.path());
    }
}

#[tokio::test]
async fn bytes_behind_the_end_of_a_blob_are_put_aside() {
    let dir = filled().await;
    let path = file(dir.path(), 101, "data");
    change(&path, |bytes| bytes.extend(b"surplus"));
    let store = open(tiny(dir.path())).await;
    assert_eq!(wrong(&store, CheckMode::Report).await.len(), 1);
    assert_eq!(wrong(&store, CheckMode::Repair).await.len(), 1);
    assert_clean(&store).await;
    assert_eq!(fs::read(&path).unwrap(), content(101, LARGE_LEN));
    let [aside] = store.quarantined().await.unwrap().try_into().unwrap();
    assert_eq!(fs::read(aside.path).unwrap(), b"surplus");
}

#[tokio::test]
async fn partial_blob_whose_files_are_bad_begins_anew() {
    let dir = filled().await;
    let name = hash(200, LARGE_LEN);
    let spoil: [Spoil; 6] = [
        ("bits", |path| fs::remove_file(path).unwrap()),
        ("bits", |path| change(path, |bytes| bytes[20] ^= 1)),
        ("data", |path| fs::remove_file(path).unwrap()),
        ("pairs", |path| fs::remove_file(path).unwrap()),
        ("data", |path| change(path, Vec::clear)),
        ("data", |path| change(path, |bytes| bytes.truncate(40 * 1024))),
    ];
    for (i, (extension, spoil)) in spoil.into_iter().enumerate() {
        let copy = copy(dir.path());
        spoil(&file(copy.path(), 200, extension));
        let store = open(tiny(copy.path())).await;
        let found = wrong(&store, CheckMode::Report).await;
        assert!(
            !found.is_empty()
                && found.iter().all(|(level, _, entry)| (*level, *entry) == (ReportLevel::Error, Some(name)))
        );
        assert_eq!(wrong(&store, CheckMode::Repair).await, found);
        assert_clean(&store).await;
        let left = store.present_ranges(&name).await.unwrap().unwrap();
        // 40 KiB are two groups and a half.
        assert_eq!(left, if i == 5 { chunks(0..32) } else { ChunkRanges::empty() });
        let stream = bao(&content(200, LARGE_LEN), &ChunkRanges::all());
        store.import_bao(name, LARGE_LEN as u64, ChunkRanges::all(), stream).await.unwrap();
        assert!(has(&store, 200, LARGE_LEN).await);
        assert_all_but(&store, &[]).await;
    }
}

#[tokio::test]
async fn tags_that_point_to_nothing_and_files_that_changed_are_told_each_time() {
    let (dir, user) = (filled().await, temp_dir());
    let path = user.path().join("file");
    fs::write(&path, content(300, LARGE_LEN)).unwrap();
    let store = open(tiny(dir.path())).await;
    let options = blob_traits::ImportMode::TryReference;
    let imported = store.import_file(path.clone(), options, blob_traits::BlobFormat::Raw, Progress::none());
    let name = imported.await.unwrap().0.hash();
    let gone = hash(901, 1);
    store.set_tag("dangling".into(), Some(HashAndFormat::raw(gone))).await.unwrap();
    change(&path, |bytes| bytes.push(0));
    for mode in [CheckMode::Report, CheckMode::Repair, CheckMode::Repair] {
        let found = wrong(&store, mode).await;
        assert!(found.iter().all(|(level, ..)| *level == ReportLevel::Warn));
        let mut entries: Vec<_> = found.iter().map(|(.., entry)| entry.unwrap()).collect();
        entries.sort();
        let mut expected = vec![gone, name];
        expected.sort();
        assert_eq!(entries, expected);
    }
    assert_eq!(fs::metadata(&path).unwrap().len(), LARGE_LEN as u64 + 1);
    fs::remove_file(&path).unwrap();
    assert!(wrong(&store, CheckMode::Repair).await.iter().any(|(_, what, _)| what.contains("missing")));
}

/// The offset of a record in the log, by kind and a predicate on its bytes.
fn find_record(dir: &Path, kind: u8, is_it: impl Fn(&[u8]) -> bool) -> (PathBuf, Range<usize>) {
    for segment in segments(dir) {
        let bytes = fs::read(&segment).unwrap();
        for record in records(&segment) {
            if record.kind == kind && is_it(&bytes[record.range.clone()]) {
                return (segment, record.range);
            }
        }
    }
    panic!("no such record");
}

#[tokio::test]
async fn records_that_are_damaged_are_written_anew_where_what_they_said_is_known() {
    let dir = filled().await;
    let large = hash(101, LARGE_LEN);
    let small = hash(3, SMALL_LEN);
    let of = |name: Hash| move |bytes: &[u8]| bytes[24..56] == *name.as_bytes();
    let (partial, first_large) = (hash(200, LARGE_LEN), find_record(dir.path(), 2, of(large)));
    let damaged = [
        first_large,
        find_record(dir.path(), 4, of(partial)),
        find_record(dir.path(), TAG_SET, |_| true),
        // Its header alone: the bytes are there, and prove themselves.
        find_record(dir.path(), SMALL, of(small)),
    ];
    for (segment, range) in &damaged {
        change(segment, |bytes| bytes[range.start + 10] ^= 1);
    }
    let store = open(tiny(dir.path())).await;
    let found = wrong(&store, CheckMode::Report).await;
    for name in [large, partial, small, hash(1, SMALL_LEN)] {
        assert!(
            found.iter().any(|(level, _, entry)| (*level, *entry) == (ReportLevel::Error, Some(name))),
            "{found:?}"
        );
    }
    assert_all_but(&store, &[]).await;
    wrong(&store, CheckMode::Repair).await;
    assert_clean(&store).await;
    assert_all_but(&store, &[]).await;
    assert_eq!(store.present_ranges(&partial).await.unwrap().unwrap(), chunks(0..64));
    // What could not be read is kept.
    assert!(store.quarantined().await.unwrap().len() >= 3);
    store.shutdown().await.unwrap();
    check_files(dir.path());
    for forget in [false, true] {
        if forget {
            fs::remove_file(dir.path().join("index.redb")).unwrap();
        }
        let store = open(tiny(dir.path())).await;
        assert!(store.recovery().damaged.is_empty() && !store.recovery().holds_collection);
        assert_all_but(&store, &[]).await;
        assert_eq!(store.present_ranges(&partial).await.unwrap().unwrap(), chunks(0..64));
        assert!(store.get_tag(&"tag".into()).await.unwrap().is_some());
        assert_clean(&store).await;
        store.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn segment_that_is_damaged_while_the_store_is_open_is_mended() {
    let dir = filled().await;
    for spoil in [0, 1, 2] {
        let copy = copy(dir.path());
        let store = open(tiny(copy.path())).await;
        let segment = segments(copy.path())[1].clone();
        match spoil {
            0 => change(&segment, |bytes| bytes[20] ^= 1),
            1 => fs::remove_file(&segment).unwrap(),
            _ => change(&segment, |bytes| bytes.truncate(4096 + RECORD)),
        }
        assert!(!wrong(&store, CheckMode::Report).await.is_empty());
        let repaired = wrong(&store, CheckMode::Repair).await;
        assert!(!repaired.is_empty());
        assert_clean(&store).await;
        store.shutdown().await.unwrap();
        let store = open(tiny(copy.path())).await;
        assert_clean(&store).await;
        let mut gone = Vec::new();
        for seed in SMALLS {
            if !has(&store, seed, SMALL_LEN).await {
                gone.push(seed);
            }
        }
        // A segment has three of them.
        assert!(gone.len() <= 3, "{gone:?}");
        assert!(LARGES.count() == 3 && has(&store, 101, LARGE_LEN).await);
    }
}

#[tokio::test]
async fn blob_whose_file_is_missing_or_short_becomes_partial() {
    let dir = filled().await;
    let name = hash(101, LARGE_LEN);
    let spoil: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| change(path, |bytes| bytes.truncate(40 * 1024)),
        |path| change(path, Vec::clear),
    ];
    for (i, spoil) in spoil.into_iter().enumerate() {
        let copy = copy(dir.path());
        spoil(&file(copy.path(), 101, "data"));
        let store = open(tiny(copy.path())).await;
        let found = wrong(&store, CheckMode::Report).await;
        assert!(
            matches!(found.as_slice(), [(ReportLevel::Error, _, Some(entry))] if *entry == name),
            "{found:?}"
        );
        assert_eq!(wrong(&store, CheckMode::Repair).await, found);
        assert_clean(&store).await;
        assert_eq!(store.entry_status(&name).await.unwrap(), EntryStatus::Partial);
        let left = store.present_ranges(&name).await.unwrap().unwrap();
        assert_eq!(left, if i == 1 { chunks(0..32) } else { ChunkRanges::empty() });
        assert_all_but(&store, &[101]).await;
        store.shutdown().await.unwrap();
        let store = open(tiny(copy.path())).await;
        assert_clean(&store).await;
        let stream = bao(&content(101, LARGE_LEN), &ChunkRanges::all());
        store.import_bao(name, LARGE_LEN as u64, ChunkRanges::all(), stream).await.unwrap();
        assert_all_but(&store, &[]).await;
        assert_clean(&store).await;
    }
}

#[tokio::test]
async fn damage_met_on_opening_holds_collection_until_it_is_repaired() {
    let dir = temp_dir();
    let store = open(lazy(dir.path())).await;
    for seed in SMALLS {
        import(&store, seed, 3_000).await;
    }
    drop(store);
    let segment = last_segment(dir.path());
    let at = records(&segment)[3].range.start;
    change(&segment, |bytes| bytes[at + 30] ^= 1);
    for reopened in [false, true] {
        let store = open(tiny(dir.path())).await;
        assert!(store.recovery().holds_collection && store.recovery().damaged.is_empty() == reopened);
        assert!(matches!(store.begin_sweep().await, Err(Error::DamagedStore { .. })));
        assert!(!wrong(&store, CheckMode::Report).await.is_empty());
        if reopened {
            assert!(!wrong(&store, CheckMode::Repair).await.is_empty());
            assert_clean(&store).await;
            store.begin_sweep().await.unwrap();
        }
        store.shutdown().await.unwrap();
    }
    let store = open(tiny(dir.path())).await;
    assert!(!store.recovery().holds_collection && store.recovery().damaged.is_empty());
    store.begin_sweep().await.unwrap();
    assert_eq!(store.quarantined().await.unwrap().len(), 1);
    assert!(has(&store, 2, 3_000).await && has(&store, 4, 3_000).await);
}

#[tokio::test]
async fn check_ends_when_nobody_listens_or_the_store_closes() {
    let dir = filled().await;
    let store = open(tiny(dir.path())).await;
    let (progress, receiver) = Progress::channel(1);
    drop(receiver);
    assert!(matches!(store.consistency_check(CheckMode::Report, progress).await, Err(Error::Cancelled)));
    store.shutdown().await.unwrap();
    let (events, result) = events(&store, CheckMode::Report).await;
    assert!(matches!(result, Err(Error::Closed)));
    assert!(matches!(events.as_slice(), [Event::Start, Event::Abort(_)]), "{events:?}");
}
