use std::collections::BTreeSet;

use blob_fs::FsStore;
use blob_traits::{Hash, HashAndFormat, Tag, TagRange, collect, prelude::*};
use futures_lite::StreamExt;

use crate::{
    home::{Home, SETUPS, Setup, open},
    sample::{Sample, chunks, import, write},
};

async fn blobs(store: &FsStore) -> Vec<Hash> {
    collect(store.blobs().await.unwrap()).await.unwrap()
}

async fn partial_blobs(store: &FsStore) -> Vec<Hash> {
    collect(store.partial_blobs().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn complete_and_partial_blobs_are_listed_apart_and_in_order() {
    for setup in SETUPS {
        let (home, store) = open(setup).await;
        let (mut complete, mut partial) = (Vec::new(), Vec::new());
        for sample in (0..60).map(|i| Sample::numbered(20_000, i)) {
            if sample.hash.as_bytes()[0] % 3 == 0 {
                write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
                if partial.len() % 4 == 0 {
                    store.sync().await.unwrap();
                }
                partial.push(sample.hash);
            } else {
                import(&store, &sample).await;
                complete.push(sample.hash);
            }
        }
        complete.sort_unstable();
        partial.sort_unstable();
        assert_eq!((blobs(&store).await, partial_blobs(&store).await), (complete.clone(), partial.clone()));
        let store = home.reopen(store).await;
        assert_eq!((blobs(&store).await, partial_blobs(&store).await), (complete.clone(), partial.clone()));
        store.delete(complete.split_off(5)).await.unwrap();
        store.delete(partial.split_off(5)).await.unwrap();
        assert_eq!((blobs(&store).await, partial_blobs(&store).await), (complete, partial));
    }
}

#[tokio::test]
async fn listing_shows_the_state_at_the_call() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        let (a, b) = (Sample::new(20_001), Sample::new(20_002));
        import(&store, &a).await;
        write(&store, b.hash, b.size(), Vec::new()).await.unwrap();
        let (complete, partial) = (store.blobs().await.unwrap(), store.partial_blobs().await.unwrap());
        import(&store, &b).await;
        store.delete(vec![a.hash]).await.unwrap();
        write(&store, a.hash, a.size(), Vec::new()).await.unwrap();
        assert_eq!(collect(complete).await.unwrap(), [a.hash]);
        assert_eq!(collect(partial).await.unwrap(), [b.hash]);
        assert_eq!((blobs(&store).await, partial_blobs(&store).await), (vec![b.hash], vec![a.hash]));
    }
}

#[tokio::test]
async fn blob_that_was_only_claimed_is_partial() {
    let (_home, store) = open(Setup::Default).await;
    let hash = Hash::new(b"claimed");
    store.get_or_create(hash, 1 << 40).await.unwrap();
    assert_eq!(partial_blobs(&store).await, [hash]);
    assert!(blobs(&store).await.is_empty());
}

/// What is there all the time is in every listing, and nothing twice, whatever else comes and goes.
#[tokio::test(flavor = "multi_thread")]
async fn listing_is_whole_while_others_change_the_store() {
    for setup in [Setup::Default, Setup::Tiny] {
        let (_home, store) = open(setup).await;
        let mut stays = BTreeSet::new();
        for sample in (0..50).map(|i| Sample::numbered(100, i)) {
            stays.insert(import(&store, &sample).await.hash());
        }
        let changing = {
            let store = store.clone();
            tokio::spawn(async move {
                for sample in (0..100).map(|i| Sample::numbered(200, i)) {
                    import(&store, &sample).await;
                    store.delete(vec![sample.hash]).await.unwrap();
                }
            })
        };
        while !changing.is_finished() {
            let listed = blobs(&store).await;
            assert!(listed.is_sorted_by(|a, b| a < b));
            let listed: BTreeSet<_> = listed.into_iter().collect();
            assert!(stays.is_subset(&listed) && listed.len() <= stays.len() + 1);
            tokio::task::yield_now().await;
        }
        changing.await.unwrap();
    }
}

/// A partial blob that becomes complete is in one of the lists at each moment.
#[tokio::test(flavor = "multi_thread")]
async fn blob_that_becomes_complete_is_never_absent() {
    for setup in SETUPS {
        let (_home, store) = open(setup).await;
        for i in 0..10 {
            let sample = Sample::numbered(20_001, i);
            let entry = store.get_or_create(sample.hash, sample.size()).await.unwrap();
            let completing = {
                let (store, sample) = (store.clone(), sample.clone());
                tokio::spawn(async move {
                    write(&store, sample.hash, sample.size(), sample.all_items()).await.unwrap();
                    store.sync().await.unwrap();
                    store.insert_complete(entry).await.unwrap();
                })
            };
            while !completing.is_finished() {
                assert!(store.get(&sample.hash).await.unwrap().is_some());
                assert_ne!(crate::sample::status(&store, sample.hash), blob_traits::EntryStatus::NotFound);
                let partial = partial_blobs(&store).await.contains(&sample.hash);
                assert!(partial || blobs(&store).await.contains(&sample.hash));
            }
            completing.await.unwrap();
        }
    }
}

/// Over 4 MiB a listing lies in a file without a name until it has been read.
#[tokio::test]
async fn long_listing_is_read_from_a_file_and_stays_a_snapshot() {
    let home = Home::with(|options| options.durability = blob_fs::Durability::Relaxed);
    let mut store = home.open().await;
    let content = HashAndFormat::raw(Hash::EMPTY);
    let name = |i: usize| Tag::from(format!("{i:04}{}", "x".repeat(i % 4000)));
    let expected: Vec<_> = (0..3000).map(|i| (name(i), content)).collect();
    for chunk in expected.chunks(100) {
        let set = chunk.iter().map(|(tag, content)| store.set_tag(tag.clone(), Some(*content)));
        for result in join_all(set).await {
            result.unwrap();
        }
    }
    for round in 0..2 {
        let mut listing = store.tags(..).await.unwrap();
        let first = listing.next().await.unwrap().unwrap();
        assert_eq!((first, home.n_temporary()), (expected[0].clone(), 0));
        store.delete_tag(name(2999)).await.unwrap();
        assert_eq!(collect(listing).await.unwrap(), expected[1..]);
        store.set_tag(name(2999), Some(content)).await.unwrap();
        if round == 0 {
            store = home.reopen(store).await;
        }
    }
    let few = TagRange::from(name(10)..name(20));
    assert_eq!(collect(store.tags(few).await.unwrap()).await.unwrap(), expected[10..20]);
    let listing = store.tags(..).await.unwrap();
    store.shutdown().await.unwrap();
    assert_eq!(collect(listing).await.unwrap().len(), 3000);
}

/// Awaits all, at once.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<_> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}
