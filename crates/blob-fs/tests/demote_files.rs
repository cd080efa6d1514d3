//! Demotion (E48) of blobs whose files are damaged, gone, or somebody else's as well.

mod support;

use std::{fs, path::Path};

use bao_tree::ChunkRanges;
use blob_traits::{Damage, ExistingTarget, ExportMode, ExportOptions, Hash, Progress, prelude::*};
use iroh_io::AsyncSliceReader as _;
use support::{
    chunks, content,
    demoted::{Kept, LARGE, SMALL, check, complete, demote, lost, pairs, store_dir},
    files::{all_files, check_files},
    hash, import, lazy,
    log::change,
    open, temp_dir, tiny,
};

/// Changes a file.
type Harm<'a> = &'a dyn Fn(&Path);

/// The one file of this kind.
fn the_file(dir: &Path, extension: &str) -> std::path::PathBuf {
    let mut files = all_files(dir);
    files.retain(|path| path.extension().is_some_and(|e| e == extension));
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_damaged_in_any_way_do_not_stop_it() {
    let whole = chunks(0..196);
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let cut = |path: &Path| change(path, |bytes| bytes.truncate(40_000));
    let cut_all = |path: &Path| change(path, |bytes| bytes.truncate(100));
    let extend = |path: &Path| change(path, |bytes| bytes.extend(b"more"));
    let flip = |path: &Path| change(path, |bytes| bytes[70] ^= 1);
    let cases: [(&str, Harm<'_>, ChunkRanges, ChunkRanges); 9] = [
        ("data", &remove, whole.clone(), ChunkRanges::empty()),
        // The caller's account is too good.
        ("data", &remove, chunks(0..16), ChunkRanges::empty()),
        ("data", &cut, chunks(32..196), chunks(0..32)),
        ("data", &cut, chunks(48..196), chunks(0..39)),
        ("data", &extend, ChunkRanges::empty(), whole.clone()),
        ("data", &flip, chunks(0..16), chunks(16..196)),
        ("obao4", &remove, ChunkRanges::empty(), whole.clone()),
        ("obao4", &cut_all, chunks(0..16), chunks(16..196)),
        ("obao4", &flip, chunks(0..16), chunks(16..196)),
    ];
    for (extension, harm, given, present) in cases {
        let dir = temp_dir();
        let store = open(tiny(store_dir(dir.path()))).await;
        import(&store, 1, LARGE).await;
        store.shutdown().await.unwrap();
        drop(store);
        harm(&the_file(&store_dir(dir.path()), extension));
        let store = open(tiny(store_dir(dir.path()))).await;
        let data = content(1, LARGE);
        let context = format!("{extension}, {given:?}");
        demote(&store, Hash::new(&data), Damage { lost: given, mended: pairs(&data) }).await;
        assert_eq!(
            store.present_ranges(&Hash::new(&data)).await.unwrap(),
            Some(present.clone()),
            "{context}"
        );
        let in_groups = present.clone() - chunks(32..48);
        let verified = store.verified_ranges(Hash::new(&data)).await.unwrap().unwrap();
        assert!(in_groups.is_subset(&verified), "{context}");
        complete(&store, &data, &present).await;
        store.shutdown().await.unwrap();
        drop(store);
        check_files(&store_dir(dir.path()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_is_damaged_does_not_stop_it() {
    let (dir, data) = (temp_dir(), content(1, SMALL));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, SMALL).await;
    let segment = the_file(&store_dir(dir.path()), "seg");
    change(&segment, |bytes| bytes[4096 + 80 + 20_000] ^= 1);
    // In the outboard.
    change(&segment, |bytes| bytes[4096 + 80 + SMALL + 1] ^= 1);
    let damage = Damage { lost: chunks(16..32), mended: pairs(&data) };
    demote(&store, Hash::new(&data), damage).await;
    let present = chunks(0..16) | chunks(32..59);
    check(&store, Hash::new(&data), &present, "damaged").await;
    // What is lost was not dropped.
    let mut kept = data.to_vec();
    kept[20_000] ^= 1;
    assert!(fs::read(the_file(&store_dir(dir.path()), "data")).unwrap() == kept);
    complete(&store, &data, &present).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_that_is_cut_off_does_not_stop_it() {
    let (dir, data) = (temp_dir(), content(1, SMALL));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, SMALL).await;
    change(&the_file(&store_dir(dir.path()), "seg"), |bytes| bytes.truncate(4096 + 80 + 20_000));
    demote(&store, Hash::new(&data), Damage { lost: ChunkRanges::empty(), mended: pairs(&data) }).await;
    check(&store, Hash::new(&data), &chunks(0..16), "cut off").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_the_user_is_copied_as_far_as_it_is_sound_and_not_touched() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let path = dir.path().join("file");
    for change_it in [true, false] {
        let store = open(tiny(store_dir(dir.path()))).await;
        Kept::Referenced.put(&store, dir.path()).await;
        if change_it {
            // Nobody has told of the second one.
            change(&path, |bytes| (bytes[3_000], bytes[100_000]) = (bytes[3_000] ^ 1, bytes[100_000] ^ 1));
        } else {
            fs::remove_file(&path).unwrap();
        }
        let before = fs::read(&path).ok();
        demote(&store, Hash::new(&data), lost(chunks(0..16))).await;
        let present = if change_it { chunks(16..96) | chunks(112..196) } else { ChunkRanges::empty() };
        check(&store, Hash::new(&data), &present, "changed").await;
        complete(&store, &data, &present).await;
        assert_eq!(fs::read(&path).ok(), before);
        store.delete(vec![Hash::new(&data)]).await.unwrap();
        store.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_has_another_name_is_not_written_to() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    store.shutdown().await.unwrap();
    drop(store);
    let (file, backup) = (the_file(&store_dir(dir.path()), "data"), dir.path().join("backup"));
    change(&file, |bytes| bytes[3_000] ^= 1);
    fs::hard_link(&file, &backup).unwrap();
    let before = fs::read(&backup).unwrap();
    let store = open(tiny(store_dir(dir.path()))).await;
    demote(&store, Hash::new(&data), lost(chunks(0..16))).await;
    check(&store, Hash::new(&data), &chunks(16..196), "linked").await;
    assert!(fs::read(the_file(&store_dir(dir.path()).join("partial"), "data")).unwrap() == before);
    complete(&store, &data, &chunks(16..196)).await;
    assert!(fs::read(&backup).unwrap() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_of_a_large_blob_takes_no_room_twice() {
    use std::os::unix::fs::MetadataExt;
    let dir = temp_dir();
    let store = open(lazy(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    // On its way to `data/` still.
    let before = fs::metadata(the_file(&store_dir(dir.path()), "data")).unwrap().ino();
    demote(&store, hash(1, LARGE), lost(chunks(0..16))).await;
    let after = fs::metadata(the_file(&store_dir(dir.path()).join("partial"), "data")).unwrap().ino();
    assert_eq!(before, after);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn file_that_was_moved_out_is_not_written_to() {
    let (dir, data) = (temp_dir(), content(1, LARGE));
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    let (target, old) = (dir.path().join("out"), store.get(&hash(1, LARGE)).await.unwrap().unwrap());
    let options = ExportOptions { mode: ExportMode::TryReference, existing: ExistingTarget::Refuse };
    store.export(hash(1, LARGE), target.clone(), options, Progress::none()).await.unwrap();
    assert!(store.demote(old, lost(chunks(0..16))).await.unwrap().is_none());
    change(&target, |bytes| bytes[3_000] ^= 1);
    let before = fs::read(&target).unwrap();
    demote(&store, hash(1, LARGE), lost(chunks(0..16))).await;
    complete(&store, &data, &chunks(16..196)).await;
    assert!(fs::read(&target).unwrap() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reader_tells_how_long_the_file_is() {
    let dir = temp_dir();
    let store = open(tiny(store_dir(dir.path()))).await;
    import(&store, 1, LARGE).await;
    import(&store, 2, SMALL).await;
    store.shutdown().await.unwrap();
    drop(store);
    let file = the_file(&store_dir(dir.path()), "data");
    for len in [LARGE, LARGE + 4, 1000] {
        change(&file, |bytes| bytes.resize(len, 0));
        let store = open(tiny(store_dir(dir.path()))).await;
        let entry = store.get(&hash(1, LARGE)).await.unwrap().unwrap();
        assert_eq!(entry.size().value(), LARGE as u64);
        assert_eq!(entry.data_reader().await.unwrap().size().await.unwrap(), len as u64);
        let small = store.get(&hash(2, SMALL)).await.unwrap().unwrap();
        assert_eq!(small.data_reader().await.unwrap().size().await.unwrap(), SMALL as u64);
        drop((entry, small));
        store.shutdown().await.unwrap();
    }
    // The size of a partial blob may be a claim, and its file longer because of an earlier one.
    let store = open(tiny(store_dir(dir.path()))).await;
    let entry = demote(&store, hash(1, LARGE), lost(chunks(0..16))).await;
    assert_eq!(entry.data_reader().await.unwrap().size().await.unwrap(), LARGE as u64);
    Kept::Referenced.put(&open(tiny(dir.path().join("other"))).await, dir.path()).await;
    let store = open(tiny(dir.path().join("other"))).await;
    let mut reader = store.get(&hash(1, LARGE)).await.unwrap().unwrap().data_reader().await.unwrap();
    assert_eq!(reader.size().await.unwrap(), LARGE as u64);
    change(&dir.path().join("file"), |bytes| bytes.push(0));
    assert_eq!(reader.size().await.unwrap(), LARGE as u64 + 1);
}
