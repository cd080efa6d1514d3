//! Files of the user's that are used where they lie, and what may happen to them.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use blob_fs::{Entry, FsStore};
use blob_traits::{
    BlobFormat, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, Hash, ImportMode, Progress,
    ReadBlob, Result, collect, prelude::*,
};
use bytes::Bytes;

use crate::{
    home::{Home, SETUPS, Setup, has_extension, open},
    sample::{Sample, chunks, import, status},
};

/// Not inlined in any setup but one.
const SIZE: usize = 300_000;

/// Gives a file the age at which its mtime can be trusted.
fn age(path: &Path) {
    let then = SystemTime::now() - Duration::from_hours(1);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

async fn refer(store: &FsStore, path: &Path) {
    let import =
        store.import_file(path.to_owned(), ImportMode::TryReference, BlobFormat::Raw, Progress::none());
    import.await.unwrap();
}

/// A store that refers to a file: one that is old enough to be trusted, or one that is read with proof.
async fn referred(aged: bool) -> (Home, FsStore, Sample, PathBuf) {
    let (home, store) = open(Setup::Default).await;
    let sample = Sample::new(SIZE);
    let path = home.user_file("file", &sample.data);
    if aged {
        age(&path);
    }
    refer(&store, &path).await;
    (home, store, sample, path)
}

/// What may become of a file, and whether its bytes are the same afterwards.
type Change = (&'static str, bool, fn(&Path));

const CHANGES: [Change; 14] = [
    ("nothing", true, |_| {}),
    ("touched", true, |path| {
        File::options().write(true).open(path).unwrap().set_modified(SystemTime::now()).unwrap();
    }),
    ("its mode changed", true, |path| fs::set_permissions(path, fs::Permissions::from_mode(0o640)).unwrap()),
    ("linked", true, |path| fs::hard_link(path, path.with_extension("link")).unwrap()),
    ("rewritten as it was", true, |path| fs::write(path, fs::read(path).unwrap()).unwrap()),
    ("replaced by a copy", true, |path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::rename(path.with_extension("copy"), path).unwrap();
    }),
    ("replaced by a link to a copy", true, |path| {
        fs::copy(path, path.with_extension("copy")).unwrap();
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink(path.with_extension("copy"), path).unwrap();
    }),
    ("changed in place", false, |path| flip(path)),
    ("changed in place, its mtime set back", false, |path| {
        let before = path.metadata().unwrap().modified().unwrap();
        flip(path);
        File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    }),
    ("cut off", false, |path| {
        File::options().write(true).open(path).unwrap().set_len(SIZE as u64 - 1).unwrap();
    }),
    ("longer", false, |path| {
        File::options().write(true).open(path).unwrap().set_len(SIZE as u64 + 1).unwrap();
    }),
    ("emptied", false, |path| drop(File::create(path).unwrap())),
    ("replaced by another", false, |path| {
        fs::write(path.with_extension("new"), vec![7; SIZE]).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }),
    ("renamed away", false, |path| fs::rename(path, path.with_extension("old")).unwrap()),
];

/// Changes one byte in the middle.
fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 150_000).unwrap();
    file.write_all_at(&[!byte[0]], 150_000).unwrap();
}

/// All ways in which a blob can be read, through a new handle.
async fn read_all_ways(home: &Home, store: &FsStore, sample: &Sample) -> Vec<Result<Bytes>> {
    let hash = sample.hash;
    let all = bao_tree::ChunkRanges::all();
    let target = home.user("exported");
    let copy = ExportOptions { mode: ExportMode::Copy, existing: ExistingTarget::Replace };
    let move_out = ExportOptions { mode: ExportMode::TryReference, ..copy };
    let mut read = vec![store.read_to_bytes(hash).await, store.read_verified(hash, 0..u64::MAX).await];
    for options in [copy, move_out] {
        let exported = store.export(hash, target.clone(), options, Progress::none()).await;
        read.push(exported.map(|()| fs::read(&target).unwrap().into()));
        let _ = fs::remove_file(&target);
    }
    let encoded = store.export_bao(hash, all.clone(), Vec::new()).await;
    assert!(encoded.as_ref().is_err() || *encoded.as_ref().unwrap() == sample.encode(&all));
    read.push(encoded.map(|_| sample.data.clone()));
    let entry = store.existing(hash).await.unwrap();
    read.push(read_in_pieces(&mut entry.data_reader().await, 10_000).await);
    read
}

async fn read_in_pieces(reader: &mut std::io::Result<impl ReadBlob>, len: usize) -> Result<Bytes> {
    let reader = match reader {
        Ok(reader) => reader,
        Err(error) => return Err(std::mem::replace(error, std::io::ErrorKind::Other.into()).into()),
    };
    let mut bytes = Vec::new();
    while bytes.len() < SIZE {
        bytes.extend_from_slice(&reader.read_range(bytes.len() as u64, len).await?);
    }
    Ok(bytes.into())
}

fn is_typed(error: &Error) -> bool {
    matches!(error, Error::Changed { .. } | Error::FileNotFound { .. } | Error::Mismatch { .. })
}

#[tokio::test]
async fn file_is_used_where_it_lies_and_survives_reopening() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        let sample = Sample::new(SIZE);
        let path = home.user_file("file", &sample.data);
        for aged in [false, true] {
            if aged {
                age(&path);
            }
            refer(&store, &path).await;
            store = home.reopen(store).await;
            assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
            for read in read_all_ways(&home, &store, &sample).await {
                assert_eq!(read.unwrap(), sample.data);
            }
            let stored: u64 = home
                .files()
                .into_iter()
                .filter(|(name, _)| has_extension(name, "data"))
                .map(|(_, len)| len)
                .sum();
            assert_eq!(stored, 0, "{setup:?}");
        }
    }
}

#[tokio::test]
async fn changed_file_is_never_served_as_the_blob() {
    for aged in [false, true] {
        for (what, same, change) in CHANGES {
            let (home, store, sample, path) = referred(aged).await;
            change(&path);
            for (way, read) in read_all_ways(&home, &store, &sample).await.into_iter().enumerate() {
                match read {
                    Ok(bytes) => assert!(bytes == sample.data && same, "{what}, way {way}"),
                    Err(error) => assert!(is_typed(&error) && !same, "{what}, way {way}: {error:?}"),
                }
            }
            assert!(!home.user_names().contains(&"exported".to_owned()));
        }
    }
}

/// What is open already, and what is read while the file changes.
#[tokio::test]
async fn open_reader_serves_the_old_bytes_or_fails() {
    for aged in [false, true] {
        for (what, same, change) in CHANGES {
            let (_home, store, sample, path) = referred(aged).await;
            let entry = store.existing(sample.hash).await.unwrap();
            let mut used = entry.data_reader().await;
            let mut unused = entry.data_reader().await;
            assert_eq!(read_in_pieces(&mut used, 1000).await.unwrap(), sample.data);
            change(&path);
            for reader in [&mut used, &mut unused, &mut entry.data_reader().await] {
                match read_in_pieces(reader, 7000).await {
                    Ok(bytes) => assert_eq!(bytes, sample.data, "{what}"),
                    Err(error) => assert!(is_typed(&error) && !same, "{what}: {error:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn part_that_did_not_change_is_read_on() {
    for aged in [false, true] {
        let (_home, store, sample, path) = referred(aged).await;
        flip(&path);
        for range in [0..16_384, 5..147_456, 163_840..SIZE as u64] {
            let expected =
                &sample.data[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
            assert_eq!(store.read_range(sample.hash, range).await.unwrap(), expected);
        }
        let error = store.read_range(sample.hash, 150_000..150_001).await.unwrap_err();
        assert!(
            matches!(error, Error::Changed { hash, path: found } if hash == sample.hash && found == path)
        );
        let valid = store.verified_ranges(sample.hash).await.unwrap().unwrap();
        assert!(valid.is_subset(&chunks(0..293)) && !valid.contains(&bao_tree::ChunkNum(150_000 / 1024)));
    }
}

#[tokio::test]
async fn what_stands_in_the_place_of_the_file_is_told_without_waiting() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let changes: [fn(&Path); 3] = [
        |path| fs::create_dir(path).unwrap(),
        |path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap(),
        |path| std::os::unix::fs::symlink("nowhere", path).unwrap(),
    ];
    for change in changes {
        let (_home, store, sample, path) = referred(true).await;
        fs::remove_file(&path).unwrap();
        change(&path);
        let error = store.read_to_bytes(sample.hash).await.unwrap_err();
        assert!(matches!(error, Error::Changed { .. } | Error::FileNotFound { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn users_file_is_never_touched() {
    let (home, mut store, sample, path) = referred(true).await;
    let look = || {
        let meta = path.metadata().unwrap();
        (meta.ino(), meta.mtime_nsec(), meta.mtime(), meta.mode(), meta.nlink(), fs::read(&path).unwrap())
    };
    let before = look();
    for round in 0..3 {
        refer(&store, &path).await;
        let entry = store.existing(sample.hash).await.unwrap();
        if round == 1 {
            import(&store, &sample).await;
        }
        store.delete(vec![sample.hash]).await.unwrap();
        assert_eq!(entry.data_reader().await.unwrap().read_range(0, 5).await.unwrap(), sample.data[..5]);
        drop(entry);
        if round == 2 {
            drop(store);
            store = home.open().await;
        } else {
            store = home.reopen(store).await;
        }
        assert_eq!(look(), before);
    }
    assert_eq!(home.user_names(), ["file"]);
    assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
}

/// "Import it again" is what the error says.
#[tokio::test]
async fn importing_the_content_again_mends_it() {
    for mode in [ImportMode::Copy, ImportMode::TryReference] {
        let (home, store, sample, path) = referred(true).await;
        fs::write(&path, "changed").unwrap();
        assert!(store.read_to_bytes(sample.hash).await.is_err());
        let other = home.user_file("other", &sample.data);
        let again = store.import_file(other.clone(), mode, BlobFormat::Raw, Progress::none());
        assert_eq!(again.await.unwrap().0.hash(), sample.hash);
        let store = home.reopen(store).await;
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        fs::remove_file(other).unwrap();
        assert_eq!(store.read_to_bytes(sample.hash).await.is_ok(), mode == ImportMode::Copy);
    }
}

/// Copying promises that later edits change nothing, whoever referred to the file before.
#[tokio::test]
async fn copy_of_a_file_that_is_referred_to_is_a_copy() {
    let (_home, store, sample, path) = referred(true).await;
    store.import_file(path.clone(), ImportMode::Copy, BlobFormat::Raw, Progress::none()).await.unwrap();
    fs::write(&path, "changed").unwrap();
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
}

#[tokio::test]
async fn blob_of_the_stores_own_is_not_given_up_for_a_file() {
    let (home, store) = open(Setup::NothingInlined).await;
    let sample = Sample::new(SIZE);
    import(&store, &sample).await;
    let path = home.user_file("file", &sample.data);
    refer(&store, &path).await;
    fs::remove_file(path).unwrap();
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
}

#[tokio::test]
async fn partial_blob_becomes_complete_by_reference() {
    let (home, store) = open(Setup::Tiny).await;
    let sample = Sample::new(SIZE);
    crate::sample::write(&store, sample.hash, sample.size(), sample.items(&chunks(0..100))).await.unwrap();
    let entry = store.existing(sample.hash).await.unwrap();
    store.sync().await.unwrap();
    let path = home.user_file("file", &sample.data);
    age(&path);
    refer(&store, &path).await;
    assert!(entry.is_complete());
    assert_eq!(read_entry(&entry).await, sample.data);
    drop(entry);
    let _store = home.reopen(store).await;
    assert!(home.files().keys().all(|name| !name.starts_with("partial/")));
}

async fn read_entry(entry: &Entry) -> Bytes {
    entry.data_reader().await.unwrap().read_range(0, usize::MAX).await.unwrap()
}

/// Opening the target for writing would empty the only copy.
#[tokio::test]
async fn export_onto_the_file_itself_or_a_link_to_it_does_no_harm() {
    for mode in [ExportMode::Copy, ExportMode::TryReference] {
        for which in ["file", "hard", "soft"] {
            let (home, store, sample, path) = referred(true).await;
            fs::hard_link(&path, home.user("hard")).unwrap();
            std::os::unix::fs::symlink(&path, home.user("soft")).unwrap();
            let target = home.user(which);
            let refused = store.export(sample.hash, target.clone(), mode, Progress::none()).await;
            assert!(matches!(refused, Err(Error::TargetExists { .. })));
            let replace = ExportOptions { mode, existing: ExistingTarget::Replace };
            store.export(sample.hash, target.clone(), replace, Progress::none()).await.unwrap();
            for name in ["file", "hard", "soft"] {
                assert_eq!(fs::read(home.user(name)).unwrap(), sample.data);
            }
            assert!(target.symlink_metadata().unwrap().is_file());
            assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
            assert_eq!(home.user_names(), ["file", "hard", "soft"]);
        }
    }
}

#[tokio::test]
async fn hash_of_a_referred_file_is_right_for_boundary_sizes() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        for size in setup.sizes() {
            let sample = Sample::new(size);
            let path = home.user_file("file", &sample.data);
            age(&path);
            refer(&store, &path).await;
            assert_eq!(store.read_verified(Hash::new(&sample.data), 0..u64::MAX).await.unwrap(), sample.data);
            store.delete(vec![sample.hash]).await.unwrap();
        }
    }
}
