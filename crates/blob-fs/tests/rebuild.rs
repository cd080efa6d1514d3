//! Opening a store of which something is missing (E37, E64, E67): what loses nothing is done, anything else is refused
//! until it is accepted, and then done once.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use blob_fs::{CompactOptions, FsStore, Options};
use blob_traits::{EntryStatus, Error, HashAndFormat, bao_tree::ChunkRanges, prelude::*};
use support::{
    accepting, bao, chunks, content, copy_dir,
    files::{all_files, assert_same, segments, snapshot},
    has, hash, import,
    log::{change, kind_of_segment},
    open, temp_dir, tiny,
};

const SMALL_LEN: usize = 20_000;
const LARGE_LEN: usize = 100_000;
const SMALLS: Range<u64> = 0..12;
const LARGES: Range<u64> = 100..103;

/// A segment, and what is done to it.
type Lost = (PathBuf, fn(&Path));

/// A store of some segments, with large, small and partial blobs and tags; some of them packed, if that is wanted.
async fn store(packed: Option<()>) -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for seed in LARGES {
        import(&store, seed, LARGE_LEN).await;
    }
    for seed in SMALLS {
        import(&store, seed, SMALL_LEN).await;
        store
            .set_tag(format!("tag {seed}").as_str().into(), Some(HashAndFormat::raw(hash(seed, SMALL_LEN))))
            .await
            .unwrap();
    }
    let stream = bao(&content(200, LARGE_LEN), &chunks(0..64));
    store.import_bao(hash(200, LARGE_LEN), LARGE_LEN as u64, chunks(0..64), stream).await.unwrap();
    if packed.is_some() {
        for seed in 1_000..1_006 {
            import(&store, seed, SMALL_LEN).await;
        }
        store.delete((1_000..1_006).map(|seed| hash(seed, SMALL_LEN)).collect()).await.unwrap();
        store.compact(CompactOptions { max_dead_percent: 0, ..CompactOptions::default() }).await.unwrap();
        import(&store, 5, SMALL_LEN).await;
    }
    store.shutdown().await.unwrap();
    drop(store);
    // What was replaced goes at the latest now.
    open(tiny(dir.path())).await.shutdown().await.unwrap();
    dir
}

fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    copy
}

/// The seeds of the small blobs that are there.
async fn smalls(store: &FsStore) -> Vec<u64> {
    let mut there = Vec::new();
    for seed in SMALLS {
        let name = hash(seed, SMALL_LEN);
        if store.entry_status(&name).await.unwrap() == EntryStatus::Complete
            && store.read_verified(name, 0..u64::MAX).await.is_ok()
        {
            there.push(seed);
        }
    }
    there
}

/// The segments of a store, each lost in some way.
fn losses(dir: &Path) -> Vec<Lost> {
    let spoil: [fn(&Path); 3] = [
        |path| fs::remove_file(path).unwrap(),
        |path| change(path, |bytes| bytes[50] ^= 1),
        |path| change(path, |bytes| bytes.truncate(bytes.len().saturating_sub(5_000))),
    ];
    let name = |path: PathBuf| path.strip_prefix(dir).unwrap().to_owned();
    segments(dir).into_iter().flat_map(|path| spoil.map(|spoil| (name(path.clone()), spoil))).collect()
}

async fn assert_refused(options: Options) {
    let dir = options.dir.clone();
    let before = snapshot(&dir);
    let refused = FsStore::open(options).await;
    let names_it = |what: &str| what.contains("blob check --rebuild-index");
    assert!(matches!(&refused, Err(Error::DamagedStore { what, .. }) if names_it(what)), "{refused:?}");
    assert_same(&before, &snapshot(&dir));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_without_an_index() {
    for packed in [None, Some(())] {
        let dir = store(packed).await;
        let spoil: [fn(&Path); 3] = [
            |path| fs::remove_file(path).unwrap(),
            |path| change(path, |bytes| bytes[4096..].fill(7)),
            |path| fs::write(path, b"").unwrap(),
        ];
        for (i, spoil) in spoil.into_iter().enumerate() {
            let copy = copy(dir.path());
            spoil(&copy.path().join("index.redb"));
            let store = open(tiny(copy.path())).await;
            let recovery = store.recovery();
            assert!(recovery.rebuilt_index && recovery.losses.is_empty() && !recovery.holds_collection);
            assert_eq!(
                (recovery.rebuilt_because.is_some(), recovery.quarantined.len()),
                (i > 0, usize::from(i > 0))
            );
            assert_eq!(smalls(&store).await, SMALLS.collect::<Vec<_>>());
            for seed in LARGES {
                assert!(has(&store, seed, LARGE_LEN).await);
            }
            let partial = hash(200, LARGE_LEN);
            assert_eq!(store.present_ranges(&partial).await.unwrap().unwrap(), chunks(0..64));
            let tags =
                blob_traits::collect(store.tags(blob_traits::TagRange::all()).await.unwrap()).await.unwrap();
            assert_eq!(tags.len(), 12);
            for seed in 1_000..1_006 {
                assert!(!has(&store, seed, SMALL_LEN).await);
            }
            store.begin_sweep().await.unwrap();
            store.shutdown().await.unwrap();
            let again = open(tiny(copy.path())).await;
            assert!(!again.recovery().rebuilt_index);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_of_a_segment_is_refused_until_it_is_accepted_and_then_harms_nothing_else() {
    for packed in [None, Some(())] {
        let dir = store(packed).await;
        for (segment, spoil) in losses(dir.path()) {
            for with_index in [true, false] {
                let copy = copy(dir.path());
                let path = copy.path().join(&segment);
                let is_log = kind_of_segment(&path) == 1;
                let newest = segments(copy.path()).into_iter().rfind(|path| kind_of_segment(path) == 1);
                let is_newest = newest.as_deref() == Some(&*path);
                let lost: Vec<u64> = {
                    let bytes = fs::read(&path).unwrap();
                    let lies_there = |seed: &u64| {
                        let data = content(*seed, SMALL_LEN);
                        bytes.windows(32).any(|window| *window == data[..32])
                    };
                    SMALLS.filter(lies_there).collect()
                };
                spoil(&path);
                if !with_index {
                    fs::remove_file(copy.path().join("index.redb")).unwrap();
                }
                // Without an index nothing tells of a segment after which none follows, or the one that did was compacted.
                if with_index || (packed.is_none() && is_log && !is_newest) {
                    match FsStore::open(tiny(copy.path())).await {
                        // What is cut off is missed when it is read, where no other segment says how long this one is.
                        Ok(store) if !is_log || packed.is_some() => drop(store),
                        Ok(store) => panic!("{segment:?}: {:?}", store.recovery()),
                        Err(_) => assert_refused(tiny(copy.path())).await,
                    }
                }
                let store = open(accepting(tiny(copy.path()))).await;
                let recovery = store.recovery().clone();
                if with_index && (!path.exists() || (is_log && packed.is_none())) {
                    assert!(
                        !recovery.losses.is_empty() && recovery.holds_collection,
                        "{segment:?} {recovery:?}"
                    );
                    assert!(store.begin_sweep().await.is_err());
                }
                let left = smalls(&store).await;
                assert!(
                    SMALLS.filter(|seed| !left.contains(seed)).all(|seed| lost.contains(&seed)),
                    "{segment:?}: {left:?}"
                );
                // It goes on as any store.
                for seed in SMALLS.chain(300..304) {
                    if !left.contains(&seed) {
                        let _ = store.delete(vec![hash(seed, SMALL_LEN)]).await;
                    }
                    import(&store, seed, SMALL_LEN).await;
                }
                store.shutdown().await.unwrap();
                let store = open(tiny(copy.path())).await;
                assert!(store.recovery().losses.is_empty(), "{:?}", store.recovery());
                assert_eq!(store.recovery().holds_collection, recovery.holds_collection);
                assert_eq!(smalls(&store).await.len(), 12);
                assert!(has(&store, 303, SMALL_LEN).await);
                store.shutdown().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn log_that_is_lost_altogether_is_refused_while_there_are_files() {
    let dir = store(None).await;
    for with_index in [true, false] {
        let copy = copy(dir.path());
        for path in segments(copy.path()) {
            fs::remove_file(path).unwrap();
        }
        if !with_index {
            fs::write(copy.path().join("index.redb"), b"no index").unwrap();
        }
        assert_refused(tiny(copy.path())).await;
        let files = all_files(&copy.path().join("data"));
        let store = open(accepting(tiny(copy.path()))).await;
        assert!(!store.recovery().losses.is_empty() && store.recovery().holds_collection);
        assert_eq!(files, all_files(&copy.path().join("data")));
        assert_eq!(smalls(&store).await, Vec::<u64>::new());
        import(&store, 1, SMALL_LEN).await;
        store.shutdown().await.unwrap();
        assert_eq!(smalls(&open(tiny(copy.path())).await).await, [1]);
    }
}

#[tokio::test]
async fn partial_blob_outlives_the_loss_of_another_segment() {
    let dir = store(None).await;
    fs::remove_file(&segments(dir.path())[1]).unwrap();
    let store = open(accepting(tiny(dir.path()))).await;
    let name = hash(200, LARGE_LEN);
    assert_eq!(store.present_ranges(&name).await.unwrap().unwrap(), chunks(0..64));
    let stream = bao(&content(200, LARGE_LEN), &ChunkRanges::all());
    store.import_bao(name, LARGE_LEN as u64, ChunkRanges::all(), stream).await.unwrap();
    assert!(has(&store, 200, LARGE_LEN).await);
}
