//! Demotion (E48): a blob of any state becomes partial with what is sound of it, stays so through whatever follows, and
//! becomes complete again.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod support;

use std::{fs, path::Path, time::SystemTime};

use bao_tree::{
    ChunkNum, ChunkRanges,
    io::{Parent, fsm::Outboard as _, outboard::PreOrderMemOutboard},
};
use blob_fs::{CompactOptions, FsStore};
use blob_traits::{
    BLOCK_SIZE, BlobFormat, Damage, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, Hash,
    ImportMode, ImportSource, PartialTree, Progress, prelude::*,
};
use bytes::Bytes;
use proptest::{prelude::*, test_runner::TestRunner};
use support::{
    bao, chunks, content, copy_dir,
    files::{all_files, check_files},
    has, hash, import, lazy,
    log::change,
    open, temp_dir, tiny,
};

const SMALL: usize = 60_000;
const LARGE: usize = 200_000;

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Small,
    Large,
    Referenced,
    OnDisk,
    InMemory,
}

const ALL: [Kept; 5] = [Kept::Small, Kept::Large, Kept::Referenced, Kept::OnDisk, Kept::InMemory];

impl Kept {
    fn len(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::InMemory => 50_000,
            Self::Large | Self::Referenced | Self::OnDisk => LARGE,
        }
    }

    fn content(self) -> Bytes {
        content(1, self.len())
    }

    fn hash(self) -> Hash {
        hash(1, self.len())
    }

    fn n_chunks(self) -> u64 {
        (self.len() as u64).div_ceil(1024)
    }

    /// What is there of it.
    fn present(self) -> ChunkRanges {
        match self {
            Self::OnDisk => chunks(0..64) | chunks(96..self.n_chunks()),
            Self::InMemory => chunks(16..32),
            _ => chunks(0..self.n_chunks()),
        }
    }

    async fn put(self, store: &FsStore, user: &Path) {
        let data = self.content();
        match self {
            Self::Small | Self::Large => drop(import(store, 1, self.len()).await),
            Self::Referenced => {
                let path = user.join("file");
                fs::write(&path, &data).unwrap();
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
                let source = ImportSource::File { path, mode: ImportMode::TryReference };
                store.import(source, BlobFormat::Raw.into(), Progress::none()).await.unwrap();
            }
            Self::OnDisk | Self::InMemory => {
                let stream = bao(&data, &self.present());
                store.import_bao(self.hash(), data.len() as u64, self.present(), stream).await.unwrap();
            }
        }
    }
}

fn store_dir(dir: &Path) -> std::path::PathBuf {
    dir.join("store")
}

/// All pairs of a blob, as they should be.
fn pairs(data: &[u8]) -> Vec<Parent> {
    let mut outboard = PreOrderMemOutboard::create(data, BLOCK_SIZE);
    let nodes: Vec<_> = outboard.tree.pre_order_nodes_iter().collect();
    let mut load = |node| futures_lite::future::block_on(outboard.load(node)).unwrap();
    nodes.into_iter().filter_map(|node| load(node).map(|pair| Parent { node, pair })).collect()
}

fn lost(lost: ChunkRanges) -> Damage {
    Damage { lost, mended: Vec::new() }
}

async fn demote(store: &FsStore, hash: Hash, damage: Damage) -> blob_fs::Entry {
    let entry = store.get(&hash).await.unwrap().unwrap();
    let demoted = store.demote(entry, damage).await.unwrap().unwrap();
    assert!(!demoted.is_complete());
    demoted
}

/// Checks that a demoted blob has these chunks, which verify.
async fn check(store: &FsStore, hash: Hash, present: &ChunkRanges, context: &str) {
    assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::Partial, "{context}");
    assert!(store.was_demoted(&hash).await.unwrap(), "{context}");
    assert_eq!(store.present_ranges(&hash).await.unwrap().as_ref(), Some(present), "{context}");
    assert_eq!(store.verified_ranges(hash).await.unwrap().as_ref(), Some(present), "{context}");
}

/// Completes a blob with what is missing.
async fn complete(store: &FsStore, data: &Bytes, present: &ChunkRanges) {
    let hash = Hash::new(data);
    let missing = PartialTree::all_ranges(data.len() as u64) - present.clone();
    let stream = bao(data, &missing);
    store.import_bao(hash, data.len() as u64, missing, stream).await.unwrap();
    assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap(), data);
    assert!(!store.was_demoted(&hash).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blob_of_any_state_becomes_partial_and_stays_so() {
    for kept in ALL {
        let (dir, hash) = (temp_dir(), kept.hash());
        let options = || tiny(store_dir(dir.path()));
        let store = open(options()).await;
        kept.put(&store, dir.path()).await;
        assert!(!store.was_demoted(&hash).await.unwrap());
        let present = kept.present() - chunks(16..32);
        demote(&store, hash, lost(chunks(16..32))).await;
        check(&store, hash, &present, &format!("{kept:?}")).await;
        drop(store);
        let store = open(options()).await;
        check(&store, hash, &present, &format!("{kept:?}, killed")).await;
        import(&store, 2, SMALL).await;
        store.delete(vec![support::hash(2, SMALL)]).await.unwrap();
        store.compact(CompactOptions::default()).await.unwrap();
        check(&store, hash, &present, &format!("{kept:?}, compacted")).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
        fs::remove_file(store_dir(dir.path()).join("index.redb")).unwrap();
        let store = open(options()).await;
        assert!(store.recovery().rebuilt_index && store.recovery().quarantined.is_empty());
        check(&store, hash, &present, &format!("{kept:?}, rebuilt")).await;
        complete(&store, &kept.content(), &present).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
        assert!(has(&open(options()).await, 1, kept.len()).await, "{kept:?}");
        assert!(kept != Kept::Referenced || fs::read(dir.path().join("file")).unwrap() == kept.content());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blob_can_be_demoted_again_and_keeps_the_mark_until_it_is_complete() {
    for kept in ALL {
        let (dir, hash) = (temp_dir(), kept.hash());
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        demote(&store, hash, lost(chunks(0..16))).await;
        let data = kept.content();
        store.import_bao(hash, kept.len() as u64, chunks(0..8), bao(&data, &chunks(0..8))).await.unwrap();
        store.sync().await.unwrap();
        let present = (kept.present() - chunks(0..16)) | chunks(0..8);
        assert_eq!(store.present_ranges(&hash).await.unwrap(), Some(present.clone()), "{kept:?}");
        assert!(store.was_demoted(&hash).await.unwrap(), "{kept:?}");
        demote(&store, hash, lost(chunks(0..32))).await;
        let present = present - chunks(0..32);
        check(&store, hash, &present, &format!("{kept:?}, again")).await;
        complete(&store, &data, &present).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_blob_can_be_lost() {
    for kept in ALL {
        let (dir, hash) = (temp_dir(), kept.hash());
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        demote(&store, hash, lost(ChunkRanges::all())).await;
        check(&store, hash, &ChunkRanges::empty(), &format!("{kept:?}")).await;
        let is_verified = store.get(&hash).await.unwrap().unwrap().size().is_verified();
        assert_eq!(is_verified, kept != Kept::InMemory);
        complete(&store, &kept.content(), &ChunkRanges::empty()).await;
    }
}

/// Changes a file.
type Harm<'a> = &'a dyn Fn(&Path);

/// The one file of this kind.
fn the_file(dir: &Path, extension: &str) -> std::path::PathBuf {
    let mut files = all_files(dir);
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_damaged_in_any_way_do_not_stop_it() {
    let whole = chunks(0..196);
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let cut = |path: &Path| change(path, |bytes| bytes.truncate(40_000));
    let cut_all = |path: &Path| change(path, |bytes| bytes.truncate(100));
    let extend = |path: &Path| change(path, |bytes| bytes.extend(b"more"));
    let flip = |path: &Path| change(path, |bytes| bytes[70] ^= 1);
    let cases: [(&str, Harm<'_>, ChunkRanges, ChunkRanges); 9] = [
        ("data", &remove, whole.clone(), ChunkRanges::empty()),
        // The caller's account is too good.
        ("data", &remove, chunks(0..16), ChunkRanges::empty()),
        ("data", &cut, chunks(32..196), chunks(0..32)),
        ("data", &cut, chunks(48..196), chunks(0..39)),
        ("data", &extend, ChunkRanges::empty(), whole.clone()),
        ("data", &flip, chunks(0..16), chunks(16..196)),
        ("obao4", &remove, ChunkRanges::empty(), whole.clone()),
        ("obao4", &cut_all, chunks(0..16), chunks(16..196)),
        ("obao4", &flip, chunks(0..16), chunks(16..196)),
    ];
    for (extension, harm, given, present) in cases {
        let dir = temp_dir();
        let store = open(tiny(store_dir(dir.path()))).await;
        import(&store, 1, LARGE).await;
        store.shutdown().await.unwrap();
        drop(store);
        harm(&the_file(&store_dir(dir.path()), extension));
        let store = open(tiny(store_dir(dir.path()))).await;
        let data = content(1, LARGE);
        let context = format!("{extension}, {given:?}");
        demote(&store, Hash::new(&data), Damage { lost: given, mended: pairs(&data) }).await;
        assert_eq!(
            store.present_ranges(&Hash::new(&data)).await.unwrap(),
            Some(present.clone()),
            "{context}"
        );
        let in_groups = present.clone() - chunks(32..48);
        let verified = store.verified_ranges(Hash::new(&data)).await.unwrap().unwrap();
        assert!(in_groups.is_subset(&verified), "{context}");
        complete(&store, &data, &present).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_is_damaged_does_not_stop_it() {
    let (dir, data) = (temp_dir(), content(1, SMALL));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, SMALL).await;
    let segment = the_file(&store_dir(dir.path()), "seg");
    change(&segment, |bytes| bytes[4096 + 80 + 20_000] ^= 1);
    // In the outboard.
    change(&segment, |bytes| bytes[4096 + 80 + SMALL + 1] ^= 1);
    let damage = Damage { lost: chunks(16..32), mended: pairs(&data) };
    demote(&store, Hash::new(&data), damage).await;
    let present = chunks(0..16) | chunks(32..59);
    check(&store, Hash::new(&data), &present, "damaged").await;
    // What is lost was not dropped.
    let mut kept = data.to_vec();
    kept[20_000] ^= 1;
    assert!(fs::read(the_file(&store_dir(dir.path()), "data")).unwrap() == kept);
    complete(&store, &data, &present).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_is_cut_off_does_not_stop_it() {
    let (dir, data) = (temp_dir(), content(1, SMALL));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, SMALL).await;
    change(&the_file(&store_dir(dir.path()), "seg"), |bytes| bytes.truncate(4096 + 80 + 20_000));
    demote(&store, Hash::new(&data), Damage { lost: ChunkRanges::empty(), mended: pairs(&data) }).await;
    check(&store, Hash::new(&data), &chunks(0..16), "cut off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_the_user_is_copied_as_far_as_it_is_sound_and_not_touched() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let path = dir.path().join("file");
    for change_it in [true, false] {
        let store = open(tiny(store_dir(dir.path()))).await;
        Kept::Referenced.put(&store, dir.path()).await;
        if change_it {
            // Nobody has told of the second one.
            change(&path, |bytes| (bytes[3_000], bytes[100_000]) = (bytes[3_000] ^ 1, bytes[100_000] ^ 1));
        } else {
            fs::remove_file(&path).unwrap();
        }
        let before = fs::read(&path).ok();
        demote(&store, Hash::new(&data), lost(chunks(0..16))).await;
        let present = if change_it { chunks(16..96) | chunks(112..196) } else { ChunkRanges::empty() };
        check(&store, Hash::new(&data), &present, "changed").await;
        complete(&store, &data, &present).await;
        assert_eq!(fs::read(&path).ok(), before);
        store.delete(vec![Hash::new(&data)]).await.unwrap();
        store.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_has_another_name_is_not_written_to() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    store.shutdown().await.unwrap();
    drop(store);
    let (file, backup) = (the_file(&store_dir(dir.path()), "data"), dir.path().join("backup"));
    change(&file, |bytes| bytes[3_000] ^= 1);
    fs::hard_link(&file, &backup).unwrap();
    let before = fs::read(&backup).unwrap();
    let store = open(tiny(store_dir(dir.path()))).await;
    demote(&store, Hash::new(&data), lost(chunks(0..16))).await;
    check(&store, Hash::new(&data), &chunks(16..196), "linked").await;
    assert!(fs::read(the_file(&store_dir(dir.path()).join("partial"), "data")).unwrap() == before);
    complete(&store, &data, &chunks(16..196)).await;
    assert!(fs::read(&backup).unwrap() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_a_large_blob_takes_no_room_twice() {
    use std::os::unix::fs::MetadataExt;
    let dir = temp_dir();
    let store = open(lazy(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    // On its way to `data/` still.
    let before = fs::metadata(the_file(&store_dir(dir.path()), "data")).unwrap().ino();
    demote(&store, hash(1, LARGE), lost(chunks(0..16))).await;
    let after = fs::metadata(the_file(&store_dir(dir.path()).join("partial"), "data")).unwrap().ino();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_goes_on() {
    for kept in [Kept::Small, Kept::Large, Kept::Referenced] {
        let (dir, data) = (temp_dir(), kept.content());
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        let old = store.get(&kept.hash()).await.unwrap().unwrap();
        let (mut reader, mut outboard) = (old.data_reader().await.unwrap(), old.outboard().await.unwrap());
        demote(&store, kept.hash(), lost(chunks(16..32))).await;
        let rest = 32 << 10;
        assert_eq!(reader.read_range(rest, LARGE).await.unwrap(), data[32 << 10..], "{kept:?}");
        assert!(old.data_reader().await.unwrap().read_range(rest, LARGE).await.is_ok());
        outboard.load(outboard.tree().pre_order_nodes_iter().next().unwrap()).await.unwrap().unwrap();
        complete(&store, &data, &(kept.present() - chunks(16..32))).await;
        assert_eq!(reader.read_range(0, LARGE).await.unwrap(), data, "{kept:?}");
        assert_eq!(store.demote(old.clone(), lost(chunks(0..16))).await.unwrap().map(drop), None);
        drop((old, reader, outboard));
        store.shutdown().await.unwrap();
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blob_that_is_something_else_by_now_is_left_alone() {
    for kept in ALL {
        let (dir, hash) = (temp_dir(), kept.hash());
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        let old = store.get(&hash).await.unwrap().unwrap();
        store.delete(vec![hash]).await.unwrap();
        let damage = || lost(chunks(16..32));
        assert!(store.demote(old.clone(), damage()).await.unwrap().is_none(), "{kept:?}, deleted");
        assert_eq!(store.entry_status(&hash).await.unwrap(), EntryStatus::NotFound);
        import(&store, 1, kept.len()).await;
        assert!(store.demote(old.clone(), damage()).await.unwrap().is_none(), "{kept:?}, imported anew");
        assert!(has(&store, 1, kept.len()).await);
        // Compaction changes nothing about it.
        let entry = store.get(&hash).await.unwrap().unwrap();
        import(&store, 2, SMALL).await;
        store.delete(vec![support::hash(2, SMALL)]).await.unwrap();
        store.compact(CompactOptions::default()).await.unwrap();
        assert!(store.demote(entry, damage()).await.unwrap().is_some(), "{kept:?}, compacted");
        drop(old);
        store.shutdown().await.unwrap();
        check_files(&store_dir(dir.path()));
    }
    let (dir, other) = (temp_dir(), temp_dir());
    let (store, other) = (open(tiny(dir.path())).await, open(tiny(other.path())).await);
    let entry = other.get(&import(&other, 1, 10).await).await.unwrap().unwrap();
    let refused = store.demote(entry, Damage::default()).await;
    assert!(matches!(refused, Err(Error::ForeignEntry { hash }) if hash == support::hash(1, 10)));
    let empty = store.get(&Hash::EMPTY).await.unwrap().unwrap();
    assert!(store.demote(empty, lost(ChunkRanges::all())).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_beats_demotion() {
    for kept in ALL {
        let dir = temp_dir();
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        let demoted = demote(&store, kept.hash(), lost(chunks(16..32))).await;
        import(&store, 1, kept.len()).await;
        assert!(has(&store, 1, kept.len()).await && demoted.is_complete());
        assert!(!store.was_demoted(&kept.hash()).await.unwrap());
        drop(demoted);
        store.shutdown().await.unwrap();
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_demotions_and_imports_at_once_end_in_order() {
    for kept in [Kept::Small, Kept::Large] {
        let dir = temp_dir();
        let store = open(tiny(store_dir(dir.path()))).await;
        kept.put(&store, dir.path()).await;
        let tasks = (0..8).map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..20 {
                    if (task + round) % 3 == 0 {
                        import(&store, 1, kept.len()).await;
                    } else if let Some(entry) = store.get(&kept.hash()).await.unwrap() {
                        store.demote(entry, lost(chunks(0..16))).await.unwrap();
                    }
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        import(&store, 1, kept.len()).await;
        assert!(has(&store, 1, kept.len()).await);
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_was_moved_out_is_not_written_to() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    let (target, old) = (dir.path().join("out"), store.get(&hash(1, LARGE)).await.unwrap().unwrap());
    let options = ExportOptions { mode: ExportMode::TryReference, existing: ExistingTarget::Refuse };
    store.export(hash(1, LARGE), target.clone(), options, Progress::none()).await.unwrap();
    assert!(store.demote(old, lost(chunks(0..16))).await.unwrap().is_none());
    change(&target, |bytes| bytes[3_000] ^= 1);
    let before = fs::read(&target).unwrap();
    demote(&store, hash(1, LARGE), lost(chunks(0..16))).await;
    complete(&store, &data, &chunks(16..196)).await;
    assert!(fs::read(&target).unwrap() == before);
}

/// Some runs of chunks, whole groups or not.
fn any_lost() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    proptest::collection::vec((0_u64..200, 0_u64..60, any::<bool>()), 0..5)
}

#[test]
fn what_is_left_is_what_was_not_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let base = temp_dir();
    runtime.block_on(async {
        for kept in ALL {
            let dir = base.path().join(format!("{kept:?}"));
            fs::create_dir(&dir).unwrap();
            let store = open(tiny(store_dir(&dir))).await;
            kept.put(&store, &dir).await;
            store.shutdown().await.unwrap();
        }
    });
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let cases = (prop::sample::select(ALL.to_vec()), any_lost(), any_lost());
    let outcome = TestRunner::new(config).run(&cases, |(kept, first, second)| {
        let dir = temp_dir();
        copy_dir(&base.path().join(format!("{kept:?}")).join("store"), &store_dir(dir.path()));
        let runs = |runs: &[(u64, u64, bool)]| {
            let aligned = |at: u64, whole: bool| if whole { at / 16 * 16 } else { at };
            let run = |(start, len, whole): &(u64, u64, bool)| {
                ChunkRanges::from(ChunkNum(aligned(*start, *whole))..ChunkNum(aligned(start + len, *whole)))
            };
            runs.iter().map(run).fold(ChunkRanges::empty(), |all, run| all | run)
        };
        runtime.block_on(async {
            let store = open(tiny(store_dir(dir.path()))).await;
            let mut present = kept.present();
            for runs in [runs(&first), runs(&second)] {
                demote(&store, kept.hash(), lost(runs.clone())).await;
                present -= runs;
                assert_eq!(store.present_ranges(&kept.hash()).await.unwrap(), Some(present.clone()));
                store
                    .export_bao(kept.hash(), whole_groups(&present, kept.n_chunks()), Vec::new())
                    .await
                    .unwrap();
                assert_eq!(
                    store.verified_ranges(kept.hash()).await.unwrap(),
                    Some(whole_groups(&present, kept.n_chunks()))
                );
            }
            drop(store);
            let store = open(tiny(store_dir(dir.path()))).await;
            assert_eq!(store.present_ranges(&kept.hash()).await.unwrap(), Some(present.clone()));
            complete(&store, &kept.content(), &present).await;
            store.shutdown().await.unwrap();
        });
        check_files(&store_dir(dir.path()));
        Ok(())
    });
    outcome.unwrap();
}

/// Those groups that are there as a whole.
fn whole_groups(present: &ChunkRanges, n_chunks: u64) -> ChunkRanges {
    let groups = (0..n_chunks.div_ceil(16)).map(|group| chunks(group * 16..(group * 16 + 16).min(n_chunks)));
    groups.filter(|group| group.is_subset(present)).fold(ChunkRanges::empty(), |all, group| all | group)
}
