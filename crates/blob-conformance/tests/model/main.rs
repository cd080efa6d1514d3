//! The histories on our own backends, and proof that they find faults.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod broken;

use blob_conformance::model::{Disagreement, Setup, run_concurrent, run_sequential};
use blob_fs::{FsStore, Options};
use blob_mem::MemStore;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use broken::{Broken, Fault};

/// How often and how long: `BLOB_MODEL` may say `seed histories len`.
fn amount() -> (u64, u32, usize) {
    let given = std::env::var("BLOB_MODEL").unwrap_or_default();
    let mut words = given.split_whitespace();
    let mut next = |default: u64| words.next().map_or(default, |word| word.parse().unwrap());
    let (seed, n_histories, len) = (next(1), next(8), next(40));
    (seed, u32::try_from(n_histories).unwrap(), usize::try_from(len).unwrap())
}

fn mem(dir: &TempDir) -> Setup<MemStore> {
    let (seed, n_histories, len) = amount();
    Setup {
        open: Box::new(|_| Box::pin(async { Ok(MemStore::new()) })),
        dir: dir.path().to_owned(),
        persistent: false,
        references: false,
        thresholds: Vec::new(),
        seed,
        n_histories,
        len,
    }
}

fn fs(dir: &TempDir, change: Change) -> Setup<FsStore> {
    let (seed, n_histories, len) = amount();
    let mut options = Options::new("");
    change(&mut options);
    Setup {
        open: Box::new(move |path| {
            let mut options = Options::new(path);
            change(&mut options);
            Box::pin(FsStore::open(options))
        }),
        dir: dir.path().to_owned(),
        persistent: true,
        references: true,
        thresholds: vec![options.inline_max.min(200_000), options.partial_memory_max.min(200_000)],
        seed,
        n_histories,
        len,
    }
}

fn nothing_inlined(options: &mut Options) {
    options.inline_max = 0;
    options.segment_size = 64 << 10;
}

fn all_inlined(options: &mut Options) {
    options.inline_max = 8 << 20;
    options.segment_size = 64 << 10;
}

fn tiny(options: &mut Options) {
    options.inline_max = 20_000;
    options.partial_memory_max = 30_000;
    options.overlay_rows = 3;
    options.segment_size = 64 << 10;
    options.open_files = 2;
}

type Change = fn(&mut Options);

const FS: [(&str, Change); 4] = [
    ("default", |options| options.segment_size = 256 << 10),
    ("nothing inlined", nothing_inlined),
    ("all inlined", all_inlined),
    ("tiny", tiny),
];

#[test]
fn memory_store_agrees_with_the_reference() {
    let dir = TempDir::new().unwrap();
    let outcome = run_sequential(&mem(&dir), &Runtime::new().unwrap());
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn file_store_agrees_with_the_reference() {
    for (name, change) in FS {
        let dir = TempDir::new().unwrap();
        let outcome = run_sequential(&fs(&dir, change), &Runtime::new().unwrap());
        assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
    }
}

#[test]
fn concurrent_calls_to_the_memory_store_are_explained() {
    let dir = TempDir::new().unwrap();
    let outcome = run_concurrent(&mem(&dir), &Runtime::new().unwrap());
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn concurrent_calls_to_the_file_store_are_explained() {
    for (name, change) in FS {
        let dir = TempDir::new().unwrap();
        let outcome = run_concurrent(&fs(&dir, change), &Runtime::new().unwrap());
        assert!(outcome.is_ok(), "{name}: {}", outcome.unwrap_err());
    }
}

fn broken(dir: &TempDir, fault: Fault) -> Setup<Broken> {
    Setup {
        open: Box::new(move |_| Box::pin(async move { Ok(Broken::new(fault)) })),
        dir: dir.path().to_owned(),
        persistent: false,
        references: false,
        thresholds: Vec::new(),
        seed: 1,
        n_histories: 200,
        len: 40,
    }
}

#[test]
fn each_fault_is_found_and_shown_by_a_short_history() {
    for (fault, n_steps) in [
        (Fault::ForgetsTagOfKnownBlob, 2),
        (Fault::FailedImportStays, 1),
        (Fault::RenameCopies, 2),
        (Fault::KeepsPartialBlobs, 2),
        (Fault::ReplacesTarget, 3),
        (Fault::ClaimForgets, 2),
        (Fault::TempTagsAreAllRaw, 1),
        (Fault::StaleStatus, 2),
    ] {
        let dir = TempDir::new().unwrap();
        let error = run_sequential(&broken(&dir, fault), &Runtime::new().unwrap()).unwrap_err();
        let found = error.downcast_ref::<Disagreement>().unwrap();
        assert!(found.n_steps <= n_steps, "{fault:?}: {found}");
    }
}

#[test]
fn each_race_is_found() {
    for fault in [Fault::StaleStatus, Fault::RenameInSteps, Fault::ListsInSteps] {
        let dir = TempDir::new().unwrap();
        let outcome = run_concurrent(&broken(&dir, fault), &Runtime::new().unwrap());
        assert!(outcome.is_err_and(|e| e.is::<Disagreement>()), "{fault:?}");
    }
}
