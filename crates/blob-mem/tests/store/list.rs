use blob_mem::MemStore;
use blob_traits::{BlobFormat, Hash, collect, prelude::*};

use crate::sample::{Sample, chunks, write};

async fn blobs(store: &MemStore) -> Vec<Hash> {
    collect(store.blobs().await.unwrap()).await.unwrap()
}

async fn partial_blobs(store: &MemStore) -> Vec<Hash> {
    collect(store.partial_blobs().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn complete_and_partial_blobs_are_listed_apart_and_in_order() {
    let store = MemStore::new();
    let mut complete = Vec::new();
    let mut partial = Vec::new();
    for i in 0..100_usize {
        let sample = Sample::new(20_000 + i);
        if i % 3 == 0 {
            write(&store, sample.hash, sample.size(), sample.items(&chunks(0..16))).await.unwrap();
            partial.push(sample.hash);
        } else {
            store.import_bytes(sample.data, BlobFormat::Raw).await.unwrap();
            complete.push(sample.hash);
        }
    }
    complete.sort_unstable();
    partial.sort_unstable();
    assert_eq!(blobs(&store).await, complete);
    assert_eq!(partial_blobs(&store).await, partial);
}

#[tokio::test]
async fn listing_shows_the_state_at_the_call() {
    let store = MemStore::new();
    let a = store.import_bytes("a".into(), BlobFormat::Raw).await.unwrap();
    let listing = store.blobs().await.unwrap();
    store.import_bytes("b".into(), BlobFormat::Raw).await.unwrap();
    store.delete(vec![a.hash()]).await.unwrap();
    assert_eq!(collect(listing).await.unwrap(), [a.hash()]);
}

#[tokio::test]
async fn blob_that_was_only_claimed_is_partial() {
    let store = MemStore::new();
    let hash = Hash::new(b"claimed");
    store.get_or_create(hash, 1 << 40).await.unwrap();
    assert_eq!(partial_blobs(&store).await, [hash]);
    assert!(blobs(&store).await.is_empty());
}
