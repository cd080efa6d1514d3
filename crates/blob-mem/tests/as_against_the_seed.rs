//! A program written as against the store traits of iroh-blobs 0.35, which knows nothing of the backend.
//!
//! It imports `Store`, the traits of the handles that a store returns, as there, and the vocabulary; calls methods by
//! the names of the seed; and takes errors as `io::Error`. Where a line differs from what it would be there, a comment
//! says so. `docs/from-iroh-blobs.md` has the whole list.

use std::{io, path::Path};

use bao_tree::{
    BaoTree, ChunkNum, ChunkRanges,
    io::{
        BaoContentItem,
        fsm::{ResponseDecoder, ResponseDecoderNext, encode_ranges_validated},
    },
};
use blob_mem::MemStore;
use blob_traits::{
    BaoBatchWriter, BaoBlobSize, BlobFormat, EntryStatus, ExportMode, Hash, HashAndFormat, IROH_BLOCK_SIZE,
    ImportMode, MapEntry, MapEntryMut, Progress, Store, Tag, collect,
};
use bytes::Bytes;

const SIZE: usize = 100_000;

/// What a peer sends.
#[derive(Debug)]
struct Remote {
    hash: Hash,
    encoded: Bytes,
}

fn bytes(seed: usize, len: usize) -> Bytes {
    (0..len).map(|i| (i.wrapping_mul(31).wrapping_add(seed) % 251).to_le_bytes()[0]).collect()
}

fn first_chunks(n: u64) -> ChunkRanges {
    ChunkRanges::from(..ChunkNum(n))
}

/// The whole program: each step leaves what the next one needs.
async fn program<S: Store>(store: S, dir: &Path) -> io::Result<()> {
    let content = import(&store, dir).await?;
    read(&store, content.hash).await?;
    let remote = encode(&store, content.hash).await?;
    store.delete(vec![content.hash]).await?;
    assert_eq!(store.entry_status(&content.hash).await?, EntryStatus::NotFound);
    download(&store, &remote).await?;
    list(&store, content.hash).await?;
    tags(&store, content).await?;
    export(&store, content.hash, dir).await?;
    store.sync().await?;
    // The seed's returns nothing.
    store.shutdown().await?;
    assert!(store.get(&content.hash).await.is_err());
    Ok(())
}

async fn import(store: &impl Store, dir: &Path) -> io::Result<HashAndFormat> {
    let tag = store.import_bytes(bytes(1, SIZE), BlobFormat::Raw).await?;
    // `TempTag::hash` returns the hash, not a reference to it.
    assert_eq!(tag.hash(), Hash::new(bytes(1, SIZE)));
    // `Progress::none()` where the seed has `IgnoreProgressSender::default()`.
    let pieces = [Ok(bytes(2, 10)), Ok(bytes(2, 20))];
    let stream = futures_lite::stream::iter(pieces);
    let (streamed, size) = store.import_stream(stream, BlobFormat::Raw, Progress::none()).await?;
    assert_eq!((streamed.format(), size), (BlobFormat::Raw, 30));
    let reader = io::Cursor::new(bytes(3, 5000));
    let (_, size) = store.import_reader(reader, BlobFormat::Raw, Progress::none()).await?;
    assert_eq!(size, 5000);
    let path = dir.join("source");
    std::fs::write(&path, bytes(4, 70_000))?;
    let (progress, mut events) = Progress::channel(64);
    let (_, size) = store.import_file(path, ImportMode::TryReference, BlobFormat::Raw, progress).await?;
    assert_eq!(size, 70_000);
    assert!(events.recv().await.is_some());
    Ok(tag.hash_and_format())
}

async fn read(store: &impl Store, hash: Hash) -> io::Result<()> {
    assert_eq!(store.entry_status(&hash).await?, EntryStatus::Complete);
    assert_eq!(store.entry_status_sync(&hash)?, EntryStatus::Complete);
    let Some(entry) = store.get(&hash).await? else { return Err(io::ErrorKind::NotFound.into()) };
    assert!(entry.is_complete());
    assert_eq!((entry.hash(), entry.size()), (hash, BaoBlobSize::Verified(SIZE as u64)));
    Ok(())
}

/// Encodes some of a blob as a provider would.
async fn encode(store: &impl Store, hash: Hash) -> io::Result<Remote> {
    let Some(entry) = store.get(&hash).await? else { return Err(io::ErrorKind::NotFound.into()) };
    let (data, outboard) = (entry.data_reader().await?, entry.outboard().await?);
    let mut encoded = Vec::new();
    encode_ranges_validated(data, outboard, &ChunkRanges::all(), &mut encoded).await?;
    Ok(Remote { hash, encoded: encoded.into() })
}

/// Decodes a stream in two halves, as two getters would.
async fn download(store: &impl Store, remote: &Remote) -> io::Result<()> {
    let hash = remote.hash;
    let entry = store.get_or_create(hash, SIZE as u64).await?;
    let mut items = decode(remote).await?;
    let rest = items.split_off(items.len() / 2);
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(SIZE as u64, items).await?;
    writer.sync().await?;
    // A writer does not borrow its entry; in the seed it would have to be dropped first.
    assert_eq!(store.entry_status_sync(&hash)?, EntryStatus::Partial);
    // A list of the stream; the seed has an iterator of results.
    assert_eq!(collect(store.partial_blobs().await?).await?, [hash]);
    assert!(store.insert_complete(entry).await.is_err());

    let Some(entry) = store.get_mut(&hash).await? else { return Err(io::ErrorKind::NotFound.into()) };
    assert!(!entry.is_complete());
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(SIZE as u64, rest).await?;
    writer.sync().await?;
    store.insert_complete(entry).await?;
    assert_eq!(store.entry_status(&hash).await?, EntryStatus::Complete);
    Ok(())
}

async fn decode(remote: &Remote) -> io::Result<Vec<BaoContentItem>> {
    let tree = BaoTree::new(SIZE as u64, IROH_BLOCK_SIZE);
    let mut decoder =
        ResponseDecoder::new(remote.hash.into(), ChunkRanges::all(), tree, remote.encoded.clone());
    let mut items = Vec::new();
    loop {
        match decoder.next().await {
            ResponseDecoderNext::More((next, item)) => {
                items.push(item?);
                decoder = next;
            }
            ResponseDecoderNext::Done(_) => return Ok(items),
        }
    }
}

async fn list(store: &impl Store, hash: Hash) -> io::Result<()> {
    let blobs = collect(store.blobs().await?).await?;
    assert!(blobs.contains(&hash) && blobs.is_sorted());
    assert!(collect(store.partial_blobs().await?).await?.is_empty());
    let ranges = store.present_ranges(&hash).await?;
    assert!(ranges.is_some_and(|ranges| ranges.is_superset(&first_chunks(SIZE.div_ceil(1024) as u64))));
    Ok(())
}

async fn tags(store: &impl Store, content: HashAndFormat) -> io::Result<()> {
    // The name points to something, or with `None` to nothing any more.
    store.set_tag("a".into(), Some(content)).await?;
    let made = store.create_tag(content).await?;
    store.rename_tag("a".into(), "b".into()).await?;
    // A range of tags in place of `from` and `to`.
    let all = collect(store.tags(..).await?).await?;
    assert_eq!(all, [(made, content), (Tag::from("b"), content)]);
    assert_eq!(collect(store.tags(Tag::from("b")..).await?).await?.len(), 1);
    store.delete_tags(Tag::from("auto-")..Tag::from("b")).await?;
    store.delete_tag("b".into()).await?;
    assert!(collect(store.tags(..).await?).await?.is_empty());

    let held = store.temp_tag(content);
    assert!(store.temp_tags().any(|pinned| pinned == content));
    drop(held);
    assert!(!store.temp_tags().any(|pinned| pinned == content));
    Ok(())
}

async fn export(store: &impl Store, hash: Hash, dir: &Path) -> io::Result<()> {
    let target = dir.join("target");
    // `Progress::from_offset_fn` takes the seed's callback.
    let progress = Progress::from_offset_fn(|_| Ok(()));
    store.export(hash, target.clone(), ExportMode::Copy, progress).await?;
    assert_eq!(std::fs::read(&target)?, bytes(1, SIZE));
    // The seed replaces what is there.
    let again = store.export(hash, target, ExportMode::Copy, Progress::none()).await;
    assert_eq!(again.map_err(|e| io::Error::from(e).kind()), Err(io::ErrorKind::AlreadyExists));
    Ok(())
}

#[tokio::test]
async fn a_program_of_the_seed_runs() {
    let dir = tempfile::tempdir().unwrap();
    program(MemStore::new(), dir.path()).await.unwrap();
}
