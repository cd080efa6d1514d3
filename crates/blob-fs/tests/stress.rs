//! Many at once (RELIABILITY L4): random histories from several tasks, checked against a model for each key, while the
//! index is committed all the time.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use blob_fs::{Durability, FsStore, Options};
use blob_traits::{
    BlobFormat, EntryStatus, Hash, HashAndFormat, ImportSource, Progress, Tag, TagRange, collect, prelude::*,
};
use support::{
    DURABILITIES, Dice, bao, chunks, content,
    files::{all_files, check_files, last_segment, segments},
    hash, import,
    log::{DELETE, MARK, RECORD, TAG_DELETE, TAG_SET, records},
    open, temp_dir, tiny,
};

const TASKS: u64 = 8;
const ROUNDS: u64 = 200;
/// The blobs of one task, by number: small ones, and some that have files.
const KEYS: u64 = 10;
/// Blobs that all tasks import and nobody deletes.
const SHARED: u64 = 1 << 32;
/// Blobs that all tasks import and delete.
const CHURNED: u64 = 1 << 33;

fn len(key: u64) -> usize {
    [100, 3_000, 20_000, 66_000, 90_000][(key % 5) as usize]
}

/// What one task knows about its own keys.
#[derive(Debug)]
struct Model {
    task: u64,
    there: BTreeSet<u64>,
    tags: BTreeMap<u64, u64>,
}

impl Model {
    fn key(&self, i: u64) -> u64 {
        self.task * 1000 + i
    }

    fn tag(&self, i: u64) -> Tag {
        format!("{}/{i}", self.task).as_str().into()
    }

    async fn step(&mut self, store: &FsStore, dice: &mut Dice) {
        let (i, j) = (dice.roll(KEYS), dice.roll(KEYS));
        let key = self.key(i);
        let target = HashAndFormat::raw(hash(key, len(key)));
        match dice.roll(12) {
            0..4 => {
                import(store, key, len(key)).await;
                self.there.insert(key);
            }
            4..6 => {
                let both = [key, self.key(j)];
                store.delete(both.map(|key| hash(key, len(key))).to_vec()).await.unwrap();
                self.there.retain(|key| !both.contains(key));
            }
            6 => {
                let source = ImportSource::Bytes(content(key, len(key)));
                store.import_tagged(source, BlobFormat::Raw, self.tag(j), Progress::none()).await.unwrap();
                self.there.insert(key);
                self.tags.insert(j, key);
            }
            7 => {
                store.set_tag(self.tag(j), Some(target)).await.unwrap();
                self.tags.insert(j, key);
            }
            8 => {
                store.delete_tags(TagRange::one(self.tag(j))).await.unwrap();
                self.tags.remove(&j);
            }
            9 => {
                let renamed = store.rename_tag(self.tag(i), self.tag(j)).await;
                let moved = self.tags.remove(&i);
                assert_eq!(renamed.is_ok(), moved.is_some());
                self.tags.extend(moved.map(|key| (j, key)));
            }
            10 => {
                let all = chunks(0..(len(key) as u64).div_ceil(1024));
                let stream = bao(&content(key, len(key)), &all);
                store.import_bao(target.hash, len(key) as u64, all, stream).await.unwrap();
                self.there.insert(key);
            }
            _ => churn(store, dice).await,
        }
    }

    async fn check_some(&self, store: &FsStore, dice: &mut Dice) {
        let (key, i) = (self.key(dice.roll(KEYS)), dice.roll(KEYS));
        assert_eq!(support::has(store, key, len(key)).await, self.there.contains(&key), "{key}");
        let tag = store.get_tag(&self.tag(i)).await.unwrap().map(|content| content.hash);
        assert_eq!(tag, self.tags.get(&i).map(|key| hash(*key, len(*key))));
    }

    async fn check_all(&self, store: &FsStore) {
        for key in (0..KEYS).map(|i| self.key(i)) {
            assert_eq!(support::has(store, key, len(key)).await, self.there.contains(&key), "{key}");
        }
        let tags = collect(store.tags_with_prefix(format!("{}/", self.task)).await.unwrap()).await.unwrap();
        let tags: BTreeMap<Tag, Hash> = tags.into_iter().map(|(tag, content)| (tag, content.hash)).collect();
        let expected = self.tags.iter().map(|(i, key)| (self.tag(*i), hash(*key, len(*key))));
        assert_eq!(tags, expected.collect());
    }
}

/// Does something to the blobs of all.
async fn churn(store: &FsStore, dice: &mut Dice) {
    let shared = SHARED + dice.roll(6);
    let name = import(store, shared, len(shared)).await;
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().binary_search(&name).is_ok());
    let churned = CHURNED + dice.roll(5);
    if dice.roll(2) == 0 {
        import(store, churned, len(churned)).await;
    } else {
        store.delete(vec![hash(churned, len(churned))]).await.unwrap();
    }
}

async fn work(store: FsStore, task: u64) -> Model {
    let (mut model, mut dice) = (Model { task, there: BTreeSet::new(), tags: BTreeMap::new() }, Dice(task));
    for _ in 0..ROUNDS {
        model.step(&store, &mut dice).await;
        model.check_some(&store, &mut dice).await;
    }
    model
}

/// Which of the blobs that all import and delete are there.
async fn churned(store: &FsStore) -> Vec<bool> {
    let mut there = Vec::new();
    for key in CHURNED..CHURNED + 5 {
        there.push(support::has(store, key, len(key)).await);
    }
    there
}

async fn run_history(durability: Durability) {
    let dir = temp_dir();
    let options = || Options { durability, open_files: 4, ..tiny(dir.path()) };
    let store = open(options()).await;
    let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(work(store.clone(), task))).collect();
    let mut models = Vec::new();
    for task in tasks {
        models.push(task.await.unwrap());
    }
    let before = churned(&store).await;
    let mut store = Some(store);
    for shut_down in [true, false, true] {
        if let Some(store) = store.take() {
            for model in &models {
                model.check_all(&store).await;
            }
            assert_eq!(churned(&store).await, before);
            if shut_down {
                store.shutdown().await.unwrap();
            }
        }
        store = Some(open(options()).await);
    }
    store.unwrap().shutdown().await.unwrap();
    check_files(dir.path());
    check_kills(dir.path());
}

/// Checks that each record names the segment of the record that it makes dead (E56).
fn check_kills(dir: &Path) {
    let mut last: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for (segment, path) in (1..).zip(segments(dir)) {
        let bytes = fs::read(&path).unwrap();
        for record in records(&path) {
            for (key, kills) in killed(&bytes[record.range.start..record.payload_end], record.kind) {
                let before = last.remove(&key).unwrap_or(0);
                assert_eq!(kills, before, "record {} in segment {segment}", record.seq);
                if ![DELETE, TAG_DELETE].contains(&record.kind) {
                    last.insert(key, segment);
                }
            }
        }
    }
}

/// The keys of a record, and the segments that it names for them.
fn killed(record: &[u8], kind: u8) -> Vec<(Vec<u8>, u32)> {
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
    let (header, mut payload) = record.split_at(RECORD);
    let mut killed = Vec::new();
    match kind {
        DELETE => killed.extend(payload.chunks(36).map(|entry| (entry[..32].to_vec(), number(&entry[32..])))),
        TAG_SET => killed.push(([b"tag", &payload[1..]].concat(), number(&header[64..]))),
        TAG_DELETE => {
            while let [k0, k1, k2, k3, l0, l1, rest @ ..] = payload {
                let (name, rest) = rest.split_at(u16::from_le_bytes([*l0, *l1]).into());
                killed.push(([b"tag", name].concat(), u32::from_le_bytes([*k0, *k1, *k2, *k3])));
                payload = rest;
            }
        }
        MARK => {}
        _ => killed.push((header[24..56].to_vec(), number(&header[64..]))),
    }
    killed
}

/// Changes one tag and one blob from several tasks, so that records for one key come in one group.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_of_one_key_in_one_group_name_what_they_make_dead() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    let change = |task: u64| {
        let store = store.clone();
        async move {
            for i in 0..40 {
                store.set_tag("tag".into(), Some(HashAndFormat::raw(hash(i, 1)))).await.unwrap();
                import(&store, 1, 9_000).await;
                if task.is_multiple_of(2) {
                    store.delete(vec![hash(1, 9_000)]).await.unwrap();
                    store.set_tag("tag".into(), None).await.unwrap();
                }
            }
        }
    };
    let tasks: Vec<_> = (0..8).map(|task| tokio::spawn(change(task))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    check_kills(dir.path());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_histories_of_several_tasks_agree_with_their_models() {
    for durability in DURABILITIES {
        run_history(durability).await;
    }
}

/// Imports one blob from many tasks at once.
async fn import_at_once(store: &FsStore, n: usize, len: usize) {
    let tasks: Vec<_> = (0..n)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.import_bytes(content(1, len), BlobFormat::Raw).await })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap().hash(), hash(1, len));
    }
    assert!(support::has(store, 1, len).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_imports_of_one_content_make_one_record() {
    for (n, len) in [(200, 30_000), (60, 70_000)] {
        for durability in DURABILITIES {
            let dir = temp_dir();
            let store = open(Options { durability, ..tiny(dir.path()) }).await;
            import_at_once(&store, n, len).await;
            assert_eq!(segments(dir.path()).len(), 1);
            assert_eq!(records(&last_segment(dir.path())).len(), 1);
            store.shutdown().await.unwrap();
            check_files(dir.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_readers_share_few_open_files() {
    let dir = temp_dir();
    let store = open(Options { open_files: 2, ..tiny(dir.path()) }).await;
    for (seed, len) in [(1, 30_000), (2, 200_000)] {
        import(&store, seed, len).await;
        let readers: Vec<_> = (0..500)
            .map(|i: u64| {
                let (store, from) = (store.clone(), i * 37);
                tokio::spawn(async move { store.read_verified(hash(seed, len), from..from + 5_000).await })
            })
            .collect();
        let data = content(seed, len);
        for (i, reader) in readers.into_iter().enumerate() {
            assert_eq!(reader.await.unwrap().unwrap(), data[i * 37..i * 37 + 5_000]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_of_one_partial_blob_meet_in_one_entry() {
    for len in [40_000, 300_000] {
        let dir = temp_dir();
        let store = open(tiny(dir.path())).await;
        let (name, data) = (hash(1, len), content(1, len));
        let n_chunks = (len as u64).div_ceil(1024);
        let writers: Vec<_> = (0..n_chunks.div_ceil(16))
            .map(|i| {
                let (store, some) = (store.clone(), chunks(i * 16..n_chunks.min(i * 16 + 16)));
                let stream = bao(&data, &some);
                tokio::spawn(async move { store.import_bao(name, len as u64, some, stream).await.map(drop) })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(store.entry_status(&name).await.unwrap(), EntryStatus::Complete);
        assert!(support::has(&store, 1, len).await);
        store.shutdown().await.unwrap();
        check_files(dir.path());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn imports_whose_futures_are_dropped_leave_nothing_or_all() {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    let mut dice = Dice(3);
    for seed in 0..200 {
        let len = len(seed);
        let task = tokio::spawn({
            let store = store.clone();
            async move { store.import_bytes(content(seed, len), BlobFormat::Raw).await }
        });
        for _ in 0..dice.roll(4) {
            tokio::task::yield_now().await;
        }
        task.abort();
        let _ = task.await;
    }
    import(&store, 1000, 100).await;
    store.shutdown().await.unwrap();
    drop(store);
    let store = open(tiny(dir.path())).await;
    for seed in 0..200 {
        support::has(&store, seed, len(seed)).await;
    }
    assert!(support::has(&store, 1000, 100).await);
    store.shutdown().await.unwrap();
    check_files(dir.path());
    assert!(
        all_files(&dir.path().join("temp")).is_empty() && fs::exists(dir.path().join("index.redb")).unwrap()
    );
}
