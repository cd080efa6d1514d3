//! Hash trees: the same bytes in memory and in the files of both projects.

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_fs::FsStore;
use blob_mem::MemStore;
use blob_traits::{
    BlobFormat, Hash,
    bao_tree::{ChunkNum, ChunkRanges, io::fsm::Outboard},
    prelude::*,
};
use bytes::Bytes;
use iroh_blobs::store::fs::{
    FsStore as PeerStore,
    options::{InlineOptions, Options as PeerOptions},
};

use crate::sample;

/// Has files of its own in both stores as they come: theirs has outboards up to 16 KiB in its database.
const LARGE: [usize; 3] = [(5 << 20) + 1, 8 << 20, (9 << 20) + 12_345];
/// Over 128 MiB, from where on ours puts an outboard together in its file; three blocks of that.
const HUGE: usize = (257 << 20) + 5;
/// Has an outboard, which is in a file where nothing is inline.
const SMALL: [usize; 6] = [16_385, 32_768, 32_769, 1 << 20, (1 << 20) + 1, (4 << 20) + 777];

/// The pairs of an entry in pre-order, loaded one by one.
async fn through_entry(entry: &impl MapEntry) -> Vec<u8> {
    let mut outboard = entry.outboard().await.unwrap();
    let tree = outboard.tree();
    let mut bytes = Vec::new();
    for node in tree.pre_order_nodes_iter() {
        if tree.pre_order_offset(node).is_some() {
            let (left, right) = outboard.load(node).await.unwrap().unwrap();
            bytes.extend_from_slice(left.as_bytes());
            bytes.extend_from_slice(right.as_bytes());
        }
    }
    bytes
}

/// The outboard files below a directory of ours whose names begin with the hash.
fn our_files(dir: &Path, hash: Hash) -> Vec<PathBuf> {
    let [first, ..] = hash.as_bytes();
    let dir = dir.join("data").join(format!("{first:02x}"));
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let belongs = |path: &PathBuf| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        stem.starts_with(&format!("{hash}-")) && path.extension().is_some_and(|ext| ext == "obao4")
    };
    paths.filter(belongs).collect()
}

/// How blobs come into a store.
#[derive(Clone, Copy, Debug)]
enum Way {
    Whole,
    /// As two verified streams, the second half first.
    Streams,
}

/// The verified streams of the second half of a blob and of the first.
async fn streams(blob: &Bytes) -> [(ChunkRanges, Bytes); 2] {
    let store = MemStore::new();
    let pinned = store.import_bytes(blob.clone(), BlobFormat::Raw).await.unwrap();
    let middle = ChunkNum(blob.len() as u64 / 2048);
    let mut streams =
        [ChunkRanges::from(middle..), ChunkRanges::from(..middle)].map(|half| (half, Bytes::new()));
    for (half, stream) in &mut streams {
        *stream = store.export_bao(pinned.hash(), half.clone(), Vec::new()).await.unwrap().into();
    }
    streams
}

/// Brings blobs into a store of ours. Returns what its files and its entries say.
async fn ours(blobs: &[Bytes], inline_max: u64, way: Way) -> Vec<[Vec<u8>; 2]> {
    let dir = tempfile::tempdir().unwrap();
    let options = blob_fs::Options { inline_max, ..blob_fs::Options::new(dir.path().join("store")) };
    let store = FsStore::open(options).await.unwrap();
    let mut entries = Vec::new();
    for blob in blobs {
        let hash = Hash::new(blob);
        match way {
            Way::Whole => drop(store.import_bytes(blob.clone(), BlobFormat::Raw).await.unwrap()),
            Way::Streams => {
                for (half, stream) in streams(blob).await {
                    store.import_bao(hash, blob.len() as u64, half, stream).await.unwrap();
                }
            }
        }
        entries.push(through_entry(&store.existing(hash).await.unwrap()).await);
    }
    store.shutdown().await.unwrap();
    let files = blobs.iter().map(|blob| {
        let files = our_files(&dir.path().join("store"), Hash::new(blob));
        assert_eq!(files.len(), 1, "{} bytes: {files:?}", blob.len());
        fs::read(files.first().unwrap()).unwrap()
    });
    files.zip(entries).map(|(file, entry)| [file, entry]).collect()
}

/// Brings blobs into a store of theirs. Returns its files.
async fn theirs(blobs: &[Bytes], inline: InlineOptions, way: Way) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let options = PeerOptions { inline, ..PeerOptions::new(dir.path()) };
    let paths = options.path.clone();
    let store = PeerStore::load_with_opts(dir.path().join("blobs.db"), options).await.unwrap();
    for blob in blobs {
        match way {
            Way::Whole => drop(store.add_bytes(blob.clone()).temp_tag().await.unwrap()),
            Way::Streams => {
                for (half, stream) in streams(blob).await {
                    let sized = Bytes::from([&(blob.len() as u64).to_le_bytes()[..], &stream].concat());
                    store.import_bao_bytes(iroh_blobs::Hash::new(blob), half, sized).await.unwrap();
                }
            }
        }
    }
    store.shutdown().await.unwrap();
    let files = blobs.iter().map(|blob| paths.outboard_path(&iroh_blobs::Hash::new(blob)));
    files.map(|path| fs::read(path).unwrap()).collect()
}

fn blobs(sizes: &[usize]) -> Vec<Bytes> {
    sizes.iter().zip(0..).map(|(size, seed)| sample::bytes(seed, *size)).collect()
}

fn assert_same(sizes: &[usize], ours: &[[Vec<u8>; 2]], theirs: &[Vec<u8>]) {
    for (size, ([file, entry], theirs)) in sizes.iter().zip(ours.iter().zip(theirs)) {
        assert_eq!(theirs.len(), (size.div_ceil(16_384) - 1) * 64, "size {size}");
        assert!(file == theirs, "the files differ for size {size}");
        assert!(entry == theirs, "the entry differs for size {size}");
    }
}

#[tokio::test]
async fn files_of_large_blobs_are_the_same() {
    let blobs = blobs(&LARGE);
    let ours = ours(&blobs, blob_fs::Options::new("").inline_max, Way::Whole).await;
    assert_same(&LARGE, &ours, &theirs(&blobs, InlineOptions::default(), Way::Whole).await);
}

#[tokio::test]
async fn files_of_a_huge_blob_are_the_same() {
    let blobs = blobs(&[HUGE]);
    let ours = ours(&blobs, 0, Way::Whole).await;
    assert_same(&[HUGE], &ours, &theirs(&blobs, InlineOptions::default(), Way::Whole).await);
}

#[tokio::test]
async fn files_of_small_blobs_are_the_same_when_nothing_is_inline() {
    let blobs = blobs(&SMALL);
    let ours = ours(&blobs, 0, Way::Whole).await;
    assert_same(&SMALL, &ours, &theirs(&blobs, InlineOptions::NO_INLINE, Way::Whole).await);
}

#[tokio::test]
async fn files_of_blobs_that_came_in_pieces_are_the_same() {
    let blobs = blobs(&LARGE);
    let ours = ours(&blobs, 0, Way::Streams).await;
    assert_same(&LARGE, &ours, &theirs(&blobs, InlineOptions::default(), Way::Streams).await);
}

#[tokio::test]
async fn outboards_in_memory_are_their_files() {
    let blobs = blobs(&SMALL);
    let store = MemStore::new();
    let theirs = theirs(&blobs, InlineOptions::NO_INLINE, Way::Whole).await;
    for (blob, theirs) in blobs.into_iter().zip(theirs) {
        let size = blob.len();
        let pinned = store.import_bytes(blob, BlobFormat::Raw).await.unwrap();
        let entry = store.existing(pinned.hash()).await.unwrap();
        assert!(through_entry(&entry).await == theirs, "size {size}");
    }
}
