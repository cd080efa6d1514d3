//! Claims of sizes that nobody has room for.

use std::{fs, path::Path};

use bao_tree::{
    ChunkRanges,
    blake3::hazmat::ChainingValue,
    io::{BaoContentItem, Leaf, Parent},
};
use blob_traits::{
    BaoBatchWriter, BlobStatus, EntryStatus, Error, Hash, ListBlobs, MapEntry, MapEntryMut, MapExt, MapMut,
    MapMutExt, ReadBlob, Store, collect,
    tree::{parent_cv, subtree_cv},
};
use bytes::Bytes;

use super::{node, present};
use crate::{
    Failure, Outcome, ProcessLimit, Sample, Trial, case::group, chunks, error_of, group_ranges, write_items,
};

group! {
    "partial_batch_writer", for S: Store;
    huge_claim_2e40_allocates_less_than_1mib_disk [needs Files],
    huge_claim_2e40_allocates_less_than_1mib_ram,
    fabricated_spine_size_2e60_rejected_by_cap_before_any_file_op [needs SizeLimit],
    fabricated_spine_within_the_cap_costs_only_what_arrived,
    no_claim_is_too_large_to_be_refused_cleanly,
}

const CLAIM: u64 = 1 << 40;
const MIB: u64 = 1 << 20;

/// The bytes that files below a directory take on the disk.
fn disk_use(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut used = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        used += if metadata.is_dir() { disk_use(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(used)
}

/// Begins a blob and writes a little at its start, its middle and its end, and a parent in between.
async fn claim_and_write<S: MapMut + BlobStatus>(store: &S, hash: Hash, claim: u64) -> Outcome {
    let leaf = |offset| Leaf { offset, data: Bytes::from(vec![0xaa; 16 << 10]) }.into();
    let root = Parent { node: node((claim >> 11) - 1), pair: ([1; 32].into(), [2; 32].into()) };
    let items = vec![root.into(), leaf(0), leaf(claim / 2), leaf(claim - (16 << 10))];
    let entry = store.get_or_create(hash, claim).await?;
    let mut writer = entry.batch_writer().await?;
    writer.write_batch(claim, items).await?;
    writer.sync().await?;
    let mut reader = entry.data_reader().await?;
    for offset in [0, claim / 2, claim - 1024] {
        let error = error_of(reader.read_range(offset, usize::MAX).await);
        assert!(matches!(error, Error::Incomplete { .. }), "{error:?}");
    }
    assert!(present(store, hash).await?.is_empty());
    Ok(())
}

async fn huge_claim_2e40_allocates_less_than_1mib_disk<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    claim_and_write(&store, Hash::new(b"not huge"), 1 << 20).await?;
    let before = disk_use(trial.home().dir())?;
    claim_and_write(&store, Hash::new(b"huge"), CLAIM).await?;
    for number in 0..200_u32 {
        store.get_or_create(Hash::new(number.to_le_bytes()), CLAIM).await?;
    }
    let used = disk_use(trial.home().dir())?.saturating_sub(before);
    assert!(used < MIB, "{used} bytes");
    Ok(())
}

/// The memory in bytes that this process has for itself alone.
fn memory_use() -> Result<u64, Failure> {
    let Ok(status) = fs::read_to_string("/proc/self/status") else {
        return Err(Failure::skipped("the system does not tell how much memory a process uses"));
    };
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).ok_or("an unknown format")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}

async fn huge_claim_2e40_allocates_less_than_1mib_ram<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    // What is reserved and never touched counts, too: a thousandth of such a claim is over this limit.
    if !trial.is_alone(ProcessLimit::Memory(1 << 30))? {
        return Ok(());
    }
    // Buffers, threads and pages of code that every download needs are there before it is measured.
    for number in 0..8_u32 {
        claim_and_write(&store, Hash::new(number.to_le_bytes()), 1 << 20).await?;
    }
    let before = memory_use()?;
    claim_and_write(&store, Hash::new(b"huge"), CLAIM).await?;
    let used = memory_use()?.saturating_sub(before);
    assert!(used < MIB, "{used} bytes");
    Ok(())
}

/// A blob that nobody has: one chunk group, and hashes of nothing in particular beside the way up from it. Its stream
/// verifies as far as it goes. Returns its hash and the stream of the first chunk group under a claim.
fn fabricate(first: &Sample, claim: u64) -> (Hash, Vec<u8>) {
    let mut cv = subtree_cv(0, &first.data, false);
    let mut pairs: Vec<[ChainingValue; 2]> = Vec::new();
    let levels = (claim >> 14).ilog2();
    for level in 1..=levels {
        let beside = ChainingValue::from([level.to_le_bytes()[0]; 32]);
        pairs.push([cv, beside]);
        cv = parent_cv(&cv, &beside, level == levels);
    }
    let mut stream: Vec<u8> = pairs.iter().rev().flatten().flatten().copied().collect();
    stream.extend_from_slice(&first.data);
    (Hash::from_bytes(cv), stream)
}

/// Everything below a directory: names, lengths and times of change.
fn listing(dir: &Path) -> std::io::Result<Vec<String>> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let (path, metadata) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        let (len, ctime, ns) = (metadata.len(), metadata.ctime(), metadata.ctime_nsec());
        found.push(format!("{} {len} {ctime}.{ns}", path.display()));
        if metadata.is_dir() {
            found.extend(listing(&path)?);
        }
    }
    found.sort();
    Ok(found)
}

async fn fabricated_spine_size_2e60_rejected_by_cap_before_any_file_op<S>(trial: &Trial<S>, _: S) -> Outcome
where
    S: MapMut + BlobStatus + ListBlobs,
{
    let home = trial.other_home("capped").with_max_blob_size(CLAIM);
    let store = trial.open(&home).await?;
    let files = || if home.dir().is_dir() { listing(home.dir()) } else { Ok(Vec::new()) };
    let before = files()?;
    let (hash, stream) = fabricate(&Sample::new(16 << 10), 1 << 60);
    for claim in [1 << 60, CLAIM + 1] {
        let refused = store.get_or_create(hash, claim).await.map(drop);
        assert!(
            matches!(refused, Err(Error::TooLarge { size, limit: CLAIM }) if size == claim),
            "{refused:?}"
        );
    }
    let first = group_ranges(0..1);
    let refused = store.import_bao(hash, 1 << 60, first, Bytes::from(stream)).await.map(drop);
    assert!(matches!(refused, Err(Error::TooLarge { limit: CLAIM, .. })), "{refused:?}");
    assert_eq!(store.entry_status(&hash).await?, EntryStatus::NotFound);
    assert!(collect(store.partial_blobs().await?).await?.is_empty());
    assert_eq!(files()?, before);
    Ok(())
}

async fn fabricated_spine_within_the_cap_costs_only_what_arrived<S: MapMut + BlobStatus>(
    trial: &Trial<S>,
    store: S,
) -> Outcome {
    let disk = || if trial.home().dir().is_dir() { disk_use(trial.home().dir()) } else { Ok(0) };
    let first = Sample::new(16 << 10);
    let (hash, stream) = fabricate(&first, CLAIM);
    let before = disk()?;
    store.import_bao(hash, CLAIM, group_ranges(0..1), Bytes::from(stream)).await?;
    assert_eq!(present(&store, hash).await?, chunks(0..16));
    assert_eq!(store.read_verified(hash, 0..1 << 14).await?, first.data);
    let exported = store.export_bao(hash, ChunkRanges::all(), Vec::new()).await;
    assert!(matches!(exported, Err(Error::Incomplete { .. })), "{exported:?}");
    let used = disk()?.saturating_sub(before);
    assert!(used < MIB, "{used} bytes");
    Ok(())
}

async fn no_claim_is_too_large_to_be_refused_cleanly<S: MapMut + BlobStatus>(
    _: &Trial<S>,
    store: S,
) -> Outcome {
    let sample = Sample::new(1);
    let leaf = |offset| BaoContentItem::Leaf(Leaf { offset, data: Bytes::from(vec![0xaa; 1024]) });
    for claim in [1 << 44, (1 << 62) - 1024, 1 << 62, (1 << 62) + 1024, 1 << 63, u64::MAX - 1023] {
        match store.get_or_create(sample.hash, claim).await {
            Err(Error::TooLarge { size, limit }) => assert!(size == claim && limit < claim),
            Err(other) => return Err(other.into()),
            Ok(_) => {
                write_items(&store, sample.hash, claim, vec![leaf(0)]).await?;
                // Where no file can be so long, the system says so; the entry is as it was.
                let _ = write_items(&store, sample.hash, claim, vec![leaf(claim - 1024)]).await;
                assert!(present(&store, sample.hash).await?.is_empty());
            }
        }
    }
    sample.write(&store, &ChunkRanges::all()).await?;
    store.insert_complete(store.get_or_create(sample.hash, 1).await?).await?;
    super::check_complete(&store, &sample).await
}
