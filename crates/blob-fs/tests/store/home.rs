//! Where a store lives during a test, and how it is set up.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use blob_fs::{Compaction, FsStore, Options};
use blob_traits::prelude::*;
use tempfile::TempDir;

use crate::altered::{Altered, Gate};

/// The ways to set up a store that differ most in what they do with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    Default,
    NothingInlined,
    AllInlined,
    /// All that is bounded is bounded tightly.
    Tiny,
}

pub(crate) const SETUPS: [Setup; 4] = [Setup::Default, Setup::NothingInlined, Setup::AllInlined, Setup::Tiny];

const BOUNDARY_SIZES: [usize; 13] =
    [0, 1, 1023, 1024, 1025, 16383, 16384, 16385, 32768, 32769, 1 << 20, (1 << 20) + 1, (4 << 20) + 777];

impl Setup {
    fn apply(self, options: &mut Options) {
        match self {
            Self::Default => {}
            Self::NothingInlined => options.inline_max = 0,
            Self::AllInlined => options.inline_max = 8 << 20,
            Self::Tiny => {
                options.inline_max = 20_000;
                options.partial_memory_max = 30_000;
                options.overlay_rows = 3;
                options.segment_size = 64 << 10;
                options.open_files = 2;
            }
        }
    }

    /// Sizes around every boundary, the largest blob that is inlined among them.
    pub(crate) fn sizes(self) -> Vec<usize> {
        let mut options = Options::new("");
        self.apply(&mut options);
        let inline_max = usize::try_from(options.inline_max).unwrap();
        let around = [inline_max.saturating_sub(1), inline_max, inline_max + 1];
        let mut sizes: Vec<_> = BOUNDARY_SIZES.into_iter().chain(around).collect();
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }
}

/// A directory for a store, and one for files of the user's.
#[derive(Debug)]
pub(crate) struct Home {
    dir: TempDir,
    options: Options,
}

impl Home {
    pub(crate) fn new(setup: Setup) -> Self {
        Self::with(|options| setup.apply(options))
    }

    pub(crate) fn with(change: impl FnOnce(&mut Options)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("user")).unwrap();
        let mut options = Options::new(dir.path().join("store"));
        change(&mut options);
        Self { dir, options }
    }

    /// One on a file system that shares blocks.
    pub(crate) fn sharing_blocks() -> Self {
        Self::with(|options| {
            options.inline_max = 0;
            options.vfs = Arc::new(Altered { shares_blocks: true, ..Altered::default() });
        })
    }

    /// One whose log can be held up when a new segment is due, which it is after each blob of 64 KiB.
    pub(crate) fn gated() -> (Self, Arc<Gate>) {
        let gate = Arc::new(Gate::default());
        let home = Self::with(|options| {
            options.inline_max = 80_000;
            options.segment_size = 64 << 10;
            options.compaction = Compaction::Manual;
            options.vfs = Arc::new(Altered { gate: gate.clone(), ..Altered::default() });
        });
        (home, gate)
    }

    pub(crate) async fn open(&self) -> FsStore {
        FsStore::open(self.options.clone()).await.unwrap()
    }

    /// Shuts the store down and opens it again.
    pub(crate) async fn reopen(&self, store: FsStore) -> FsStore {
        store.shutdown().await.unwrap();
        drop(store);
        self.open().await
    }

    /// The store's directory, or what lies in it.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        self.dir.path().join("store").join(name)
    }

    /// The path of a file of the user's.
    pub(crate) fn user(&self, name: &str) -> PathBuf {
        self.dir.path().join("user").join(name)
    }

    /// A file of the user's.
    pub(crate) fn user_file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.user(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// The names of the user's files.
    pub(crate) fn user_names(&self) -> Vec<String> {
        names(&self.user(""))
    }

    /// All files below the store's directory with their lengths.
    pub(crate) fn files(&self) -> BTreeMap<String, u64> {
        let mut files = BTreeMap::new();
        walk(&self.inside(""), "", &mut files);
        files
    }

    /// How many files with this extension lie below the store's directory.
    pub(crate) fn n_files(&self, extension: &str) -> usize {
        self.files().keys().filter(|name| has_extension(name, extension)).count()
    }

    /// How many files are in `temp/`.
    pub(crate) fn n_temporary(&self) -> usize {
        names(&self.inside("temp")).len()
    }
}

/// Opens a store in a directory of its own.
pub(crate) async fn open(setup: Setup) -> (Home, FsStore) {
    let home = Home::new(setup);
    let store = home.open().await;
    (home, store)
}

pub(crate) fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn walk(dir: &Path, prefix: &str, files: &mut BTreeMap<String, u64>) {
    for name in names(dir) {
        let (path, shown) = (dir.join(&name), format!("{prefix}{name}"));
        // A file may be moved while the list is made.
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => walk(&path, &format!("{shown}/"), files),
            Ok(metadata) => drop(files.insert(shown, metadata.len())),
            Err(_) => {}
        }
    }
}
