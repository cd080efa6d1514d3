//! The two collectors.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use blob_fs::{CompactOptions, Durability};
use blob_gc::{Event, GcMarkEvent, GcOptions};
use blob_traits::{BlobFormat, HashAndFormat, Progress, prelude::*};
use bytes::Bytes;
use iroh_blobs::store::{GcConfig, ProtectOutcome, fs as peer};
use tokio::sync::mpsc;

use super::{Set, figures::Figures, meter::Meter};
use crate::{contender::BlobStore, disk, ours::OurStore, peer::PeerStore};

/// The peer waits so long between rounds, and has no other way to say that one has ended.
const INTERVAL: Duration = Duration::from_secs(1);

/// A store whose collection can be measured.
pub(super) trait Collecting: BlobStore {
    const DEFAULTS: Self::Options;

    fn hash_bytes(hash: &Self::Hash) -> [u8; 32];
    /// Imports a hash sequence and sets a tag that keeps what it lists.
    async fn keep(&self, sequence: Vec<u8>) -> Result<()>;
    /// Opens a store that was filled, and measures a round.
    async fn collect(dir: &Path, set: Set) -> Result<Figures>;
}

impl Collecting for OurStore {
    const DEFAULTS: Durability = Durability::Immediate;

    fn hash_bytes(hash: &Self::Hash) -> [u8; 32] {
        *hash.as_bytes()
    }

    async fn keep(&self, sequence: Vec<u8>) -> Result<()> {
        let pinned = self.0.import_bytes(sequence.into(), BlobFormat::HashSeq).await?;
        self.0.create_tag(HashAndFormat::hash_seq(pinned.hash())).await?;
        Ok(())
    }

    async fn collect(dir: &Path, set: Set) -> Result<Figures> {
        let store = Self::open(dir, Self::DEFAULTS).await?.0;
        let mut figures = Figures::default();
        let meter = Arc::new(Meter::begin()?);
        let marked = Arc::new(OnceLock::new());
        let progress = {
            let (meter, marked) = (meter.clone(), marked.clone());
            Progress::from_fn(move |event| {
                if let Event::Mark(GcMarkEvent::Marked { .. }) = event {
                    marked.get_or_init(|| meter.peak_bytes());
                }
                Ok(())
            })
        };
        let report = blob_gc::collect(&store, GcOptions::default(), progress).await?;
        figures.round_s = meter.seconds();
        figures.peak_bytes = meter.peak_bytes()?;
        figures.written_bytes = meter.written_bytes()?;
        if let Some(Ok(bytes)) = marked.get() {
            figures.marked_bytes = *bytes;
        }
        figures.after_bytes = disk::usage(dir)?.allocated;
        let garbage = set.workload.count.get() - set.n_kept();
        ensure!(report.swept.n_complete == garbage, "{} of {garbage} were deleted", report.swept.n_complete);
        let n_left = blob_traits::collect(store.blobs().await?).await?.len() as u64;
        check_left(n_left, set)?;

        let meter = Meter::begin()?;
        store.compact(CompactOptions::default()).await?;
        figures.compact_s = meter.seconds();
        figures.compact_peak_bytes = meter.peak_bytes()?;
        figures.compact_written_bytes = meter.written_bytes()?;
        store.shutdown().await?;
        figures.compacted_bytes = disk::usage(dir)?.allocated;
        Ok(figures)
    }
}

impl Collecting for PeerStore {
    const DEFAULTS: () = ();

    fn hash_bytes(hash: &Self::Hash) -> [u8; 32] {
        *hash.as_bytes()
    }

    async fn keep(&self, sequence: Vec<u8>) -> Result<()> {
        let pinned = self.0.blobs().add_bytes(Bytes::from(sequence)).temp_tag().await?;
        self.0.tags().create(iroh_blobs::HashAndFormat::hash_seq(pinned.hash())).await?;
        Ok(())
    }

    async fn collect(dir: &Path, set: Set) -> Result<Figures> {
        let mut figures = Figures::default();
        // It asks what else to protect when a round begins: one interval after opening, and after the round before.
        let (asked, mut rounds) = mpsc::unbounded_channel();
        let mut options = peer::options::Options::new(dir);
        let add_protected: iroh_blobs::store::ProtectCb = Arc::new(move |_| {
            let _ = asked.send(());
            Box::pin(async { ProtectOutcome::Continue })
        });
        options.gc = Some(GcConfig { interval: INTERVAL, add_protected: Some(add_protected) });
        let opened = peer::FsStore::load_with_opts(dir.join("blobs.db"), options).await;
        let store = opened.map_err(|error| anyhow!("opening: {error:#}"))?;
        rounds.recv().await.context("no round began")?;
        let meter = Meter::begin()?;
        rounds.recv().await.context("the round failed")?;
        figures.round_s = meter.seconds() - INTERVAL.as_secs_f64();
        figures.peak_bytes = meter.peak_bytes()?;
        figures.written_bytes = meter.written_bytes()?;
        let n_left = store.blobs().list().hashes().await?.len() as u64;
        store.shutdown().await?;
        check_left(n_left, set)?;
        figures.after_bytes = disk::usage(dir)?.allocated;
        Ok(figures)
    }
}

/// Neither may be fast by keeping more or less than it should.
fn check_left(n_left: u64, set: Set) -> Result<()> {
    let expected = set.n_kept() + set.n_sequences();
    ensure!(n_left == expected, "{n_left} blobs are left, {expected} were expected");
    Ok(())
}
