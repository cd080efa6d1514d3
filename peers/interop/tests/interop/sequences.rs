//! Hash sequences and collections: the same blobs, and each side loads what the other stored.

use blob_traits::{Collection, Hash, HashSeq};
use iroh_blobs::{format::collection::Collection as PeerCollection, hashseq::HashSeq as PeerSeq};

use crate::{
    party::{AnyStore, Party, from_peer, to_peer},
    sample,
};

fn hash(n: usize) -> Hash {
    Hash::new(n.to_le_bytes())
}

/// Names and hashes of several collections: none, one, names of every kind, and many.
fn samples() -> Vec<Vec<(String, Hash)>> {
    let long = "x".repeat(1000);
    let odd = ["", "größe", "日本/語.txt", "🦀", "a\0b", "line\nbreak", "..", "/", "twice", "twice", &long];
    let numbered: Vec<_> = (0..1000).map(|i| format!("dir {}/file {i}", i % 7)).collect();
    let numbered: Vec<_> = numbered.iter().map(String::as_str).collect();
    [[].as_slice(), &["one"], &odd, &numbered]
        .into_iter()
        .map(|names| names.iter().zip(0..).map(|(name, n)| ((*name).to_owned(), hash(n))).collect())
        .collect()
}

fn peer_collection(named: &[(String, Hash)]) -> PeerCollection {
    named.iter().map(|(name, hash)| (name.clone(), to_peer(*hash))).collect()
}

/// Stores a collection with the code of the store's own project.
async fn store(party: &Party, named: &[(String, Hash)]) -> Hash {
    let ours: Collection = named.iter().cloned().collect();
    match &party.store {
        AnyStore::Mem(store) => ours.store(store).await.unwrap().hash(),
        AnyStore::Fs(store) => ours.store(store).await.unwrap().hash(),
        AnyStore::Peer(store) => from_peer(peer_collection(named).store(store).await.unwrap().hash()),
    }
}

/// Loads a collection with the code of the store's own project.
async fn load(party: &Party, root: Hash) -> Vec<(String, Hash)> {
    match &party.store {
        AnyStore::Mem(store) => Collection::load(root, store).await.unwrap().iter().cloned().collect(),
        AnyStore::Fs(store) => Collection::load(root, store).await.unwrap().iter().cloned().collect(),
        AnyStore::Peer(store) => {
            let loaded = PeerCollection::load(to_peer(root), store).await.unwrap();
            loaded.into_iter().map(|(name, hash)| (name, from_peer(hash))).collect()
        }
    }
}

#[test]
fn hash_sequences_have_the_same_bytes() {
    for n in [0, 1, 2, 1000] {
        let hashes: Vec<_> = (0..n).map(hash).collect();
        let ours: HashSeq = hashes.iter().copied().collect();
        let theirs: PeerSeq = hashes.iter().copied().map(to_peer).collect();
        let bytes = bytes::Bytes::from(theirs);
        assert_eq!(ours.into_inner(), bytes, "{n} hashes");
        let ours = HashSeq::try_from(bytes.clone()).unwrap();
        let theirs = PeerSeq::try_from(bytes).unwrap();
        assert_eq!((ours.len(), theirs.len()), (n, n));
        assert!(ours.iter().eq(theirs.iter().map(from_peer)), "{n} hashes");
    }
}

#[test]
fn collections_are_the_same_blobs() {
    for named in samples() {
        let ours = named.iter().cloned().collect::<Collection>().to_blobs();
        let theirs: Vec<_> = peer_collection(&named).to_blobs().collect();
        assert_eq!(ours.as_slice(), theirs.as_slice(), "{} names", named.len());
    }
}

#[tokio::test]
async fn each_store_loads_the_collections_of_the_others() {
    for named in samples() {
        for writer in Party::all().await {
            let root = store(&writer, &named).await;
            let root_blob = writer.read(root).await;
            let metadata = HashSeq::try_from(root_blob.clone()).unwrap().get(0).unwrap();
            for reader in Party::all().await {
                for blob in [root_blob.clone(), writer.read(metadata).await] {
                    reader.add(blob).await;
                }
                let case = format!("{} to {}, {} names", writer.name, reader.name, named.len());
                assert_eq!(load(&reader, root).await, named, "{case}");
                assert_eq!(store(&reader, &named).await, root, "{case}");
            }
        }
    }
}

#[test]
fn lengths_that_are_no_multiple_of_32_are_refused_by_both() {
    for len in (0..200).chain([1024, 1025, 32_031]) {
        let blob = sample::bytes(len as u64, len);
        let ours = HashSeq::try_from(blob.clone());
        let theirs = PeerSeq::try_from(blob);
        assert_eq!((ours.is_ok(), theirs.is_ok()), (len % 32 == 0, len % 32 == 0), "{len} bytes");
        if let Err(error) = ours {
            assert_eq!(error.len_bytes, len as u64);
        }
    }
}
