use blob_traits::{BlobFormat, EntryStatus, Error, Hash, MapEntryMut, collect, prelude::*};

use crate::{
    drive::eventually,
    home::{SETUPS, Setup, open},
    sample::{Sample, chunks, error_of, import, present, status, write},
};

#[tokio::test]
async fn delete_removes_whatever_tags_say() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let pin = store.import_bytes("a".into(), BlobFormat::Raw).await.unwrap();
        let kept = store.import_bytes("b".into(), BlobFormat::Raw).await.unwrap();
        store.set_tag("tag".into(), Some(pin.hash_and_format())).await.unwrap();
        store.delete(vec![pin.hash(), Hash::new(b"missing"), pin.hash()]).await.unwrap();
        store.delete(Vec::new()).await.unwrap();
        let store = home.reopen(store).await;
        assert_eq!(status(&store, pin.hash()), EntryStatus::NotFound);
        assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [kept.hash()]);
        assert_eq!(store.get_tag(&"tag".into()).await.unwrap(), Some(pin.hash_and_format()));
    }
}

#[tokio::test]
async fn many_are_deleted_in_one_step() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let samples: Vec<_> = (0..100).map(|i| Sample::numbered(10, i)).collect();
        for sample in &samples {
            import(&store, sample).await;
        }
        store.delete(samples.iter().map(|sample| sample.hash).collect()).await.unwrap();
        assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
        let store = home.reopen(store).await;
        assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn open_entry_reads_its_old_bytes_after_delete() {
    for setup in SETUPS {
        for committed in [false, true] {
            let (home, mut store) = open(setup).await;
            let sample = Sample::new(100_000);
            import(&store, &sample).await;
            if committed {
                store = home.reopen(store).await;
            }
            let entry = store.existing(sample.hash).await.unwrap();
            let mut open = entry.data_reader().await.unwrap();
            store.delete(vec![sample.hash]).await.unwrap();
            assert!(store.get(&sample.hash).await.unwrap().is_none());
            assert_eq!(open.read_range(0, usize::MAX).await.unwrap(), sample.data);
            let mut opened_later = entry.data_reader().await.unwrap();
            assert_eq!(opened_later.read_range(0, usize::MAX).await.unwrap(), sample.data);
            let outboard = entry.outboard().await.unwrap();
            assert_eq!(bao_tree::io::fsm::Outboard::root(&outboard), sample.outboard.root);
            // Somebody else brings it in again, in another form: the old handle does not mind.
            write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
            store.sync().await.unwrap();
            assert_eq!(opened_later.read_range(50_000, 10_000).await.unwrap(), sample.data[50_000..60_000]);
        }
    }
}

#[tokio::test]
async fn files_of_a_deleted_blob_go_when_nobody_reads_them() {
    let (home, store) = open(Setup::NothingInlined).await;
    let sample = Sample::new(100_000);
    let n_files = || home.files().keys().filter(|name| name.contains(&sample.hash.to_string())).count();
    import(&store, &sample).await;
    assert_eq!(n_files(), 2);
    let entry = store.existing(sample.hash).await.unwrap();
    let clone = entry.clone();
    store.delete(vec![sample.hash]).await.unwrap();
    drop(entry);
    store.sync().await.unwrap();
    assert_eq!(n_files(), 2);
    assert!(clone.data_reader().await.is_ok());
    drop(clone);
    eventually(|| n_files() == 0);
}

#[tokio::test]
async fn deleted_blob_can_be_imported_again() {
    for setup in SETUPS {
        let (home, mut store) = open(setup).await;
        let sample = Sample::new(100_000);
        for i in 0..6 {
            import(&store, &sample).await;
            let entry = store.existing(sample.hash).await.unwrap();
            store.delete(vec![sample.hash]).await.unwrap();
            assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
            drop(if i % 2 == 0 { Some(entry) } else { None });
            if i % 3 == 0 {
                store = home.reopen(store).await;
            }
        }
        import(&store, &sample).await;
        let store = home.reopen(store).await;
        assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        eventually(|| home.n_files("data") <= 1);
    }
}

/// A download that goes on after its blob was deleted must not end in a blob without bytes.
#[tokio::test]
async fn writer_of_a_deleted_blob_fails_and_completes_nothing() {
    for setup in SETUPS {
        for synced in [false, true] {
            let (_home, store) = open(setup).await;
            let sample = Sample::new(100_000);
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            let mut writer = entry.batch_writer().await.unwrap();
            writer.write_batch(sample.size(), sample.items(&chunks(0..32))).await.unwrap();
            if synced {
                writer.sync().await.unwrap();
            }
            store.delete(vec![sample.hash]).await.unwrap();
            let error = error_of(writer.write_batch(sample.size(), sample.all_items()).await);
            assert!(matches!(error, Error::NotFound { hash } if hash == sample.hash));
            assert!(matches!(error_of(writer.sync().await), Error::NotFound { .. }));
            let error = store.insert_complete(entry.clone()).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }));
            assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
            // what it had is still readable
            let mut reader = entry.data_reader().await.unwrap();
            assert_eq!(reader.read_range(0, 32 * 1024).await.unwrap(), sample.data[..32 * 1024]);
        }
    }
}

#[tokio::test]
async fn blob_begun_again_after_delete_is_another_entry() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(100_000);
        let old = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        store.sync().await.unwrap();
        store.delete(vec![sample.hash]).await.unwrap();
        write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
        assert!(matches!(store.insert_complete(old.clone()).await, Err(Error::NotFound { .. })));
        assert_eq!(present(&store, sample.hash).await, chunks(0..16));
        let store = home.reopen(store).await;
        assert_eq!(present(&store, sample.hash).await, chunks(0..16));
        import(&store, &sample).await;
        assert_eq!(status(&store, sample.hash), EntryStatus::Complete);
    }
}

/// A handle that was got, or became, complete said so for ever, also of a blob that was no longer there.
#[tokio::test]
async fn handle_to_what_was_complete_does_not_promote_after_delete() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let sample = Sample::new(40_000);
        let begun = store.get_or_create(sample.hash, sample.size()).await.unwrap();
        import(&store, &sample).await;
        let whole = store.existing(sample.hash).await.unwrap();
        for entry in [&begun, &whole] {
            store.insert_complete(entry.clone()).await.unwrap();
        }
        store.delete(vec![sample.hash]).await.unwrap();
        for entry in [&begun, &whole] {
            let inserted = store.insert_complete(entry.clone()).await;
            assert!(matches!(inserted, Err(Error::NotFound { .. })), "{inserted:?}");
        }
        assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    }
}

#[tokio::test]
async fn empty_blob_is_there_even_after_delete() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        store.import_bytes("".into(), BlobFormat::Raw).await.unwrap();
        assert_eq!(collect(store.blobs().await.unwrap()).await.unwrap(), [Hash::EMPTY]);
        let store = home.reopen(store).await;
        store.delete(vec![Hash::EMPTY]).await.unwrap();
        assert!(collect(store.blobs().await.unwrap()).await.unwrap().is_empty());
        assert_eq!(status(&store, Hash::EMPTY), EntryStatus::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_and_import_at_once_end_in_one_or_the_other() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let sample = Sample::new(30_000);
        let deleting = {
            let (store, hash) = (store.clone(), sample.hash);
            tokio::spawn(async move {
                for _ in 0..30 {
                    store.delete(vec![hash]).await.unwrap();
                }
            })
        };
        for i in 0..30 {
            if i % 2 == 0 {
                import(&store, &sample).await;
            } else {
                let all = bao_tree::ChunkRanges::all();
                let imported = store.import_bao(sample.hash, sample.size(), all.clone(), sample.encode(&all));
                assert!(matches!(imported.await, Ok(_) | Err(Error::NotFound { .. })));
            }
            match store.read_verified(sample.hash, 0..u64::MAX).await {
                Ok(bytes) => assert_eq!(bytes, sample.data),
                Err(error) => {
                    assert!(matches!(error, Error::NotFound { .. } | Error::Incomplete { .. }), "{error}");
                }
            }
        }
        deleting.await.unwrap();
        let before = status(&store, sample.hash);
        let store = home.reopen(store).await;
        assert_eq!(status(&store, sample.hash), before);
        if before == EntryStatus::Complete {
            assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
        }
    }
}
