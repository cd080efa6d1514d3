//! Random damage anywhere in the directory of a store, then opening and repair: nothing panics, nothing that was not hit is
//! lost, nothing is read wrongly, and a second check finds no more damage. `BLOB_DAMAGE` says how many rounds.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]
#![expect(clippy::indexing_slicing, reason = "helpers of tests are tests, too")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use blob_fs::{CompactOptions, FsStore};
use blob_traits::{
    BlobFormat, CheckMode, ConsistencyCheckProgress as Event, Error, HashAndFormat, Progress, ReportLevel,
    prelude::*,
};
use support::{
    Dice, accepting, bao, chunks, content, copy_dir, files::all_files, hash, import, log::change, open,
    temp_dir, tiny,
};

/// What is in the store: seeds and lengths.
const BLOBS: [(u64, usize); 12] = [
    (0, 100),
    (1, 20_000),
    (2, 20_000),
    (3, 30_000),
    (4, 64_000),
    (5, 10),
    (6, 20_000),
    (7, 20_000),
    (10, 70_000),
    (11, 100_000),
    (12, 300_000),
    (13, 90_000),
];
const PARTIAL: (u64, usize) = (20, 150_000);

async fn base() -> tempfile::TempDir {
    let dir = temp_dir();
    let store = open(tiny(dir.path())).await;
    for (i, (seed, len)) in BLOBS.into_iter().enumerate() {
        let content = HashAndFormat::new(import(&store, seed, len).await, BlobFormat::Raw);
        store.set_tag(format!("tag {seed}").as_str().into(), Some(content)).await.unwrap();
        if i == 5 {
            for seed in 1_000..1_006 {
                import(&store, seed, 15_000).await;
            }
            store.delete((1_000..1_006).map(|seed| hash(seed, 15_000)).collect()).await.unwrap();
            store.compact(CompactOptions { max_dead_percent: 0, ..CompactOptions::default() }).await.unwrap();
        }
    }
    let stream = bao(&content(PARTIAL.0, PARTIAL.1), &chunks(0..64));
    store.import_bao(hash(PARTIAL.0, PARTIAL.1), PARTIAL.1 as u64, chunks(0..64), stream).await.unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    open(tiny(dir.path())).await.shutdown().await.unwrap();
    dir
}

/// Damages one or two files, and says which.
fn damage(files: &[PathBuf], dice: &mut Dice) -> Vec<PathBuf> {
    let pick = |dice: &mut Dice| files[usize::try_from(dice.roll(files.len() as u64)).unwrap()].clone();
    let path = pick(dice);
    if !path.exists() {
        return vec![path];
    }
    let len = fs::metadata(&path).unwrap().len().max(1);
    let at = usize::try_from(dice.roll(len)).unwrap();
    match dice.roll(6) {
        0 => change(&path, |bytes| {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.roll(8);
            }
        }),
        1 => change(&path, |bytes| bytes.truncate(at)),
        2 => change(&path, |bytes| bytes.extend(vec![7; at])),
        3 => change(&path, |bytes| {
            let end = (at + 5_000).min(bytes.len());
            bytes[at.min(end)..end].fill(0);
        }),
        4 => fs::remove_file(&path).unwrap(),
        _ => {
            let other = pick(dice);
            if other.exists() {
                let (a, b) = (fs::read(&path).unwrap(), fs::read(&other).unwrap());
                fs::write(&path, b).unwrap();
                fs::write(&other, a).unwrap();
                return vec![path, other];
            }
        }
    }
    vec![path]
}

/// What a check finds, from warnings on.
async fn check(store: &FsStore, mode: CheckMode) -> Vec<(ReportLevel, String)> {
    let found = Arc::new(Mutex::new(Vec::new()));
    let seen = found.clone();
    let progress = Progress::from_fn(move |event| {
        if let Event::Update { message, level, .. } = event
            && level >= ReportLevel::Warn
        {
            seen.lock().unwrap().push((level, message));
        }
        Ok(())
    });
    store.consistency_check(mode, progress).await.unwrap();
    found.lock().unwrap().clone()
}

/// What a blob needs: its files, and the segments that name it.
fn needs(dir: &Path, seed: u64, len: usize) -> BTreeSet<PathBuf> {
    let name = hash(seed, len);
    let hex = name.to_string();
    let is_needed = |path: &PathBuf| {
        path.to_str().unwrap().contains(&hex)
            || (path.extension().is_some_and(|extension| extension == "seg")
                && fs::read(path).unwrap().windows(32).any(|window| window == name.as_bytes()))
    };
    all_files(dir)
        .into_iter()
        .filter(is_needed)
        .map(|path| path.strip_prefix(dir).unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_what_was_hit_is_lost_and_repair_leaves_a_sound_store() {
    let rounds = std::env::var("BLOB_DAMAGE").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let base = base().await;
    let needed: Vec<_> = BLOBS.iter().map(|(seed, len)| needs(base.path(), *seed, *len)).collect();
    for round in 0..rounds {
        let mut dice = Dice(round);
        let copy = temp_dir();
        copy_dir(base.path(), copy.path());
        let mut files = all_files(copy.path());
        files.retain(|path| !path.ends_with("LOCK"));
        let mut hit = BTreeSet::new();
        for _ in 0..=dice.roll(3) {
            let paths = damage(&files, &mut dice);
            hit.extend(paths.into_iter().map(|path| path.strip_prefix(copy.path()).unwrap().to_owned()));
        }
        let context = format!("round {round}: {hit:?}");
        println!("{context}");
        let mut left = Vec::new();
        // A damaged index that is found out late is built anew at the next opening.
        for _ in 0..3 {
            let store = match FsStore::open(accepting(tiny(copy.path()))).await {
                Ok(store) => store,
                // A version that is not ours.
                Err(Error::UnsupportedFormat { .. }) => break,
                Err(e) => panic!("{context}: {e:?}"),
            };
            check(&store, CheckMode::Repair).await;
            left = check(&store, CheckMode::Report).await;
            store.shutdown().await.unwrap();
            if !left.iter().any(|(level, _)| *level == ReportLevel::Error) {
                break;
            }
        }
        let store = match FsStore::open(tiny(copy.path())).await {
            Ok(store) => store,
            Err(Error::UnsupportedFormat { .. }) => continue,
            Err(e) => panic!("{context}: {e:?}"),
        };
        left.extend(check(&store, CheckMode::Report).await);
        let is_allowed =
            |(level, what): &(ReportLevel, String)| *level == ReportLevel::Warn && what.starts_with("tag ");
        assert!(left.iter().all(is_allowed), "{context}: {left:?}");
        for ((seed, len), needed) in BLOBS.into_iter().zip(&needed) {
            let read = store.read_verified(hash(seed, len), 0..u64::MAX).await;
            if needed.is_disjoint(&hit) {
                assert!(
                    read.as_ref().is_ok_and(|read| *read == content(seed, len)),
                    "{context}: {seed}: {read:?}"
                );
            }
            if let Ok(read) = store.read_to_bytes(hash(seed, len)).await
                && read != content(seed, len)
            {
                // Only the bytes themselves tell.
                assert!(!needed.is_disjoint(&hit), "{context}: {seed}");
            }
            import(&store, seed, len).await;
        }
        store.shutdown().await.unwrap();
    }
}
