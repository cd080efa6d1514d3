//! One run of one contender, in this process.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use blob_fs::Durability;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::{
    contender::{BlobStore, Contender},
    disk, memory,
    ours::OurStore,
    peer::PeerStore,
    workload::Workload,
};

/// What a run took; times in seconds since the first import began, sizes in bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Until the last acknowledgement.
    pub(crate) acknowledged_s: f64,
    /// Until all that was acknowledged is durable.
    pub(crate) durable_s: f64,
    /// Until the store is closed.
    pub(crate) closed_s: f64,
    /// Opening the store again, by itself.
    pub(crate) reopened_s: f64,
    /// Peak memory above what the process had before it opened the store.
    pub(crate) peak_bytes: u64,
    pub(crate) allocated_bytes: u64,
    pub(crate) length_bytes: u64,
}

/// Of so many blobs one is read again at the end, to see that it is there.
const KEPT_EVERY: u64 = 1000;

/// Runs the workload in an empty directory.
pub(crate) fn run(contender: Contender, dir: &Path, workload: Workload) -> Result<Figures> {
    match contender {
        Contender::OursImmediate => drive::<OurStore>(dir, Durability::Immediate, workload),
        Contender::OursRelaxed => drive::<OurStore>(dir, Durability::Relaxed, workload),
        Contender::Peer => drive::<PeerStore>(dir, (), workload),
        Contender::AppendGroups => append(dir, workload, workload.in_flight.get() as u64),
        Contender::AppendOnce => append(dir, workload, workload.count.get()),
    }
}

fn drive<S: BlobStore>(dir: &Path, options: S::Options, workload: Workload) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        // What the program needs by itself must not count as the store's.
        drop(workload.blob(0));
        let baseline = memory::peak_bytes()?;

        let store = S::open(dir, options).await.context("opening the store")?;
        let begun = Instant::now();
        let kept = import_all(&store, workload, KEPT_EVERY).await?;
        let acknowledged_s = begun.elapsed().as_secs_f64();
        store.sync().await.context("syncing")?;
        let durable_s = begun.elapsed().as_secs_f64();
        store.shutdown().await.context("shutting down")?;
        let closed_s = begun.elapsed().as_secs_f64();
        let peak_bytes = memory::peak_bytes()?.saturating_sub(baseline);
        let usage = disk::usage(dir)?;

        let begun = Instant::now();
        let store = S::open(dir, options).await.context("opening the store again")?;
        let reopened_s = begun.elapsed().as_secs_f64();
        for (index, hash) in kept {
            let read = store.read(hash).await.with_context(|| format!("reading blob {index}"))?;
            ensure!(read == workload.blob(index), "blob {index} came back changed");
        }
        store.shutdown().await.context("shutting down the second time")?;
        Ok(Figures {
            acknowledged_s,
            durable_s,
            closed_s,
            reopened_s,
            peak_bytes,
            allocated_bytes: usage.allocated,
            length_bytes: usage.length,
        })
    })
}

/// Imports all blobs, as many at a time as the workload says; returns the hash of one in so many.
pub(crate) async fn import_all<S: BlobStore>(
    store: &S,
    workload: Workload,
    one_of: u64,
) -> Result<Vec<(u64, S::Hash)>> {
    let next = Arc::new(AtomicU64::new(0));
    let mut importers = JoinSet::new();
    for _ in 0..workload.in_flight.get() {
        importers.spawn(importer(store.clone(), workload, one_of, Arc::clone(&next)));
    }
    let mut kept = Vec::new();
    while let Some(finished) = importers.join_next().await {
        kept.extend(finished.context("an importer panicked")??);
    }
    Ok(kept)
}

async fn importer<S: BlobStore>(
    store: S,
    workload: Workload,
    one_of: u64,
    next: Arc<AtomicU64>,
) -> Result<Vec<(u64, S::Hash)>> {
    let mut kept = Vec::new();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        if index >= workload.count.get() {
            return Ok(kept);
        }
        let hash = store.import(workload.blob(index)).await.with_context(|| format!("blob {index}"))?;
        if index.is_multiple_of(one_of) {
            kept.push((index, hash));
        }
    }
}

/// The limit of the hardware: the same bytes appended to one file, synced after each group.
fn append(dir: &Path, workload: Workload, group: u64) -> Result<Figures> {
    let baseline = memory::peak_bytes()?;
    let path = dir.join("appended");
    let mut file = File::create_new(&path)?;
    let begun = Instant::now();
    let mut buffer = Vec::new();
    let mut pending = 0;
    for index in 0..workload.count.get() {
        buffer.extend_from_slice(&workload.blob(index));
        pending += 1;
        let full = buffer.len() >= workload.size.get() * workload.in_flight.get();
        let last = index + 1 == workload.count.get();
        if full || pending == group || last {
            file.write_all(&buffer)?;
            buffer.clear();
        }
        if pending == group || last {
            file.sync_data()?;
            pending = 0;
        }
    }
    let durable_s = begun.elapsed().as_secs_f64();
    drop(file);
    let closed_s = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    drop(File::open(&path)?);
    let usage = disk::usage(dir)?;
    Ok(Figures {
        acknowledged_s: durable_s,
        durable_s,
        closed_s,
        reopened_s: begun.elapsed().as_secs_f64(),
        peak_bytes: memory::peak_bytes()?.saturating_sub(baseline),
        allocated_bytes: usage.allocated,
        length_bytes: usage.length,
    })
}
