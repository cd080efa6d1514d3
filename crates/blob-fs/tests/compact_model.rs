//! A model of the store under compaction (E83): whatever is put, deleted, put again and tagged, compacted, dropped at any
//! moment, and opened with or without its index, is there as the model says.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use blob_fs::{
    CompactOptions, FsStore, Options,
    vfs::{Fault, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_traits::{Hash, HashAndFormat, Tag, TagRange, collect, prelude::*};
use proptest::prelude::*;
use support::{content, files::check_files, hash, import, open, temp_dir, tiny};

/// Of each blob there are these lengths; the last one is large.
const LENGTHS: [usize; 4] = [10, 5_000, 20_000, 66_000];
const BLOBS: u64 = 12;
const TAGS: usize = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u64),
    Delete(u64),
    SetTag(usize, u64),
    DropTag(usize),
    /// Compacts when more than so many percent are dead.
    Compact(u8),
    /// Compacts until the so-many-th operation on the file system, then drops the store as it is.
    Crash(u64),
    Drop,
    ShutDown,
    LoseIndex,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..BLOBS).prop_map(Step::Put),
        5 => (0..BLOBS).prop_map(Step::Delete),
        3 => (0..TAGS, 0..BLOBS).prop_map(|(tag, blob)| Step::SetTag(tag, blob)),
        2 => (0..TAGS).prop_map(Step::DropTag),
        3 => prop_oneof![Just(0), Just(15), Just(60)].prop_map(Step::Compact),
        2 => (1..120_u64).prop_map(Step::Crash),
        1 => Just(Step::Drop),
        1 => Just(Step::ShutDown),
        2 => Just(Step::LoseIndex),
    ]
}

fn len(blob: u64) -> usize {
    LENGTHS[usize::try_from(blob).unwrap() % LENGTHS.len()]
}

#[derive(Debug, Default)]
struct Model {
    blobs: BTreeSet<u64>,
    tags: BTreeMap<usize, u64>,
}

fn tag(n: usize) -> Tag {
    format!("tag-{n}").as_str().into()
}

impl Model {
    async fn check(&self, store: &FsStore) {
        assert!(store.recovery().damaged.is_empty() && store.recovery().damaged_blobs.is_empty());
        let listed = collect(store.blobs().await.unwrap()).await.unwrap();
        let mut expected: Vec<Hash> = self.blobs.iter().map(|blob| hash(*blob, len(*blob))).collect();
        expected.sort_unstable();
        assert_eq!(listed, expected);
        for blob in &self.blobs {
            let read = store.read_verified(hash(*blob, len(*blob)), 0..u64::MAX).await.unwrap();
            assert!(read == content(*blob, len(*blob)));
        }
        let tags = collect(store.tags(TagRange::all()).await.unwrap()).await.unwrap();
        let expected: Vec<_> = self
            .tags
            .iter()
            .map(|(n, blob)| (tag(*n), HashAndFormat::raw(hash(*blob, len(*blob)))))
            .collect();
        assert_eq!(tags, expected);
    }
}

async fn run(dir: &Path, steps: Vec<Step>) {
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let options = || Options { vfs: Arc::new(vfs.clone()), ..tiny(dir) };
    let (mut store, mut model) = (open(options()).await, Model::default());
    for step in steps {
        match step {
            Step::Put(blob) => {
                import(&store, blob, len(blob)).await;
                model.blobs.insert(blob);
            }
            Step::Delete(blob) => {
                store.delete(vec![hash(blob, len(blob))]).await.unwrap();
                model.blobs.remove(&blob);
            }
            Step::SetTag(n, blob) => {
                store.set_tag(tag(n), Some(HashAndFormat::raw(hash(blob, len(blob))))).await.unwrap();
                model.tags.insert(n, blob);
            }
            Step::DropTag(n) => {
                store.set_tag(tag(n), None).await.unwrap();
                model.tags.remove(&n);
            }
            Step::Compact(max_dead_percent) => {
                let how = CompactOptions { max_dead_percent, ..CompactOptions::default() };
                store.compact(how).await.unwrap();
            }
            Step::Crash(at) => {
                let how = CompactOptions { max_dead_percent: 0, ..CompactOptions::default() };
                let fault = FaultKind::Error(5);
                vfs.arm(Fault { at, repeat: Repeat::Sticky, kind: fault, only: Ops::Any });
                let _ = store.compact(how).await;
                drop(store);
                vfs.disarm();
                store = open(options()).await;
            }
            Step::Drop => {
                drop(store);
                store = open(options()).await;
            }
            Step::ShutDown => {
                store.shutdown().await.unwrap();
                drop(store);
                check_files(dir);
                store = open(options()).await;
            }
            Step::LoseIndex => {
                drop(store);
                std::fs::remove_file(dir.join("index.redb")).unwrap();
                store = open(options()).await;
            }
        }
        model.check(&store).await;
    }
    store.shutdown().await.unwrap();
    drop(store);
    check_files(dir);
    std::fs::remove_file(dir.join("index.redb")).unwrap();
    model.check(&open(options()).await).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn store_under_compaction_is_what_the_model_says(steps in prop::collection::vec(step(), 1..80)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = temp_dir();
        runtime.block_on(run(dir.path(), steps));
    }
}
