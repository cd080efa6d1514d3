//! The store that is damaged: blobs of every kind in a closed directory, and where each of them lies, read without the
//! store's own code.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bao_tree::ChunkRanges;
use blob_conformance::{Sample, group_ranges};
use blob_fs::{CompactOptions, Compaction, FsStore, Options, Rebuild};
use blob_traits::{BlobFormat, CheckMode, Hash, HashAndFormat, ImportMode, Progress, prelude::*};
use tempfile::TempDir;

/// Sizes of blobs that lie in the log.
const SMALL: [usize; 11] = [10, 1000, 16_384, 16_385, 20_000, 20_000, 33_000, 50_000, 64_000, 64_000, 100];
/// Sizes of blobs that have files.
const LARGE: [usize; 5] = [70_000, 131_072, 300_000, 300_000, 1_100_000];
/// The size of the one that lies in a file of the user's.
const REFERENCED: usize = 150_000;
/// Sizes of partial blobs, and which of their groups are there.
const PARTIAL: [(usize, [Range<u64>; 2]); 2] = [(150_000, [0..3, 5..6]), (400_000, [1..9, 17..25])];

/// A store, a copy of it, and the blobs in both.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) copy: TempDir,
    /// Where the user's own file lies.
    _user: TempDir,
    pub(crate) blobs: Vec<Blob>,
    /// The bytes of all files of the store, by their names in it.
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

/// A blob of the store.
pub(crate) struct Blob {
    pub(crate) sample: Sample,
    pub(crate) kept: Kept,
    /// What is there of it.
    pub(crate) present: ChunkRanges,
    /// Its last record in the log.
    pub(crate) record: Record,
    /// The last record of the tag that names it.
    pub(crate) tag: Option<(String, Record)>,
}

/// How a blob is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Small,
    Large,
    Referenced,
    Partial,
}

/// Where a record lies.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) segment: PathBuf,
    /// How long the header of the segment is.
    pub(crate) segment_header: usize,
    /// All of it, with the padding.
    pub(crate) bytes: Range<usize>,
    /// Behind its header.
    pub(crate) payload: Range<usize>,
    kind: u8,
    seq: u64,
    hash: [u8; 32],
}

impl Blob {
    pub(crate) fn is_complete(&self) -> bool {
        self.kept != Kept::Partial
    }
}

/// A store that begins segments all the time, and compacts when it is told to.
pub(crate) fn options(dir: &Path) -> Options {
    Options {
        segment_size: 64 << 10,
        overlay_rows: 2,
        overlay_age: Duration::from_millis(5),
        index_cache: 1 << 20,
        partial_memory_max: 32 << 10,
        compaction: Compaction::Manual,
        ..Options::new(dir)
    }
}

/// The same, opened in spite of losses.
pub(crate) fn accepting(dir: &Path) -> Options {
    Options { rebuild: Rebuild::AcceptLoss, ..options(dir) }
}

/// A directory in memory where there is one.
pub(crate) fn temp_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let [dir, copy, user] = [temp_dir(), temp_dir(), temp_dir()];
        let number = |n: usize| n as u64;
        let small = (0..).zip(SMALL).map(|(n, size)| (Sample::numbered(size, number(n)), Kept::Small));
        let large = (50..).zip(LARGE).map(|(n, size)| (Sample::numbered(size, number(n)), Kept::Large));
        let referenced = (Sample::new(REFERENCED), Kept::Referenced);
        let complete: Vec<_> = small.chain(large).chain([referenced]).collect();
        let partial = PARTIAL.map(|(size, groups)| {
            let sample = Sample::numbered(size, 99);
            let present = groups.into_iter().fold(ChunkRanges::empty(), |all, run| all | group_ranges(run));
            let n_chunks = sample.n_chunks();
            (sample, present & blob_conformance::chunks(0..n_chunks))
        });
        let store = FsStore::open(options(dir.path())).await.unwrap();
        fill(&store, user.path(), &complete).await;
        for (sample, present) in &partial {
            sample.write(&store, present).await.unwrap();
            tag(&store, sample).await;
        }
        store.sync().await.unwrap();
        close(store).await;
        // So that all has been moved to where it belongs.
        close(FsStore::open(options(dir.path())).await.unwrap()).await;
        let other = FsStore::open(options(copy.path())).await.unwrap();
        for sample in
            complete.iter().map(|(sample, _)| sample).chain(partial.iter().map(|(sample, _)| sample))
        {
            drop(sample.import(&other).await.unwrap());
        }
        close(other).await;
        let files = read_all(dir.path());
        let records = all_records(&files);
        let whole = complete.into_iter().map(|(sample, kept)| {
            let n_chunks = sample.n_chunks();
            (sample, kept, blob_conformance::chunks(0..n_chunks))
        });
        let partial = partial.into_iter().map(|(sample, present)| (sample, Kept::Partial, present));
        let blobs = whole.chain(partial).map(|(sample, kept, present)| {
            let record = last(&records, kept.kind(), sample.hash);
            let tag = is_tagged(&sample).then(|| (sample.hash.to_string(), last(&records, 6, sample.hash)));
            Blob { sample, kept, present, record, tag }
        });
        let blobs = blobs.collect();
        Self { dir, copy, _user: user, blobs, files }
    }
}

impl Kept {
    /// The kind of its record (E13).
    fn kind(self) -> u8 {
        match self {
            Self::Small => 1,
            Self::Large => 2,
            Self::Referenced => 3,
            Self::Partial => 4,
        }
    }
}

/// Every other one.
fn is_tagged(sample: &Sample) -> bool {
    sample.hash.as_bytes()[0].is_multiple_of(2)
}

async fn tag(store: &FsStore, sample: &Sample) {
    if is_tagged(sample) {
        let name = sample.hash.to_string();
        store.set_tag(name.as_str().into(), Some(HashAndFormat::raw(sample.hash))).await.unwrap();
    }
}

/// Imports blobs, and leaves something to be compacted halfway.
async fn fill(store: &FsStore, user: &Path, blobs: &[(Sample, Kept)]) {
    for (n, (sample, kept)) in blobs.iter().enumerate() {
        if *kept == Kept::Referenced {
            let path = user.join("file");
            fs::write(&path, &sample.data).unwrap();
            let then = SystemTime::now() - Duration::from_hours(1);
            File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
            let import = store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, Progress::none());
            drop(import.await.unwrap());
        } else {
            drop(sample.import(store).await.unwrap());
        }
        tag(store, sample).await;
        if n == SMALL.len() / 2 {
            let junk: Vec<_> = (1000..1006).map(|n| Sample::numbered(15_000, n)).collect();
            for sample in &junk {
                drop(sample.import(store).await.unwrap());
            }
            store.delete(junk.iter().map(|sample| sample.hash).collect()).await.unwrap();
            store.compact(CompactOptions { max_dead_percent: 0, ..CompactOptions::default() }).await.unwrap();
        }
    }
    store.consistency_check(CheckMode::Report, Progress::none()).await.unwrap();
}

pub(crate) async fn close(store: FsStore) {
    store.shutdown().await.unwrap();
}

/// All files below a directory, by their names in it.
pub(crate) fn read_all(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(next) = dirs.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                files.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

/// Writes files into a directory, so that there are these and no others.
pub(crate) fn write_all(dir: &Path, like: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) {
    let mut dirs = vec![like.to_owned()];
    while let Some(next) = dirs.pop() {
        fs::create_dir_all(dir.join(next.strip_prefix(like).unwrap())).unwrap();
        let entries = fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path());
        dirs.extend(entries.filter(|path| path.is_dir()));
    }
    for (path, bytes) in files {
        fs::write(dir.join(path), bytes).unwrap();
    }
}

/// The records of all segments (E10, E12).
fn all_records(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<Record> {
    let mut records = Vec::new();
    for (path, bytes) in files {
        if path.extension().is_none_or(|extension| extension != "seg") {
            continue;
        }
        // Its length is in blocks.
        let header_len = 4096 * usize::from(u16::from_le_bytes(bytes[10..12].try_into().unwrap()));
        let mut at = header_len;
        while let Some(record) = bytes.get(at..).filter(|record| record.starts_with(b"BREC")) {
            let payload = u32::from_le_bytes(record[56..60].try_into().unwrap()) as usize;
            let payload = at + 80..at + 80 + payload;
            let end = payload.end.next_multiple_of(8);
            records.push(Record {
                segment: path.clone(),
                segment_header: header_len,
                bytes: at..end,
                payload,
                kind: record[4] & 0x7f,
                seq: u64::from_le_bytes(record[8..16].try_into().unwrap()),
                hash: record[24..56].try_into().unwrap(),
            });
            at = end;
        }
    }
    records
}

fn last(records: &[Record], kind: u8, hash: Hash) -> Record {
    let found = records.iter().filter(|record| record.kind == kind && record.hash == *hash.as_bytes());
    let last = found.max_by_key(|record| record.seq);
    last.unwrap_or_else(|| panic!("{hash} has no record of kind {kind}")).clone()
}
