//! Demotion (E48): a blob of any state becomes partial with what is sound of it, stays so through whatever follows, and
//! becomes complete again.

mod support;

use std::fs;

use bao_tree::{ChunkNum, ChunkRanges, io::fsm::Outboard as _};
use blob_fs::CompactOptions;
use blob_traits::{Damage, EntryStatus, Error, Hash, prelude::*};
use proptest::{prelude::*, test_runner::TestRunner};
use support::{
    bao, chunks, copy_dir,
    demoted::{ALL, Kept, LARGE, SMALL, check, complete, demote, lost, store_dir},
    files::check_files,
    has, import, open, temp_dir, tiny,
};

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
