use blob_fs::{Create, FsStore, Options};
use blob_traits::{
    BlobFormat, EntryStatus, Error, ExportMode, Hash, HashAndFormat, ImportSource, MapEntryMut, Progress,
    collect, prelude::*,
};

use crate::{
    drive::poll_times,
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, chunks, error_of, import, present, status, write},
};

fn closed<T>(result: Result<T, Error>) {
    assert!(result.is_err_and(|error| matches!(error, Error::Closed)));
}

#[tokio::test]
async fn every_call_after_shutdown_says_closed() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let clone = store.clone();
        let tag = store.import_bytes("a".into(), BlobFormat::Raw).await.unwrap();
        let (hash, content) = (tag.hash(), tag.hash_and_format());
        let partial = store.get_or_create(Sample::new(50_000).hash, 50_000).await.unwrap();
        let complete = store.get_or_create(hash, 1).await.unwrap();
        store.sync().await.unwrap();
        store.shutdown().await.unwrap();
        store.shutdown().await.unwrap();

        for hash in [hash, Hash::EMPTY, Hash::new(b"missing")] {
            closed(clone.get(&hash).await);
            closed(clone.get_mut(&hash).await);
            closed(clone.get_or_create(hash, 1).await);
            closed(clone.entry_status(&hash).await);
            closed(clone.entry_status_sync(&hash));
            closed(clone.present_ranges(&hash).await);
            closed(clone.delete(vec![hash]).await);
            closed(clone.export(hash, home.user("never"), ExportMode::Copy, Progress::none()).await);
        }
        closed(clone.insert_complete(partial).await);
        closed(clone.insert_complete(complete).await);
        closed(clone.blobs().await.map(drop));
        closed(clone.partial_blobs().await.map(drop));
        closed(clone.tags(..).await.map(drop));
        closed(clone.set_tag("a".into(), Some(content)).await);
        closed(clone.set_tag("a".into(), None).await);
        closed(clone.create_tag(content).await);
        closed(clone.delete_tags(..).await);
        closed(clone.rename_tag("a".into(), "b".into()).await);
        closed(clone.import(ImportSource::Bytes("a".into()), BlobFormat::Raw.into(), Progress::none()).await);
        closed(clone.sync().await);
        assert!(home.user_names().is_empty());
    }
}

#[tokio::test]
async fn handles_open_and_write_nothing_after_shutdown() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let (sample, stored) = (Sample::new(50_000), Sample::new(70_000));
        import(&store, &stored).await;
        let complete = store.existing(stored.hash).await.unwrap();
        let entry = store.get_or_create(sample.hash, 50_000).await.unwrap();
        let mut writer = entry.batch_writer().await.unwrap();
        writer.write_batch(50_000, sample.items(&chunks(0..16))).await.unwrap();
        store.shutdown().await.unwrap();
        let before = home.files();
        for entry in [&complete, &entry] {
            assert!(matches!(error_of(entry.data_reader().await), Error::Closed));
            assert!(matches!(error_of(entry.outboard().await.map(drop)), Error::Closed));
            assert!(matches!(error_of(entry.batch_writer().await.map(drop)), Error::Closed));
        }
        assert!(matches!(error_of(writer.write_batch(50_000, sample.all_items()).await), Error::Closed));
        assert!(matches!(error_of(writer.sync().await), Error::Closed));
        assert_eq!(home.files(), before);
        assert_eq!(entry.size().value(), 50_000);
    }
}

#[tokio::test]
async fn reader_that_is_open_reads_on_after_shutdown() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let (sample, partial) = (Sample::new(50_000), Sample::new(70_000));
        import(&store, &sample).await;
        write(&store, partial.hash, 70_000, partial.items(&chunks(0..16))).await.unwrap();
        let mut reader = store.existing(sample.hash).await.unwrap().data_reader().await.unwrap();
        let mut of_partial = store.existing(partial.hash).await.unwrap().data_reader().await.unwrap();
        store.shutdown().await.unwrap();
        let _next = home.open().await;
        assert_eq!(reader.read_range(0, 40_000).await.unwrap(), sample.data[..40_000]);
        assert_eq!(of_partial.read_range(0, 16_384).await.unwrap(), partial.data[..16_384]);
    }
}

/// Which of our open files lie below a directory.
#[cfg(target_os = "linux")]
fn open_below(home: &Home) -> Vec<std::path::PathBuf> {
    let dir = home.inside("");
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(&dir)).collect()
}

/// The store's directory may be unmounted although somebody still has the store in his hands.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_file_is_open_after_shutdown() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let (sample, partial) = (Sample::new(100_000), Sample::new(70_000));
        import(&store, &sample).await;
        write(&store, partial.hash, 70_000, partial.items(&chunks(0..16))).await.unwrap();
        assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
        let entry = store.existing(sample.hash).await.unwrap();
        assert!(!open_below(&home).is_empty());
        store.shutdown().await.unwrap();
        assert_eq!(open_below(&home), Vec::<std::path::PathBuf>::new());
        drop((store, entry));
    }
}

#[tokio::test]
async fn temporary_tags_do_no_harm_after_shutdown() {
    let (_home, store) = open(Setup::Default).await;
    let before = store.temp_tag(HashAndFormat::raw(Hash::EMPTY));
    store.shutdown().await.unwrap();
    let tag = store.temp_tag(HashAndFormat::raw(Sample::new(1).hash));
    drop(store);
    drop((tag.clone(), before));
}

#[tokio::test]
async fn directory_opens_again_at_once_whichever_way_the_store_ended() {
    let home = Home::new(Setup::Default);
    for i in 0..10 {
        let store = home.open().await;
        import(&store, &Sample::numbered(100_000, i)).await;
        assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap().len(), i + 1);
        if i % 3 > 0 {
            store.shutdown().await.unwrap();
        }
        if i % 3 == 1 {
            continue;
        }
        let entry = store.existing(Sample::numbered(100_000, i).hash).await;
        assert_eq!(entry.is_ok(), i % 3 == 0);
        drop(store);
        let again = home.open().await;
        drop((again, entry));
    }
}

#[tokio::test]
async fn second_opening_is_refused_while_the_first_lives() {
    let home = Home::new(Setup::Default);
    let store = home.open().await;
    let link = home.user("link");
    std::os::unix::fs::symlink(home.inside(""), &link).unwrap();
    for dir in [home.inside(""), link] {
        let error = FsStore::open(Options::new(dir)).await.unwrap_err();
        assert!(matches!(error, Error::Locked { path, .. } if path == store.dir()));
    }
    assert!(import(&store, &Sample::new(10)).await.hash() == Sample::new(10).hash);
}

#[tokio::test]
async fn store_that_is_not_there_is_created_only_if_wanted() {
    let home = Home::with(|options| options.create = Create::Never);
    let mut options = Options::new(home.user("a/b/c"));
    options.create = Create::Never;
    assert!(matches!(FsStore::open(options.clone()).await, Err(Error::FileNotFound { .. })));
    assert!(home.user_names().is_empty());
    options.create = Create::IfMissing;
    FsStore::open(options.clone()).await.unwrap().shutdown().await.unwrap();
    options.create = Create::Never;
    FsStore::open(options).await.unwrap();
}

/// Who drops a shutdown that is under way, or calls twice, finds the store closed when the second call returns.
#[tokio::test(flavor = "multi_thread")]
async fn second_shutdown_waits_for_the_first_also_when_that_was_dropped() {
    for n_polls in [1, 2] {
        let (home, store) = open(Setup::Default).await;
        import(&store, &Sample::new(100_000)).await;
        let _ = poll_times(n_polls, store.shutdown());
        store.shutdown().await.unwrap();
        home.open().await.shutdown().await.unwrap();
        let (first, second) = (home.open().await, store);
        let _ = futures_lite::future::zip(first.shutdown(), second.shutdown()).await;
        home.open().await;
    }
}

#[test]
fn all_kinds_of_runtimes_shut_it_down() {
    for runtime in crate::drive::runtimes() {
        for setup in SETUPS {
            let home = Home::new(setup);
            for _ in 0..2 {
                runtime.block_on(async {
                    let store = home.open().await;
                    let (sample, partial) = (Sample::new(100_000), Sample::new(70_000));
                    write(&store, partial.hash, 70_000, partial.items(&chunks(0..16))).await.unwrap();
                    import(&store, &sample).await;
                    store.sync().await.unwrap();
                    assert_eq!(present(&store, partial.hash).await, chunks(0..16));
                    assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
                    store.shutdown().await.unwrap();
                });
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn store_may_be_dropped_while_it_works() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let tasks: Vec<_> = (0..20)
            .map(|i| {
                let store = store.clone();
                let sample = Sample::numbered(100_000, i);
                tokio::spawn(async move { store.import_bytes(sample.data, BlobFormat::Raw).await.is_ok() })
            })
            .collect();
        let last = store.clone();
        drop(store);
        let ended = last.shutdown().await;
        drop(last);
        let mut n_imported = 0;
        for task in tasks {
            n_imported += usize::from(task.await.unwrap());
        }
        ended.unwrap();
        let store = home.open().await;
        let listed = collect(store.blobs().await.unwrap()).await.unwrap();
        assert!(listed.len() >= n_imported);
        for hash in listed {
            assert_eq!(store.read_verified(hash, 0..u64::MAX).await.unwrap().len(), 100_000);
        }
    }
}
