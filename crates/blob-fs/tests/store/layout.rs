//! What lies in the store's directory, whatever was done before: all that is needed and nothing else.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::PermissionsExt,
};

use bao_tree::ChunkRanges;
use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, EntryStatus, ExistingTarget, ExportMode, ExportOptions, Hash, ImportMode, Progress, collect,
    prelude::*,
};
use proptest::prelude::*;

use crate::{
    drive::alone,
    home::{Home, SETUPS, Setup, has_extension, open},
    sample::{Sample, chunks, import, present, status, write},
};

/// Checks that each file below a store that was just opened belongs to something, and that nothing is there twice.
pub(crate) async fn check_accounted(home: &Home, store: &FsStore) {
    let complete: BTreeSet<Hash> = collect(store.blobs().await.unwrap()).await.unwrap().into_iter().collect();
    let partial: BTreeSet<Hash> =
        collect(store.partial_blobs().await.unwrap()).await.unwrap().into_iter().collect();
    let mut seen = BTreeMap::new();
    for name in home.files().into_keys() {
        let (dir, file) = name.rsplit_once('/').unwrap_or(("", &name));
        // A segment in `temp` is one that compaction is writing.
        let is_segment = has_extension(file, "seg") && matches!(dir, "log" | "temp");
        if matches!(name.as_str(), "LOCK" | "index.redb") || is_segment {
            continue;
        }
        let (hash, rest) = file.split_once('-').unwrap_or_else(|| panic!("{name}"));
        let (no, extension) = rest.split_once('.').unwrap();
        let hash: Hash = hash.parse().unwrap();
        let wanted = if dir == "partial" {
            partial.contains(&hash) && ["data", "pairs", "bits"].contains(&extension)
        } else {
            let subdir = format!("data/{:02x}", hash.as_bytes()[0]);
            dir == subdir && complete.contains(&hash) && ["data", "obao4"].contains(&extension)
        };
        assert!(wanted, "{name}");
        assert_eq!(seen.entry(hash).or_insert_with(|| no.to_owned()), no, "{name}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_partial_blobs_however_they_became_complete() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        for (i, size) in [1000, 40_000, 300_000, 3_000_000].into_iter().enumerate() {
            for way in 0..4 {
                let sample = Sample::numbered(size, i * 4 + way);
                let part = chunks(0..16);
                write(&store, sample.hash, sample.size(), sample.items(&part)).await.unwrap();
                if way % 2 == 0 {
                    store.sync().await.unwrap();
                }
                if way < 2 {
                    import(&store, &sample).await;
                } else {
                    let all = ChunkRanges::all();
                    store
                        .import_bao(sample.hash, sample.size(), all.clone(), sample.encode(&all))
                        .await
                        .unwrap();
                }
                assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
            }
        }
        let store = home.reopen(store).await;
        check_accounted(&home, &store).await;
        assert!(home.files().keys().all(|name| !name.starts_with("partial/")));
        assert_eq!(store.recovery(), &blob_fs::Recovery::default());
        // And nothing is left to be cleared away by the next one.
        let before: Vec<_> = home.files().into_keys().collect();
        let _store = home.reopen(store).await;
        assert_eq!(home.files().into_keys().collect::<Vec<_>>(), before);
    }
}

#[tokio::test]
async fn deleted_blobs_leave_no_files() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let mut hashes = Vec::new();
        for (i, size) in [1000, 40_000, 300_000].into_iter().enumerate() {
            let (whole, part) = (Sample::numbered(size, i), Sample::numbered(size, 100 + i));
            import(&store, &whole).await;
            write(&store, part.hash, part.size(), part.items(&chunks(0..16))).await.unwrap();
            let path = home.user_file(&i.to_string(), &Sample::numbered(size, 200 + i).data);
            let mode = ImportMode::TryReference;
            let (tag, _) = store.import_file(path, mode, BlobFormat::Raw, Progress::none()).await.unwrap();
            hashes.extend([whole.hash, part.hash, tag.hash()]);
        }
        let store = home.reopen(store).await;
        store.delete(hashes).await.unwrap();
        let store = home.reopen(store).await;
        check_accounted(&home, &store).await;
        assert_eq!(home.user_names().len(), 3);
    }
}

#[test]
fn files_are_private_whatever_the_umask() {
    if !alone("layout::files_are_private_whatever_the_umask") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for umask in [0o000, 0o022, 0o777] {
        let home = Home::new(Setup::Tiny);
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(umask));
        runtime.block_on(async {
            let mut store = home.open().await;
            for (i, size) in [1000, 40_000, 300_000].into_iter().enumerate() {
                import(&store, &Sample::numbered(size, i)).await;
                let part = Sample::numbered(size, 100 + i);
                write(&store, part.hash, part.size(), part.items(&chunks(0..16))).await.unwrap();
                store = home.reopen(store).await;
            }
            import(&store, &Sample::numbered(300_000, 7)).await;
        });
        rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o022));
        check_modes(&home.inside(""));
    }
}

fn check_modes(dir: &std::path::Path) {
    assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "{}", dir.display());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            check_modes(&path);
        } else {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600, "{}", path.display());
        }
    }
}

#[test]
fn exported_files_have_the_modes_of_the_user() {
    if !alone("layout::exported_files_have_the_modes_of_the_user") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for home in [Home::new(Setup::Default), Home::sharing_blocks()] {
        runtime.block_on(async {
            let store = home.open().await;
            let samples = [Sample::new(1000), Sample::new(300_000)];
            for sample in &samples {
                import(&store, sample).await;
            }
            let store = home.reopen(store).await;
            for (umask, mode) in [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)] {
                rustix::process::umask(rustix::fs::Mode::from_bits_truncate(umask));
                for sample in &samples {
                    let target = home.user(&format!("{} {umask}", sample.size()));
                    store
                        .export(sample.hash, target.clone(), ExportMode::Copy, Progress::none())
                        .await
                        .unwrap();
                    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o7777, mode);
                }
            }
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Import(usize),
    Refer(usize),
    Part(usize, u64, u64),
    Delete(usize),
    Export(usize, ExportMode),
    Sync,
    Reopen,
    Drop,
}

const SIZES: [usize; 6] = [10, 1024, 17_000, 40_000, 100_000, 300_000];

fn step() -> impl Strategy<Value = Step> {
    let blob = 0..SIZES.len();
    let mode = prop::sample::select(vec![ExportMode::Copy, ExportMode::TryReference]);
    prop_oneof![
        3 => blob.clone().prop_map(Step::Import),
        2 => blob.clone().prop_map(Step::Refer),
        4 => (blob.clone(), 0..300_u64, 1..200_u64).prop_map(|(blob, start, len)| Step::Part(blob, start, len)),
        3 => blob.clone().prop_map(Step::Delete),
        2 => (blob, mode).prop_map(|(blob, mode)| Step::Export(blob, mode)),
        1 => Just(Step::Sync),
        2 => Just(Step::Reopen),
        1 => Just(Step::Drop),
    ]
}

/// Does a step, and says what there must be of its blob afterwards.
async fn apply(
    home: &Home,
    store: &FsStore,
    sample: &Sample,
    step: &Step,
    before: &ChunkRanges,
) -> ChunkRanges {
    let all = chunks(0..sample.n_chunks());
    match step {
        Step::Import(_) => drop(import(store, sample).await),
        Step::Refer(i) => {
            let path = home.user_file(&format!("in {i}"), &sample.data);
            let import = store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none());
            import.await.unwrap();
        }
        Step::Part(_, start, len) => {
            let start = start % sample.n_chunks();
            let part = chunks(start..(start + len).min(sample.n_chunks()));
            store.import_bao(sample.hash, sample.size(), part.clone(), sample.encode(&part)).await.unwrap();
            return before.clone() | part;
        }
        Step::Delete(_) => {
            store.delete(vec![sample.hash]).await.unwrap();
            return ChunkRanges::empty();
        }
        Step::Export(i, mode) => {
            let (target, options) = (
                home.user(&format!("out {i}")),
                ExportOptions { mode: *mode, existing: ExistingTarget::Replace },
            );
            let exported = store.export(sample.hash, target.clone(), options, Progress::none()).await;
            assert_eq!(exported.is_ok(), *before == all);
            assert!(exported.is_err() || std::fs::read(target).unwrap() == sample.data);
            return before.clone();
        }
        Step::Sync | Step::Reopen | Step::Drop => unreachable!("it is of no blob"),
    }
    all
}

async fn check_state(store: &FsStore, sample: &Sample, expected: &ChunkRanges) {
    if expected.is_empty() {
        assert_eq!(status(store, sample.hash), EntryStatus::NotFound);
    } else if *expected == chunks(0..sample.n_chunks()) {
        assert_eq!(status(store, sample.hash), EntryStatus::Complete);
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
    } else {
        assert_eq!(status(store, sample.hash), EntryStatus::Partial);
        assert_eq!(present(store, sample.hash).await, *expected);
        let range = expected.boundaries()[0].0..expected.boundaries()[1].0;
        let bytes = store.read_range(sample.hash, range.start * 1024..range.end * 1024).await.unwrap();
        assert_eq!(bytes, sample.bytes_of(range));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn directory_and_state_follow_any_history(
        setup in prop::sample::select(SETUPS.to_vec()),
        steps in prop::collection::vec(step(), 1..25),
    ) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
            let samples = SIZES.map(Sample::new);
            let mut model = SIZES.map(|_| ChunkRanges::empty());
            let (home, mut store) = open(setup).await;
            for step in steps.into_iter().chain([Step::Reopen]) {
                match step {
                    Step::Import(i) | Step::Refer(i) | Step::Part(i, ..) | Step::Delete(i) | Step::Export(i, _) => {
                        model[i] = apply(&home, &store, &samples[i], &step, &model[i]).await;
                        check_state(&store, &samples[i], &model[i]).await;
                        continue;
                    }
                    Step::Sync => {
                        store.sync().await.unwrap();
                        continue;
                    }
                    Step::Reopen => store = home.reopen(store).await,
                    Step::Drop => {
                        drop(store);
                        store = home.open().await;
                    }
                }
                check_accounted(&home, &store).await;
                for (sample, expected) in samples.iter().zip(&model) {
                    check_state(&store, sample, expected).await;
                }
            }
        });
    }
}
