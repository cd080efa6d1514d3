//! What rebuilding the index of a store takes of which most was removed: `rebuild DIR [BLOBS]`, with an empty directory.
//!
//! One process makes the store and another one opens it without its index, so that its peak memory is its own. Of
//! 100 blobs 90 are removed. What has the removals is compacted first, together with some segments more, so that the
//! packed segment keeps the removals of what lies in all others.

use std::{env, error::Error, fs, path::Path, process::Command, time::Instant};

use blob_fs::{CompactOptions, Compaction, Durability, FsStore, Options};
use blob_traits::{BlobFormat, Hash, prelude::*};
use bytes::Bytes;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const LEN: usize = 100;
const FILLER: usize = 60_000;
const SEGMENT: u64 = 8 << 20;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let (step, dir, count) = match *args.as_slice() {
        [dir] => ("all", dir, 1_000_000),
        [dir, count] => ("all", dir, count.parse()?),
        [step, dir, count] => (step, dir, count.parse()?),
        _ => return Err("usage: rebuild DIR [BLOBS]".into()),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    match step {
        "fill" => runtime.block_on(fill(dir, count)),
        "open" => runtime.block_on(open(dir, count)),
        _ => ["fill", "open"].into_iter().try_for_each(|step| {
            let ended = Command::new(env::current_exe()?).args([step, dir, &count.to_string()]).status()?;
            if ended.success() { Ok(()) } else { Err(format!("{step}: {ended}").into()) }
        }),
    }
}

fn content(number: u64) -> Bytes {
    let mut data = vec![0; LEN];
    data.iter_mut().zip(number.to_le_bytes()).for_each(|(to, from)| *to = from);
    data.into()
}

fn stays(number: u64) -> bool {
    number % 100 < 10
}

fn options(dir: &str) -> Options {
    let durability = Durability::Relaxed;
    Options { durability, segment_size: SEGMENT, compaction: Compaction::Manual, ..Options::new(dir) }
}

async fn fill(dir: &str, count: u64) -> Result<()> {
    let store = FsStore::open(options(dir)).await?;
    for number in 0..count {
        store.import_bytes(content(number), BlobFormat::Raw).await?;
    }
    let goes: Vec<Hash> = (0..count).filter(|n| !stays(*n)).map(|n| Hash::new(content(n))).collect();
    for (some, number) in goes.chunks(1_000).zip(0_u64..) {
        store.delete(some.to_vec()).await?;
        // Removals alone would not be worth a compaction.
        let filler = Bytes::from(number.to_le_bytes().repeat(FILLER / 8));
        let filler = store.import_bytes(filler, BlobFormat::Raw).await?.hash();
        store.delete(vec![filler]).await?;
    }
    let report =
        store.compact(CompactOptions { bytes_to_free: Some(1), ..CompactOptions::default() }).await?;
    store.shutdown().await?;
    println!("{count} blobs, {} removed; one packed segment of {} bytes", goes.len(), report.bytes_copied);
    Ok(())
}

async fn open(dir: &str, count: u64) -> Result<()> {
    fs::remove_file(Path::new(dir).join("index.redb"))?;
    let (before, begun) = (peak_kib()?, Instant::now());
    let store = FsStore::open(options(dir)).await?;
    let (took, after) = (begun.elapsed(), peak_kib()?);
    let n_blobs = blob_traits::collect(store.blobs().await?).await?.len() as u64;
    if n_blobs != (0..count).filter(|number| stays(*number)).count() as u64 {
        return Err(format!("{n_blobs} blobs are there").into());
    }
    let (space, n_records) = (store.space().await?, store.recovery().replayed_records);
    println!("{n_blobs} blobs left, log {} bytes, index {} bytes", space.log_bytes, space.index_bytes);
    println!(
        "rebuilt out of {n_records} records in {took:.2?}; peak of memory {before} KiB before, {after} KiB after"
    );
    store.shutdown().await?;
    Ok(())
}

/// The most that has been resident so far.
fn peak_kib() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
