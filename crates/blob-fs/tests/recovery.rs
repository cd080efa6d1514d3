//! Opening (E62-E69): after a shutdown, after a crash, with a torn tail, without the index, with another one.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_fs::{FsStore, Options, Recovery};
use blob_traits::{Delete as _, Error, prelude::*};
use redb::{Database, TableDefinition};
use support::{
    Dice, accepting, copy_dir,
    files::{all_files, assert_same, check_files, last_segment, segments, snapshot},
    has, hash, import, lazy,
    log::{DELETE, HEADER, RECORD, append_record, change, records, set_version},
    open,
    steps::{
        self,
        Step::{self, Bao, CreateTag, Delete, DropTags, Import, MoveOut, Refer, Rename, SetTag, Tagged},
    },
    temp_dir, tiny,
    world::World,
};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Something of everything, each step one transaction of the log.
const STEPS: [Step; 23] = [
    Import(1, 0),
    Import(2, 100),
    Import(3, 20_000),
    Import(4, 70_000),
    Tagged(5, 3_000, "a/5"),
    SetTag("b/4", 4, 70_000),
    CreateTag(3, 20_000),
    Bao(6, 150_000, 0, 64),
    Bao(7, 40_000, 0, 16),
    Delete(2, 100),
    Refer(8, 90_000),
    Import(9, 66_000),
    Delete(4, 70_000),
    SetTag("c/1", 9, 66_000),
    Rename("c/1", "c/2", 9, 66_000),
    Bao(7, 40_000, 16, 40),
    Import(2, 100),
    Import(10, 68_000),
    Bao(6, 150_000, 64, 147),
    MoveOut(10, 68_000),
    DropTags("a/"),
    Delete(8, 90_000),
    Import(11, 50_000),
];

/// A store and what is expected of it.
struct Scene {
    dir: tempfile::TempDir,
    world: World,
}

impl Scene {
    /// A store that was dropped after all steps; its index is as old as it can be, or as new.
    async fn dropped(options: impl Fn(PathBuf) -> Options) -> Self {
        let mut scene = Self { dir: temp_dir(), world: World::default() };
        let store = scene.begin(options).await;
        for step in STEPS {
            scene.step(&store, step).await;
        }
        scene
    }
    async fn shut_down(options: impl Fn(PathBuf) -> Options) -> Self {
        let scene = Self::dropped(&options).await;
        open(options(scene.store())).await.shutdown().await.unwrap();
        scene
    }
    async fn begin(&self, options: impl Fn(PathBuf) -> Options) -> FsStore {
        fs::create_dir(self.dir.path().join("user")).unwrap();
        open(options(self.store())).await
    }
    async fn step(&mut self, store: &FsStore, step: Step) {
        steps::run(step, store, &mut self.world, &self.dir.path().join("user")).await.unwrap();
    }
    fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }
    fn index(&self) -> PathBuf {
        self.store().join("index.redb")
    }
    /// A copy of the store, which a test may spoil. The user's files stay where they are.
    fn copy(&self) -> tempfile::TempDir {
        let copy = temp_dir();
        copy_dir(&self.store(), copy.path());
        copy
    }
}

/// Opens a store, checks what is in it, uses it, and checks again.
async fn check(dir: &Path, world: &World) -> Recovery {
    let store = open(tiny(dir)).await;
    let recovery = store.recovery().clone();
    world.check(&store).await;
    import(&store, 100, 100).await;
    import(&store, 101, 70_000).await;
    drop(store);
    let store = open(tiny(dir)).await;
    assert!(store.recovery().damaged.is_empty(), "{:?}", store.recovery());
    assert!(has(&store, 100, 100).await && has(&store, 101, 70_000).await);
    store.delete(vec![hash(100, 100), hash(101, 70_000)]).await.unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    let store = open(tiny(dir)).await;
    world.check(&store).await;
    store.shutdown().await.unwrap();
    check_files(dir);
    recovery
}

#[tokio::test]
async fn all_is_there_after_a_shutdown_and_nothing_is_replayed() {
    for options in [|dir: PathBuf| tiny(dir), |dir: PathBuf| lazy(dir)] {
        let scene = Scene::shut_down(options).await;
        check_files(&scene.store());
        assert_eq!(check(&scene.store(), &scene.world).await, Recovery::default());
    }
}

#[tokio::test]
async fn all_is_there_after_a_drop_and_what_the_index_lacks_is_replayed() {
    let scene = Scene::dropped(lazy).await;
    let recovery = check(&scene.store(), &scene.world).await;
    assert!(
        recovery.replayed_records >= STEPS.len() as u64 && recovery.damaged_blobs.is_empty(),
        "{recovery:?}"
    );
    let scene = Scene::dropped(tiny).await;
    check(&scene.store(), &scene.world).await;
}

#[tokio::test]
async fn store_is_rebuilt_without_its_index() {
    for shut_down in [true, false] {
        let scene = if shut_down { Scene::shut_down(tiny).await } else { Scene::dropped(tiny).await };
        assert!(segments(&scene.store()).len() > 2);
        fs::remove_file(scene.index()).unwrap();
        let recovery = check(&scene.store(), &scene.world).await;
        assert!(recovery.rebuilt_index && recovery.damaged_blobs.is_empty(), "{recovery:?}");
    }
}

/// A store whose log is one segment, with the world and the length of the log after each step. No file is removed, as
/// if the power had gone before the store came to it.
async fn history() -> (Scene, Vec<(usize, World)>) {
    let one_segment = |dir| Options { segment_size: 16 << 20, ..lazy(dir) };
    let mut scene = Scene { dir: temp_dir(), world: World::default() };
    let store = scene.begin(one_segment).await;
    let (mut history, mut entries) = (vec![(HEADER, scene.world.clone())], Vec::new());
    for step in STEPS {
        scene.step(&store, step).await;
        for hash in scene.world.blobs() {
            entries.extend(store.get(&hash).await.unwrap());
        }
        let len = fs::metadata(last_segment(&scene.store())).unwrap().len();
        history.push((usize::try_from(len).unwrap(), scene.world.clone()));
    }
    drop(store);
    drop(entries);
    (scene, history)
}

/// Offsets of all classes: around the ends of records and of their parts.
fn offsets(segment: &Path) -> Vec<usize> {
    let inside = |len| [1, 4, RECORD - 8, RECORD - 1, RECORD, RECORD + 1, len / 2, len - 8, len - 1];
    let mut offsets = Vec::new();
    for record in records(segment) {
        let last = record.payload_end - 1;
        offsets.extend(inside(record.range.len()).map(|n| last.min(record.range.start + n)));
        offsets.push(record.range.end);
    }
    offsets.dedup();
    offsets
}

/// Spoils the end of the log from each offset on, and checks that what came before is there.
async fn spoil_tails(every: usize, spoil: impl Fn(&mut Vec<u8>, usize)) {
    let (scene, history) = history().await;
    for offset in offsets(&last_segment(&scene.store())).into_iter().step_by(every) {
        let copy = scene.copy();
        change(&last_segment(copy.path()), |bytes| spoil(bytes, offset));
        let (_, world) = history.iter().rfind(|(end, _)| *end <= offset).unwrap();
        let recovery = check(copy.path(), world).await;
        assert!(recovery.damaged.is_empty() && recovery.damaged_blobs.is_empty(), "{offset}: {recovery:?}");
    }
}

#[tokio::test]
async fn log_that_is_cut_off_keeps_all_whole_transactions() {
    spoil_tails(2, Vec::truncate).await;
}

#[tokio::test]
async fn log_that_ends_in_garbage_keeps_all_whole_transactions() {
    let mut garbage = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut garbage);
    spoil_tails(5, |bytes, offset| {
        let len = bytes.len();
        bytes[offset..].copy_from_slice(&garbage[offset..len]);
    })
    .await;
}

#[tokio::test]
async fn log_that_ends_in_zeros_keeps_all_whole_transactions() {
    spoil_tails(5, |bytes, offset| bytes[offset..].fill(0)).await;
    // As after a crash that extended the file and wrote nothing.
    spoil_tails(20, |bytes, offset| {
        bytes.truncate(offset);
        bytes.resize(offset + 100_000, 0);
    })
    .await;
}

#[tokio::test]
async fn log_that_ends_in_its_own_older_bytes_keeps_all_whole_transactions() {
    spoil_tails(9, |bytes, offset| {
        let older = bytes[HEADER..offset.min(HEADER + 20_000)].to_vec();
        bytes.truncate(offset);
        bytes.extend(older);
    })
    .await;
}

#[tokio::test]
async fn torn_bytes_are_counted() {
    let scene = Scene::dropped(lazy).await;
    change(&last_segment(&scene.store()), |bytes| bytes.extend([7; 1000]));
    let store = open(lazy(scene.store())).await;
    assert_eq!(store.recovery().torn_bytes, 1000);
}

#[tokio::test]
async fn index_that_is_none_is_put_aside_and_built_anew() {
    let scene = Scene::shut_down(tiny).await;
    let other = temp_dir();
    let store = open(tiny(other.path())).await;
    import(&store, 1, 1).await;
    store.shutdown().await.unwrap();
    let whole = fs::read(scene.index()).unwrap();
    let mut garbage = vec![0; 50_000];
    blake3::Hasher::new().finalize_xof().fill(&mut garbage);
    let tables_without_a_meaning = other.path().join("foreign.redb");
    drop(Database::create(&tables_without_a_meaning).unwrap());
    let others =
        [tables_without_a_meaning, other.path().join("index.redb")].map(|path| fs::read(path).unwrap());
    let cut = [0, 1, 320, 4096, whole.len() / 2, whole.len() - 1].map(|len| whole[..len].to_vec());
    for index in others.into_iter().chain(cut).chain([garbage, vec![0; 4096]]) {
        let copy = scene.copy();
        fs::write(copy.path().join("index.redb"), &index).unwrap();
        let recovery = check(copy.path(), &scene.world).await;
        assert!(
            recovery.rebuilt_index && recovery.rebuilt_because.is_some(),
            "{} bytes: {recovery:?}",
            index.len()
        );
        assert_eq!((recovery.losses.len(), recovery.quarantined.len()), (0, 1));
    }
}

#[tokio::test]
async fn index_with_any_byte_changed_is_refused_or_right_or_says_so_later() {
    let scene = Scene::shut_down(tiny).await;
    let len = fs::metadata(scene.index()).unwrap().len();
    let mut dice = Dice(1);
    for _ in 0..60 {
        let copy = scene.copy();
        let at = usize::try_from(dice.roll(len)).unwrap();
        change(&copy.path().join("index.redb"), |bytes| bytes[at] ^= 1 << dice.roll(8));
        match FsStore::open(lazy(copy.path())).await {
            Ok(store) => {
                // What redb does not notice may be wrong; it must not end the process or hang.
                let _ = blob_traits::collect(
                    store.blobs().await.unwrap_or_else(|_| Box::pin(futures_lite::stream::empty())),
                )
                .await;
                let _ = store.read_verified(hash(3, 20_000), 0..u64::MAX).await;
            }
            Err(Error::DamagedStore { .. } | Error::UnsupportedFormat { .. }) => {}
            Err(e) => panic!("byte {at}: {e:?}"),
        }
    }
}

#[tokio::test]
async fn older_index_of_the_same_store_is_brought_up_to_date() {
    for take_at in [1, 4, 9, 14, 19] {
        let mut scene = Scene { dir: temp_dir(), world: World::default() };
        let mut store = scene.begin(tiny).await;
        let mut older = Vec::new();
        for (i, step) in STEPS.into_iter().enumerate() {
            scene.step(&store, step).await;
            if i == take_at {
                store.shutdown().await.unwrap();
                older = fs::read(scene.index()).unwrap();
                store = open(tiny(scene.store())).await;
            }
        }
        store.shutdown().await.unwrap();
        fs::write(scene.index(), older).unwrap();
        let recovery = check(&scene.store(), &scene.world).await;
        assert!(recovery.replayed_records > 0 && recovery.damaged_blobs.is_empty(), "{recovery:?}");
    }
}

#[tokio::test]
async fn index_that_is_ahead_of_the_log_is_refused() {
    let scene = Scene::shut_down(lazy).await;
    let older = scene.copy();
    let store = open(lazy(scene.store())).await;
    import(&store, 200, 3_000).await;
    store.shutdown().await.unwrap();
    fs::copy(scene.index(), older.path().join("index.redb")).unwrap();
    let before = snapshot(older.path());
    let refused = FsStore::open(tiny(older.path())).await;
    assert!(matches!(refused, Err(Error::DamagedStore { .. })), "{refused:?}");
    assert_same(&before, &snapshot(older.path()));
    fs::remove_file(older.path().join("index.redb")).unwrap();
    check(older.path(), &scene.world).await;
}

/// Opens a store of a newer release, which must leave it as it is.
async fn assert_unsupported(dir: &Path) {
    let before = snapshot(dir);
    for _ in 0..2 {
        let refused = FsStore::open(tiny(dir)).await;
        assert!(matches!(refused, Err(Error::UnsupportedFormat { .. })), "{refused:?}");
        assert_same(&before, &snapshot(dir));
    }
}

#[tokio::test]
async fn segment_of_a_newer_version_is_refused_and_nothing_is_changed() {
    let scene = Scene::dropped(tiny).await;
    let n = segments(&scene.store()).len();
    for i in [0, n / 2, n - 1] {
        let copy = scene.copy();
        set_version(&segments(copy.path())[i], 2);
        assert_unsupported(copy.path()).await;
        set_version(&segments(copy.path())[i], 1);
        check(copy.path(), &scene.world).await;
    }
}

#[tokio::test]
async fn index_of_a_newer_version_is_refused_and_nothing_is_changed() {
    let scene = Scene::dropped(tiny).await;
    let set_version = |version: u32| {
        let index = Database::open(scene.index()).unwrap();
        let txn = index.begin_write().unwrap();
        txn.open_table(META).unwrap().insert("version", version.to_le_bytes().as_slice()).unwrap();
        txn.commit().unwrap();
    };
    set_version(2);
    assert_unsupported(&scene.store()).await;
    set_version(1);
    check(&scene.store(), &scene.world).await;
}

#[tokio::test]
async fn record_of_an_unknown_kind_is_refused_and_nothing_is_changed() {
    for with_index in [true, false] {
        let scene = Scene::dropped(lazy).await;
        if !with_index {
            fs::remove_file(scene.index()).unwrap();
        }
        let last = last_segment(&scene.store());
        let (whole, seq) = (fs::read(&last).unwrap(), records(&last).last().unwrap().seq);
        append_record(&last, 100, seq + 1);
        assert_unsupported(&scene.store()).await;
        fs::write(&last, whole).unwrap();
        check(&scene.store(), &scene.world).await;
    }
}

#[tokio::test]
async fn record_of_an_unknown_kind_that_may_be_skipped_is() {
    let scene = Scene::dropped(lazy).await;
    let last = last_segment(&scene.store());
    let seq = records(&last).last().unwrap().seq;
    append_record(&last, 0x94, seq + 1);
    append_record(&last, 9, seq + 2);
    let recovery = check(&scene.store(), &scene.world).await;
    assert_eq!(recovery.torn_bytes, 0);
}

#[tokio::test]
async fn missing_segment_is_refused_and_nothing_is_changed() {
    let scene = Scene::shut_down(tiny).await;
    let n = segments(&scene.store()).len();
    for (i, with_index) in [(0, true), (0, false), (n / 2, true), (n / 2, false), (n - 1, true)] {
        let copy = scene.copy();
        let missing = &segments(copy.path())[i];
        let bytes = fs::read(missing).unwrap();
        fs::remove_file(missing).unwrap();
        if !with_index {
            fs::remove_file(copy.path().join("index.redb")).unwrap();
        }
        let before = snapshot(copy.path());
        let refused = FsStore::open(tiny(copy.path())).await;
        assert!(matches!(refused, Err(Error::DamagedStore { .. })), "segment {i}: {refused:?}");
        assert_same(&before, &snapshot(copy.path()));
        fs::write(missing, bytes).unwrap();
        check(copy.path(), &scene.world).await;
    }
}

#[tokio::test]
async fn missing_log_is_refused_and_nothing_is_changed() {
    let scene = Scene::shut_down(tiny).await;
    for path in segments(&scene.store()) {
        fs::remove_file(path).unwrap();
    }
    let before = snapshot(&scene.store());
    assert!(matches!(FsStore::open(tiny(scene.store())).await, Err(Error::DamagedStore { .. })));
    assert_same(&before, &snapshot(&scene.store()));
}

#[tokio::test]
async fn record_in_the_bytes_of_a_blob_is_never_taken_for_one() {
    let dir = temp_dir();
    let options = || Options { segment_size: 16 << 20, ..lazy(dir.path()) };
    let store = open(options()).await;
    import(&store, 1, 3_000).await;
    store.delete(vec![hash(1, 3_000)]).await.unwrap();
    import(&store, 1, 3_000).await;
    let segment = last_segment(dir.path());
    let deletion = records(&segment).into_iter().find(|record| record.kind == DELETE).unwrap();
    let forged = fs::read(&segment).unwrap()[deletion.range].repeat(3);
    store.import_bytes(forged.clone().into(), blob_traits::BlobFormat::Raw).await.unwrap();
    import(&store, 2, 3_000).await;
    drop(store);
    // The record around it is damaged, so that whoever looks for the next one reads through its payload.
    let around = records(&segment).into_iter().rev().nth(1).unwrap();
    change(&segment, |bytes| bytes[around.range.start + 70] ^= 1);
    fs::remove_file(dir.path().join("index.redb")).unwrap();
    let store = open(accepting(options())).await;
    assert_eq!(store.recovery().damaged.len(), 1);
    assert!(has(&store, 1, 3_000).await && has(&store, 2, 3_000).await);
    assert!(store.get(&blob_traits::Hash::new(&forged)).await.unwrap().is_none());
}

#[tokio::test]
async fn files_of_nobody_are_removed_and_names_of_others_left_alone() {
    let scene = Scene::shut_down(tiny).await;
    let hash = hash(7, 40_000);
    let gone =
        ["temp/0123456789abcdef.data", "temp/anything", &format!("partial/{hash}-0123456789abcdef.bits")];
    for name in gone.iter().chain(&["partial/notes.txt"]) {
        fs::write(scene.store().join(name), "?").unwrap();
    }
    let store = open(tiny(scene.store())).await;
    assert_eq!(store.recovery().removed_files, 3);
    scene.world.check(&store).await;
    store.shutdown().await.unwrap();
    assert!(gone.iter().all(|name| !scene.store().join(name).exists()));
    fs::remove_file(scene.store().join("partial/notes.txt")).unwrap();
    check_files(&scene.store());
}

#[tokio::test]
async fn large_blob_is_found_wherever_a_crash_left_its_files() {
    let scene = Scene::dropped(lazy).await;
    let name = |path: PathBuf| path.file_name().unwrap().to_owned();
    let in_temp: Vec<_> = all_files(&scene.store().join("temp")).into_iter().map(name).collect();
    assert!(in_temp.len() > 2, "nothing to be moved: {in_temp:?}");
    for moved in 0..=in_temp.len() {
        let copy = scene.copy();
        for name in &in_temp[..moved] {
            let subdir = copy.path().join("data").join(&name.to_str().unwrap()[..2]);
            fs::create_dir_all(&subdir).unwrap();
            fs::rename(copy.path().join("temp").join(name), subdir.join(name)).unwrap();
        }
        let recovery = check(copy.path(), &scene.world).await;
        assert!(recovery.damaged_blobs.is_empty(), "{recovery:?}");
    }
}

#[tokio::test]
async fn interrupted_creation_of_a_segment_is_put_aside() {
    let scene = Scene::dropped(tiny).await;
    let next = segments(&scene.store()).len() + 1;
    let header = fs::read(last_segment(&scene.store())).unwrap()[..HEADER].to_vec();
    for bytes in [Vec::new(), vec![0; HEADER], header[..2048].to_vec()] {
        let copy = scene.copy();
        fs::write(copy.path().join(format!("log/{next:016x}.seg")), bytes).unwrap();
        let recovery = check(copy.path(), &scene.world).await;
        assert_eq!(recovery.quarantined.len(), 1);
    }
}
