//! Any damage, in any number, anywhere in the directory of a store on disk; then what a user would do: open it, in spite of
//! losses where it has to be, check and repair its files, validate and repair its blobs. Nothing that was not hit is lost,
//! nothing is read wrongly, what is missing is exactly what was hit, and a copy brings back the rest.
//!
//! `BLOB_DAMAGE` says how many cases are played.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod blows;
mod evidence;
mod scene;

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};

use bao_tree::ChunkRanges;
use blob_conformance::Sample;
use blob_fs::{FsStore, Recovery};
use blob_traits::{CheckMode, ConsistencyCheckProgress, Error, Hash, Progress, ReportLevel, prelude::*};
use blob_validate::{RepairExt, RepairOptions, RepairReport, Source, ValidateExt, ValidateOptions};
use proptest::{prelude::*, test_runner::Config};
use tokio::runtime::Runtime;

use crate::{
    blows::{blows, struck},
    evidence::{After, Expected},
    scene::{Blob, Scene, accepting, close, options, temp_dir, write_all},
};

/// How often each property is tried.
const N: u32 = 40;

fn config() -> Config {
    let cases = std::env::var("BLOB_DAMAGE").ok().and_then(|n| n.parse().ok()).unwrap_or(N);
    Config { max_shrink_iters: 500, ..Config::with_cases(cases) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn without_a_copy_exactly_what_was_hit_is_missing(blows in blows()) {
        runtime().block_on(async {
            let Some(mended) = Mended::new(&blows, Vec::new()).await else { return };
            mended.check_left().await;
            mended.end().await;
        });
    }

    #[test]
    fn with_a_copy_every_blob_is_back(blows in blows()) {
        runtime().block_on(async {
            let copy_dir = temp_dir();
            write_all(copy_dir.path(), scene().copy.path(), &scene::read_all(scene().copy.path()));
            let copy = FsStore::open(options(copy_dir.path())).await.unwrap();
            let sources = vec![Source::store("copy", copy.clone())];
            if let Some(mended) = Mended::new(&blows, sources).await {
                mended.check_brought_back(&copy).await;
                mended.end().await;
            }
            close(copy).await;
        });
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn scene() -> &'static Scene {
    static SCENE: OnceLock<Scene> = OnceLock::new();
    SCENE.get_or_init(|| std::thread::spawn(|| runtime().block_on(Scene::new())).join().unwrap())
}

/// A store that was damaged and then repaired.
struct Mended {
    dir: tempfile::TempDir,
    store: FsStore,
    after: After<'static>,
    told: Told,
    report: RepairReport,
}

/// What was told on the way.
#[derive(Debug, Default)]
struct Told {
    /// Something is lost of which it is not known what it was.
    loss: bool,
    /// Blobs of which something is lost.
    blobs: BTreeSet<Hash>,
    /// Tags that point to nothing.
    dangling: BTreeSet<Hash>,
}

impl Told {
    fn hear_recovery(&mut self, recovery: &Recovery) {
        self.loss |= !recovery.losses.is_empty() || !recovery.damaged.is_empty();
        self.blobs.extend(&recovery.damaged_blobs);
    }

    fn hear_check(&mut self, said: &[Said]) {
        for Said { level, what, blob } in said {
            match blob {
                Some(hash) if what.starts_with("tag ") => drop(self.dangling.insert(*hash)),
                Some(hash) if *level >= ReportLevel::Warn => drop(self.blobs.insert(*hash)),
                _ => {}
            }
        }
    }

    fn hear_repair(&mut self, report: &RepairReport) {
        self.blobs.extend(report.blobs.iter().map(|blob| blob.hash));
    }
}

/// An update of a check, from warnings on.
#[derive(Clone, Debug)]
struct Said {
    level: ReportLevel,
    what: String,
    blob: Option<Hash>,
}

async fn check(store: &FsStore, mode: CheckMode) -> Vec<Said> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let to = said.clone();
    let progress = Progress::from_fn(move |event| {
        if let ConsistencyCheckProgress::Update { message, entry, level } = event
            && level >= ReportLevel::Warn
        {
            to.lock().unwrap().push(Said { level, what: message, blob: entry });
        }
        Ok(())
    });
    store.consistency_check(mode, progress).await.unwrap();
    said.lock().unwrap().clone()
}

/// Opens a store as a user would. `None`: it says that it is of another version.
async fn open(dir: &Path) -> Option<FsStore> {
    let opened = match FsStore::open(options(dir)).await {
        Err(Error::DamagedStore { .. }) => FsStore::open(accepting(dir)).await,
        opened => opened,
    };
    match opened {
        Ok(store) => Some(store),
        Err(Error::UnsupportedFormat { .. }) => None,
        Err(e) => panic!("it cannot be opened: {e:?}"),
    }
}

impl Mended {
    /// `None`: the damage makes a file look like one of another release, which is left to that (E16).
    async fn new(blows: &[blows::Blow], sources: Vec<Source>) -> Option<Self> {
        let (dir, scene) = (temp_dir(), scene());
        let files = struck(&scene.files, blows);
        write_all(dir.path(), scene.dir.path(), &files);
        let mut after = After { scene, files, index_is_used: false };
        let mut told = Told::default();
        let mut store = open(dir.path()).await?;
        after.index_is_used = after.is_index_same() && !store.recovery().rebuilt_index;
        // An index that is found out to be damaged is built anew at the next opening.
        for _ in 0..3 {
            told.hear_recovery(store.recovery());
            told.hear_check(&check(&store, CheckMode::Repair).await);
            let left = check(&store, CheckMode::Report).await;
            if left.iter().all(|said| said.level < ReportLevel::Error) {
                break;
            }
            close(store).await;
            // Where the log is damaged as well, that is left to who accepts it.
            let is_advised = left.iter().any(|said| said.what.contains("--rebuild-index"));
            store = if is_advised {
                FsStore::open(accepting(dir.path())).await.unwrap()
            } else {
                open(dir.path()).await?
            };
        }
        let mut options = RepairOptions::default();
        options.sources = sources;
        let report = store.repair(options, Progress::none()).await.unwrap();
        told.hear_repair(&report);
        let mended = Self { dir, store, after, told, report };
        mended.check_clean(&mended.store).await;
        Some(mended)
    }

    /// Nothing is left to be found.
    async fn check_clean(&self, store: &FsStore) {
        let is_allowed = |said: &Said| said.level == ReportLevel::Warn && said.what.starts_with("tag ");
        let left = check(store, CheckMode::Report).await;
        assert!(left.iter().all(is_allowed), "{}: {left:?}", self.context());
        let found = store.validate(ValidateOptions::default(), Progress::none()).await.unwrap();
        assert!(found.damaged.is_empty() && found.failed.is_empty(), "{}: {found:?}", self.context());
        assert!(self.report.found.failed.is_empty(), "{}: {:?}", self.context(), self.report);
    }

    fn context(&self) -> String {
        format!("hit: {:?}; index is used: {}; {:?}", self.after.hit(), self.after.index_is_used, self.told)
    }

    fn describe(&self, blob: &Blob) -> String {
        let Blob { sample, kept, record, .. } = blob;
        format!("{kept:?} {} of {} bytes at {record:?}; {}", sample.hash, sample.size(), self.context())
    }

    async fn check_left(&self) {
        for blob in &self.after.scene.blobs {
            let what = self.describe(blob);
            let Expected { is_known, at_least, at_most } = self.after.expected(blob);
            let present = present(&self.store, blob).await;
            let there = present.clone().unwrap_or_else(ChunkRanges::empty);
            assert!(at_least.is_subset(&there), "{at_least:?} were not hit, {there:?} are there; {what}");
            assert!(there.is_subset(&at_most), "{at_most:?} were not hit, {there:?} are there; {what}");
            assert!(!is_known || present.is_some() || at_least.is_empty(), "it is gone; {what}");
            if there != blob.present {
                let is_told = self.told.loss || self.told.blobs.contains(&blob.sample.hash);
                assert!(
                    is_told || self.after.may_go_unnoticed(&blob.record),
                    "nothing was said of it; {what}"
                );
            }
            self.check_tag(blob).await;
        }
    }

    /// A tag is there while its record is, or the index that tells of it.
    async fn check_tag(&self, blob: &Blob) {
        let Some((name, record)) = &blob.tag else { return };
        if self.after.index_is_used || self.after.is_recorded(record) {
            let content = self.store.get_tag(&name.as_str().into()).await.unwrap();
            assert_eq!(
                content.map(|content| content.hash),
                Some(blob.sample.hash),
                "{}",
                self.describe(blob)
            );
        }
    }

    async fn check_brought_back(&self, copy: &FsStore) {
        for blob in &self.after.scene.blobs {
            let (hash, what) = (blob.sample.hash, self.describe(blob));
            let Expected { is_known, at_least, .. } = self.after.expected(blob);
            let there = present(&self.store, blob).await;
            assert!(
                at_least.is_subset(&there.clone().unwrap_or_else(ChunkRanges::empty)),
                "{there:?}; {what}"
            );
            if blob.is_complete() && is_known {
                assert_eq!(there.as_ref(), Some(&blob.present), "{what}");
            }
            if there.as_ref().is_none_or(|there| !blob.present.is_subset(there)) {
                // What a store does not know of any more is imported anew.
                let bytes = copy.read_verified(hash, 0..u64::MAX).await.unwrap();
                drop(self.store.import_bytes(bytes, blob_traits::BlobFormat::Raw).await.unwrap());
                let all = blob_conformance::chunks(0..blob.sample.n_chunks());
                assert_eq!(present(&self.store, blob).await, Some(all), "{what}");
            }
            self.check_tag(blob).await;
        }
        self.check_clean(&self.store).await;
    }

    /// It is a store like any other.
    async fn end(self) {
        let mut before = Vec::new();
        for blob in &self.after.scene.blobs {
            before.push(present(&self.store, blob).await);
        }
        let context = self.context();
        close(self.store.clone()).await;
        let store =
            FsStore::open(options(self.dir.path())).await.unwrap_or_else(|e| panic!("{context}: {e:?}"));
        for (blob, before) in self.after.scene.blobs.iter().zip(before) {
            assert_eq!(present(&store, blob).await, before, "{context}");
        }
        self.check_clean(&store).await;
        close(store).await;
    }
}

/// What is there of a blob, all of which is right.
async fn present(store: &FsStore, blob: &Blob) -> Option<ChunkRanges> {
    let Sample { hash, .. } = &blob.sample;
    let present = store.present_ranges(hash).await.unwrap()?;
    let present = present & blob_conformance::chunks(0..blob.sample.n_chunks());
    let stream = store.export_bao(*hash, present.clone(), Vec::new()).await.unwrap();
    assert!(stream == blob.sample.encode(&present), "{hash} has other bytes");
    Some(present)
}
