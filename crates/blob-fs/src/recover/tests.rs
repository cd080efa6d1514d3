//! That an index is built in as much memory as a batch takes, whatever was removed (E64).

use std::{fs, path::Path, time::Duration};

use blob_traits::{BlobFormat, Hash, HashAndFormat, Tag, TagRange, prelude::*};
use bytes::Bytes;

use super::*;
use crate::{
    compact::CompactOptions,
    options::Compaction,
    row::{BlobRow, TagRow},
    store::FsStore,
};

const SMALLS: u32 = 600;
const LARGES: u32 = 30;

fn options(dir: &Path) -> Options {
    Options {
        segment_size: 64 << 10,
        inline_max: 1 << 10,
        compaction: Compaction::Manual,
        overlay_age: Duration::from_hours(1),
        index_cache: 1 << 20,
        reserve: 0,
        ..Options::new(dir)
    }
}

fn small(number: u32) -> Bytes {
    number.to_le_bytes().repeat(125).into()
}

fn large(number: u32) -> Bytes {
    number.to_be_bytes().repeat(500).into()
}

fn tag(number: u32) -> Tag {
    format!("tag {number}").as_str().into()
}

async fn import(store: &FsStore, data: Bytes) -> Hash {
    store.import_bytes(data, BlobFormat::Raw).await.unwrap().hash()
}

/// A store in whose log the records of many blobs and tags are left, while the removals lie in packed segments; some
/// came back later. Of each six blobs one is removed, so that what has their records is not worth a compaction.
async fn filled(dir: &Path) {
    let store = FsStore::open(options(dir)).await.unwrap();
    for number in 0..SMALLS {
        let hash = import(&store, small(number)).await;
        if number % 2 == 0 {
            store.set_tag(tag(number), Some(HashAndFormat::raw(hash))).await.unwrap();
        }
        if number % 20 == 0 {
            import(&store, large(number / 20)).await;
        }
    }
    for number in (0..SMALLS).step_by(6) {
        store.delete(vec![Hash::new(small(number))]).await.unwrap();
        store.delete_tag(tag(number)).await.unwrap();
    }
    for number in 0..LARGES {
        store.delete(vec![Hash::new(large(number))]).await.unwrap();
    }
    // The removals alone fill segments that are worth it.
    for number in SMALLS..2 * SMALLS {
        let hash = import(&store, small(number)).await;
        store.delete(vec![hash]).await.unwrap();
    }
    store.compact(CompactOptions { max_dead_percent: 60, ..CompactOptions::default() }).await.unwrap();
    for number in (0..SMALLS).step_by(60) {
        import(&store, small(number)).await;
    }
    import(&store, large(0)).await;
    // Many records with files, and one row.
    for _ in 0..50 {
        let hash = import(&store, large(LARGES)).await;
        store.delete(vec![hash]).await.unwrap();
    }
    store.shutdown().await.unwrap();
}

type Rows = (Vec<(Hash, BlobRow)>, Vec<(Tag, TagRow)>);

fn rows(index: &Index) -> Rows {
    let reader = index.reader().unwrap();
    let blobs = reader.blobs().unwrap().collect::<Result<_>>().unwrap();
    (blobs, reader.tags(&TagRange::all()).unwrap().collect::<Result<_>>().unwrap())
}

fn index(options: &Options, layout: &Layout) -> Index {
    Index::open(&options.vfs, layout, None, options.index_cache).unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(std::result::Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a directory, with their names from there.
fn names(dir: &Path) -> Vec<PathBuf> {
    let (mut names, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(next) = dirs.pop() {
        let below = fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path());
        let (more, files): (Vec<_>, Vec<_>) = below.partition(|path| path.is_dir());
        names.extend(files.iter().map(|path| path.strip_prefix(dir).unwrap().to_owned()));
        dirs.extend(more);
    }
    names.sort();
    names
}

#[tokio::test]
async fn index_that_is_built_in_small_steps_has_the_rows_that_it_had() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    for batch in [1, 7, BATCH] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let (options, layout) = (options(copied.path()), Layout::new(copied.path().to_owned()));
        let before = rows(&index(&options, &layout));
        let files = names(copied.path());
        fs::remove_file(layout.index()).unwrap();
        let recovered = recover_in_batches(&options, &layout, batch).unwrap();
        let recovery = &recovered.recovery;
        assert!(recovery.rebuilt_index && recovery.damaged.is_empty(), "{recovery:?}");
        assert_eq!((&recovery.damaged_blobs, &recovery.quarantined), (&vec![], &vec![]));
        let built = rows(&recovered.index);
        assert_eq!((built.0.len(), built.1.len()), (before.0.len(), before.1.len()), "{batch}");
        assert!(built == before);
        assert!(recovered.index.unlink(usize::MAX).unwrap().is_empty());
        assert_eq!(names(copied.path()), files);
    }
}

#[tokio::test]
async fn what_a_rebuild_holds_does_not_grow_with_what_was_removed() {
    const STEP: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let (options, layout) = (options(dir.path()), Layout::new(dir.path().to_owned()));
    fs::remove_file(layout.index()).unwrap();
    let segments = segments::list(&*options.vfs, &layout).unwrap();
    let index = Index::open(&options.vfs, &layout, Some(&[7; 16]), options.index_cache).unwrap();
    let mut recovery = Recovery::default();
    let mut replay = Replay::new(options.vfs.clone(), layout.clone(), index, STEP).unwrap();
    replay.take_packed(&segments, true, &mut recovery).unwrap();
    assert!(replay.n_held() <= 4 * STEP, "{replay:?}");
    let checkpoint = replay.checkpoint();
    read_log(&*options.vfs, &layout, &segments, &checkpoint, &mut replay, &mut recovery).unwrap();
    // Large blobs that are gone have been named, and found to be too many to name.
    assert!(LARGES as usize > 2 * STEP && replay.n_held() <= 4 * STEP, "{replay:?}");
    replay.take_removals(&segments, &mut recovery).unwrap();
    assert!(replay.n_held() <= 4 * STEP, "{replay:?}");
    let n_removals = SMALLS / 6 * 2 + LARGES;
    let (index, _) = replay.finish(&mut recovery).unwrap();
    let (blobs, tags) = rows(&index);
    let n_back = SMALLS.div_ceil(60) + 1;
    let n_left = SMALLS + LARGES + SMALLS / 2 - n_removals + n_back;
    assert_eq!(blobs.len() + tags.len(), n_left as usize);
    assert!(recovery.damaged_blobs.is_empty() && recovery.removed_files > 0);
}

#[tokio::test]
async fn index_that_was_built_keeps_no_room_for_what_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (options, layout) = (options(dir.path()), Layout::new(dir.path().to_owned()));
    let store = FsStore::open(options.clone()).await.unwrap();
    let long = |number: u32| Tag::from(format!("{number:04000}").as_str());
    for number in 0..600 {
        store.set_tag(long(number), Some(HashAndFormat::raw(Hash::EMPTY))).await.unwrap();
    }
    store.delete_tags(long(1)..).await.unwrap();
    store.shutdown().await.unwrap();
    drop(store);
    fs::remove_file(layout.index()).unwrap();
    let recovered = recover_in_batches(&options, &layout, 64).unwrap();
    assert_eq!(rows(&recovered.index).1.len(), 1);
    assert!(!recovered.index.is_wasteful(&*options.vfs).unwrap());
    // It is under its name, and whole.
    drop(recovered);
    assert_eq!(rows(&index(&options, &layout)).1.len(), 1);
    assert!(fs::metadata(layout.index()).unwrap().len() < 1 << 20);
    assert_eq!(fs::read_dir(layout.temp_dir()).unwrap().count(), 0);
}
