//! What is seen of operations that are decided and not yet durable.

use std::{pin::pin, sync::Arc};

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, EntryStatus, Error, Hash, HashAndFormat, MapEntry, Tag, TagRange, collect, prelude::*,
};
use futures_lite::future::{block_on, poll_once};

use crate::{
    altered::Gate,
    drive::eventually,
    home::Home,
    sample::{Sample, chunks, import, present, status, write},
};

fn content(n: u8) -> HashAndFormat {
    HashAndFormat::raw(Hash::from_bytes([n; 32]))
}

/// A store whose log is held up: what is done to it now waits in the queue.
struct Held {
    home: Home,
    store: FsStore,
    gate: Arc<Gate>,
    first: Option<std::thread::JoinHandle<()>>,
}

impl Held {
    /// Prepares the store, then holds it up.
    async fn after(prepare: impl AsyncFnOnce(&FsStore)) -> Self {
        let (home, gate) = Home::gated();
        let store = home.open().await;
        prepare(&store).await;
        import(&store, &Sample::numbered(70_000, 1)).await;
        gate.shut();
        let first = {
            let store = store.clone();
            std::thread::spawn(move || drop(block_on(import(&store, &Sample::numbered(70_000, 2)))))
        };
        gate.wait_for_somebody();
        Self { home, store, gate, first: Some(first) }
    }

    /// Lets the log go on.
    fn release(&mut self) {
        self.gate.open();
        self.first.take().unwrap().join().unwrap();
    }

    async fn reopen(self) -> (Home, FsStore) {
        let store = self.home.reopen(self.store).await;
        (self.home, store)
    }
}

/// Polls it a few times: it waits.
async fn waits(future: &mut (impl Future + Unpin)) {
    for _ in 0..3 {
        assert!(poll_once(&mut *future).await.is_none());
    }
}

#[tokio::test]
async fn import_is_shown_when_it_is_durable_and_not_before() {
    let mut held = Held::after(async |_| {}).await;
    let store = held.store.clone();
    let sample = Sample::new(1000);
    let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
    let mut again = pin!(store.import_bytes(sample.data.clone(), BlobFormat::HashSeq));
    waits(&mut importing).await;
    waits(&mut again).await;
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    assert!(store.get(&sample.hash).await.unwrap().is_none());
    // It is pinned from the beginning.
    assert!(store.temp_tags().any(|pinned| pinned == HashAndFormat::raw(sample.hash)));
    held.release();
    let (first, second) = futures_lite::future::zip(importing, again).await;
    assert_eq!(first.unwrap().hash(), second.unwrap().hash());
    assert_eq!(store.read_to_bytes(sample.hash).await.unwrap(), sample.data);
}

#[tokio::test]
async fn removal_is_seen_when_it_is_decided() {
    let sample = Sample::new(1000);
    let mut held = Held::after(async |store| {
        import(store, &sample).await;
        store.set_tag("a".into(), Some(content(1))).await.unwrap();
        store.set_tag("b".into(), Some(content(1))).await.unwrap();
    })
    .await;
    let store = held.store.clone();
    let mut deleting = pin!(store.delete(vec![sample.hash]));
    let mut untagging = pin!(store.set_tag("a".into(), None));
    let mut range = pin!(store.delete_tags(TagRange::one("b")));
    waits(&mut deleting).await;
    waits(&mut untagging).await;
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    assert!(!collect(store.blobs().await.unwrap()).await.unwrap().contains(&sample.hash));
    assert_eq!(store.get_tag(&"a".into()).await.unwrap(), None);
    // The names of a range are listed on the blocking pool first.
    while store.get_tag(&"b".into()).await.unwrap().is_some() {
        waits(&mut range).await;
    }
    // Who deletes again is told when the first deletion is durable, too.
    let mut again = pin!(store.delete(vec![sample.hash]));
    let mut untagging_again = pin!(store.set_tag("a".into(), None));
    waits(&mut again).await;
    waits(&mut untagging_again).await;
    held.release();
    for deleted in [deleting.await, untagging.await, range.await, again.await, untagging_again.await] {
        deleted.unwrap();
    }
    let (_home, store) = held.reopen().await;
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    assert!(collect(store.tags(..).await.unwrap()).await.unwrap().is_empty());
}

/// Readers saw that it is gone. A tag that is being set behind the removal does not bring its old value back.
#[tokio::test]
async fn old_value_of_a_tag_does_not_come_back() {
    let tag = Tag::from("a");
    let set_it = async |store: &FsStore| store.set_tag("a".into(), Some(content(1))).await.unwrap();
    let mut held = Held::after(set_it).await;
    let store = held.store.clone();
    let mut deleting = pin!(store.set_tag(tag.clone(), None));
    let mut setting = pin!(store.set_tag(tag.clone(), Some(content(2))));
    waits(&mut deleting).await;
    assert_eq!(store.get_tag(&tag).await.unwrap(), None);
    waits(&mut setting).await;
    assert_eq!(store.get_tag(&tag).await.unwrap(), None);
    assert!(collect(store.tags(..).await.unwrap()).await.unwrap().is_empty());
    held.release();
    deleting.await.unwrap();
    setting.await.unwrap();
    assert_eq!(store.get_tag(&tag).await.unwrap(), Some(content(2)));
}

/// The old name went when the renaming was decided, the new one came when it was durable: in between there was none.
#[tokio::test]
async fn tag_that_is_renamed_has_one_of_its_names_at_any_time() {
    let set_it = async |store: &FsStore| store.set_tag("a".into(), Some(content(1))).await.unwrap();
    let mut held = Held::after(set_it).await;
    let store = held.store.clone();
    let names = async || {
        let tags = collect(store.tags(..).await.unwrap()).await.unwrap();
        tags.into_iter().map(|(tag, _)| tag.to_string()).collect::<String>()
    };
    let mut renaming = pin!(store.rename_tag("a".into(), "b".into()));
    waits(&mut renaming).await;
    assert_eq!(names().await, "a");
    assert_eq!(store.get_tag(&"a".into()).await.unwrap(), Some(content(1)));
    // Whoever builds on it is told when it is seen.
    let mut kept = pin!(store.rename_tag("b".into(), "b".into()));
    let mut missed = pin!(store.rename_tag("a".into(), "c".into()));
    let mut deleting = pin!(store.delete_tag("a".into()));
    let mut deleting_new = pin!(store.delete_tag("b".into()));
    waits(&mut kept).await;
    waits(&mut missed).await;
    waits(&mut deleting).await;
    waits(&mut deleting_new).await;
    assert_eq!(names().await, "a");
    held.release();
    for done in [renaming.await, kept.await, deleting.await, deleting_new.await] {
        done.unwrap();
    }
    assert!(matches!(missed.await, Err(Error::TagNotFound { .. })));
    assert_eq!(names().await, "");
}

#[tokio::test]
async fn blob_imported_again_behind_its_deletion_stays() {
    let sample = Sample::new(1000);
    let mut held = Held::after(async |store| drop(import(store, &sample).await)).await;
    let store = held.store.clone();
    let mut deleting = pin!(store.delete(vec![sample.hash]));
    waits(&mut deleting).await;
    let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
    waits(&mut importing).await;
    assert_eq!(status(&store, sample.hash), EntryStatus::NotFound);
    assert!(!collect(store.blobs().await.unwrap()).await.unwrap().contains(&sample.hash));
    held.release();
    deleting.await.unwrap();
    drop(importing.await.unwrap());
    let (_home, store) = held.reopen().await;
    assert_eq!(store.read_verified(sample.hash, 0..u64::MAX).await.unwrap(), sample.data);
}

#[tokio::test]
async fn operation_whose_future_is_dropped_in_the_queue_happens_and_is_pinned_until_then() {
    let mut held = Held::after(async |_| {}).await;
    let store = held.store.clone();
    let sample = Sample::new(1000);
    {
        let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
        let mut setting = pin!(store.set_tag("a".into(), Some(content(1))));
        waits(&mut importing).await;
        waits(&mut setting).await;
    }
    assert!(store.temp_tags().any(|pinned| pinned == HashAndFormat::raw(sample.hash)));
    held.release();
    eventually(|| status(&store, sample.hash) == EntryStatus::Complete);
    eventually(|| store.temp_tags().count() == 0);
    assert_eq!(store.get_tag(&"a".into()).await.unwrap(), Some(content(1)));
}

#[tokio::test]
async fn names_that_are_queued_are_taken_renamed_and_deleted() {
    let mut held = Held::after(async |_| {}).await;
    let store = held.store.clone();
    let mut creating: Vec<_> = (0..5).map(|i| Box::pin(store.create_tag(content(i)))).collect();
    for create in &mut creating {
        waits(create).await;
    }
    let mut setting = pin!(store.set_tag("x/a".into(), Some(content(7))));
    let mut renaming = pin!(store.rename_tag("x/a".into(), "x/b".into()));
    let mut more = pin!(store.set_tag("x/c".into(), Some(content(8))));
    let mut kept = pin!(store.rename_tag("x/b".into(), "y".into()));
    waits(&mut setting).await;
    waits(&mut renaming).await;
    waits(&mut more).await;
    waits(&mut kept).await;
    let mut deleting = pin!(store.delete_tags(TagRange::prefix("x/")));
    for _ in 0..20 {
        waits(&mut deleting).await;
        collect(store.tags(..).await.unwrap()).await.unwrap();
    }
    held.release();
    for result in [setting.await, renaming.await, more.await, kept.await, deleting.await] {
        result.unwrap();
    }
    let mut expected = vec![(Tag::from("y"), content(7))];
    for (create, i) in creating.into_iter().zip(0..) {
        expected.push((create.await.unwrap(), content(i)));
    }
    expected.sort();
    let (_home, store) = held.reopen().await;
    assert_eq!(collect(store.tags(..).await.unwrap()).await.unwrap(), expected);
}

#[tokio::test]
async fn import_of_a_partial_blob_is_waited_for_by_those_who_would_write_it() {
    let sample = Sample::new(60_000);
    let mut held = Held::after(async |store| {
        write(store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
    })
    .await;
    let store = held.store.clone();
    let entry = store.existing(sample.hash).await.unwrap();
    let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
    waits(&mut importing).await;
    assert!(!entry.is_complete());
    let mut beginning = pin!(store.get_or_create(sample.hash, 1));
    let mut completing = pin!(store.insert_complete(entry.clone()));
    waits(&mut beginning).await;
    waits(&mut completing).await;
    held.release();
    drop(importing.await.unwrap());
    assert!(beginning.await.unwrap().is_complete());
    completing.await.unwrap();
    assert!(entry.is_complete());
}

/// The record of the import, which came before the deletion, took the new partial blob for its own: what was written to
/// it was gone, and its handle said that it was complete.
#[tokio::test]
async fn partial_blob_begun_behind_a_queued_deletion_is_not_taken_for_what_was_deleted() {
    let mut held = Held::after(async |_| {}).await;
    let store = held.store.clone();
    let sample = Sample::new(40_000);
    let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
    waits(&mut importing).await;
    let mut deleting = pin!(store.delete(vec![sample.hash]));
    waits(&mut deleting).await;
    write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
    let entry = store.existing(sample.hash).await.unwrap();
    held.release();
    drop(importing.await.unwrap());
    deleting.await.unwrap();
    assert_eq!(status(&store, sample.hash), EntryStatus::Partial);
    assert!(!entry.is_complete());
    assert_eq!(present(&store, sample.hash).await, chunks(0..16));
}

/// Who promoted a large blob from memory while its import was queued was told that there is no such blob.
#[tokio::test]
async fn large_blob_whose_import_is_queued_is_promoted_with_it() {
    let sample = Sample::new(100_000);
    let begin = async |store: &FsStore| {
        write(store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
    };
    let mut held = Held::after(begin).await;
    let store = held.store.clone();
    let entry = store.existing(sample.hash).await.unwrap();
    let mut importing = pin!(store.import_bytes(sample.data.clone(), BlobFormat::Raw));
    let mut completing = pin!(store.insert_complete(entry.clone()));
    for _ in 0..20 {
        waits(&mut importing).await;
        collect(store.blobs().await.unwrap()).await.unwrap();
    }
    waits(&mut completing).await;
    held.release();
    completing.await.unwrap();
    drop(importing.await.unwrap());
    assert!(entry.is_complete());
}

#[tokio::test]
async fn shutdown_writes_what_is_queued() {
    let mut held = Held::after(async |_| {}).await;
    let store = held.store.clone();
    let mut setting = pin!(store.set_tag("a".into(), Some(content(1))));
    waits(&mut setting).await;
    let mut closing = pin!(store.shutdown());
    waits(&mut closing).await;
    held.release();
    closing.await.unwrap();
    assert!(matches!(poll_once(&mut setting).await, Some(Ok(()))));
    let (_home, store) = held.reopen().await;
    assert_eq!(store.get_tag(&"a".into()).await.unwrap(), Some(content(1)));
}
