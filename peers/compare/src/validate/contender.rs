//! Who validates, and how.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use anyhow::{Result, anyhow, bail, ensure};
use bao_tree::{ChunkRanges, io::mixed::EncodedItem};
use blob_fs::{Durability, FsStore, Options};
use blob_traits::{BlobFormat, Progress, prelude::*};
use blob_validate::{ValidateExt, ValidateOptions};
use clap::ValueEnum;
use futures_lite::StreamExt;
use iroh_blobs_035::{
    BlobFormat as SeedFormat,
    store::{Store as _, ValidateProgress, fs::Store as SeedStore},
    util::progress::{AsyncChannelProgressSender, ProgressSender as _},
};

use super::Figures;
use crate::{contender::BlobStore, peer::PeerStore, workload::Workload};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Validator {
    /// The same bytes in one file, each blob hashed, on all cores; the large one as `b3sum` does it
    Hash,
    /// blob-validate over blob-fs
    Ours,
    /// The validation of iroh-blobs 0.35
    Seed,
    /// iroh-blobs 0.104 has none: an export of each blob that checks it
    Peer,
}

/// So much is read in one go.
const WINDOW: u64 = 1 << 20;

impl Validator {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(super) fn fill(self, dir: &Path, workload: Workload) -> Result<()> {
        match self {
            Self::Hash => fill_file(dir, workload),
            Self::Ours => block_on(async {
                let mut options = Options::new(dir);
                options.durability = Durability::Relaxed;
                let store = FsStore::open(options).await?;
                for index in 0..workload.count.get() {
                    let name = format!("{index}").into();
                    let pinned = store.import_bytes(workload.blob(index), BlobFormat::Raw).await?;
                    store.set_tag(name, Some(pinned.hash_and_format())).await?;
                }
                Ok(store.shutdown().await?)
            }),
            Self::Seed => block_on(async {
                let store = SeedStore::load(dir).await.map_err(|e| anyhow!("{e:#}"))?;
                for index in 0..workload.count.get() {
                    store.import_bytes(workload.blob(index), SeedFormat::Raw).await?;
                }
                store.sync().await?;
                store.shutdown().await;
                Ok(())
            }),
            Self::Peer => block_on(async {
                let store = PeerStore::open(dir, ()).await?;
                for index in 0..workload.count.get() {
                    store.import(workload.blob(index)).await?;
                }
                store.sync().await?;
                store.shutdown().await
            }),
        }
    }

    pub(super) fn validate(self, dir: &Path, workload: Workload) -> Result<Figures> {
        match self {
            Self::Hash => hash_file(dir, workload),
            Self::Ours => block_on(async {
                let store = FsStore::open(Options::new(dir)).await?;
                let begun = Instant::now();
                let report = store.validate(ValidateOptions::default(), Progress::none()).await?;
                let seconds = begun.elapsed().as_secs_f64();
                ensure!(report.is_clean() && report.n_complete == workload.count.get(), "{report:?}");
                store.shutdown().await?;
                Ok(Figures { seconds, n_bytes: report.n_bytes })
            }),
            Self::Seed => block_on(validate_seed(dir)),
            Self::Peer => block_on(validate_peer(dir)),
        }
    }
}

fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn fill_file(dir: &Path, workload: Workload) -> Result<()> {
    let mut file = std::io::BufWriter::new(File::create(dir.join("blobs"))?);
    for index in 0..workload.count.get() {
        file.write_all(&workload.blob(index))?;
    }
    Ok(file.into_inner()?.sync_all()?)
}

fn hash_file(dir: &Path, workload: Workload) -> Result<Figures> {
    let (path, size) = (dir.join("blobs"), workload.size.get() as u64);
    let begun = Instant::now();
    if size > WINDOW {
        let mut hasher = blake3::Hasher::new();
        hasher.update_mmap_rayon(&path)?;
        std::hint::black_box(hasher.finalize());
    } else {
        let file = File::open(&path)?;
        let at_once = (WINDOW / size).max(1);
        let next = AtomicU64::new(0);
        let n_threads = std::thread::available_parallelism()?.get();
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                let mut bytes = vec![0; usize::try_from(at_once * size)?];
                loop {
                    let first = next.fetch_add(at_once, Ordering::Relaxed);
                    let count = workload.count.get().saturating_sub(first).min(at_once);
                    if count == 0 {
                        return Ok(());
                    }
                    let bytes = bytes.get_mut(..usize::try_from(count * size)?).unwrap_or_default();
                    file.read_exact_at(bytes, first * size)?;
                    for blob in bytes.chunks(workload.size.get()) {
                        std::hint::black_box(blake3::hash(blob));
                    }
                }
            };
            let threads: Vec<_> = (0..n_threads).map(|_| scope.spawn(work)).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
    }
    Ok(Figures { seconds: begun.elapsed().as_secs_f64(), n_bytes: workload.total_bytes() })
}

async fn validate_seed(dir: &Path) -> Result<Figures> {
    let store = SeedStore::load(dir).await.map_err(|e| anyhow!("{e:#}"))?;
    let (sender, receiver) = async_channel::bounded(128);
    let begun = Instant::now();
    let counting = tokio::spawn(async move {
        let (mut n_bytes, mut n_damaged) = (0, 0);
        while let Ok(event) = receiver.recv().await {
            match event {
                ValidateProgress::Entry { size, .. } => n_bytes += size,
                ValidateProgress::EntryDone { error: Some(_), .. } => n_damaged += 1,
                _ => {}
            }
        }
        (n_bytes, n_damaged)
    });
    store.validate(false, AsyncChannelProgressSender::new(sender).boxed()).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let (n_bytes, n_damaged) = counting.await?;
    ensure!(n_damaged == 0, "{n_damaged} damaged");
    store.shutdown().await;
    Ok(Figures { seconds, n_bytes })
}

/// As many exports at a time as there are cores, which is what it takes to use them.
async fn validate_peer(dir: &Path) -> Result<Figures> {
    let store = PeerStore::open(dir, ()).await?;
    let hashes = store.0.blobs().list().hashes().await?;
    let n_tasks = std::thread::available_parallelism()?.get();
    let begun = Instant::now();
    let tasks: Vec<_> = (0..n_tasks)
        .map(|first| {
            let (store, hashes) = (store.clone(), hashes.clone());
            tokio::spawn(async move {
                let mut n_bytes = 0;
                for hash in hashes.iter().skip(first).step_by(n_tasks) {
                    let mut items = store.0.blobs().export_bao(*hash, ChunkRanges::all()).stream();
                    while let Some(item) = items.next().await {
                        match item {
                            EncodedItem::Leaf(leaf) => n_bytes += leaf.data.len() as u64,
                            EncodedItem::Error(e) => bail!("{hash}: {e}"),
                            EncodedItem::Size(_) | EncodedItem::Parent(_) | EncodedItem::Done => {}
                        }
                    }
                }
                anyhow::Ok(n_bytes)
            })
        })
        .collect();
    let mut n_bytes = 0;
    for task in tasks {
        n_bytes += task.await??;
    }
    let seconds = begun.elapsed().as_secs_f64();
    store.shutdown().await?;
    Ok(Figures { seconds, n_bytes })
}
