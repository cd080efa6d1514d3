//! Collection: a store in which a tenth of the blobs are kept through hash sequences, and one round.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use blob_fs::{CompactOptions, FsStore, Options};
use blob_gc::GcOptions;
use blob_traits::{BlobFormat, HashAndFormat, HashSeq, Progress, prelude::*};
use bytes::Bytes;
use iroh_blobs::store::{GcConfig, ProtectOutcome, fs as peer};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{disk, memory, workload::Workload};

/// So many children has a sequence.
const CHILDREN: usize = 1000;
/// One of so many blobs is kept.
const ONE_OF: u64 = 10;
/// The peer waits so long between rounds, and has no other way to say that one has ended.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to put the stores
    #[arg(long, default_value = ".")]
    dir: std::path::PathBuf,
    /// How many blobs of 4 KiB; may be repeated
    #[arg(long, default_values_t = [100_000, 1_000_000])]
    count: Vec<u64>,
    /// How often each contender runs; the medians are shown
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave the peer out
    #[arg(long)]
    ours_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Collector {
    Ours,
    Peer,
}

/// What a round took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Figures {
    round_s: f64,
    /// Peak memory above what the process had before the round, in bytes.
    peak_bytes: u64,
    /// Bytes handed to the system to be written during the round.
    written_bytes: u64,
    before_bytes: u64,
    after_bytes: u64,
    /// What giving the space back took afterwards, and left; zero where there is no such step.
    compact_s: f64,
    compacted_bytes: u64,
}

/// Runs everything and prints a table.
pub(crate) fn compare(args: &Args) -> Result<()> {
    let head =
        ["blobs", "", "round s", "x peer", "B/live", "written", "disk", "after", "compact s", "compacted"];
    println!("{}", row(&head.map(str::to_owned)));
    for &count in &args.count {
        let contenders: &[_] =
            if args.ours_only { &[Collector::Ours] } else { &[Collector::Ours, Collector::Peer] };
        let mut all = vec![Vec::new(); contenders.len()];
        for _ in 0..args.rounds.max(1) {
            for (contender, figures) in contenders.iter().zip(&mut all) {
                figures.push(in_child(*contender, &args.dir, count)?);
            }
        }
        let medians: Vec<_> = all.into_iter().map(median).collect();
        let peer_s = medians.get(1).map(|peer| peer.round_s);
        for (contender, figures) in contenders.iter().zip(&medians) {
            println!("{}", row(&cells(count, *contender, figures, peer_s)));
        }
    }
    Ok(())
}

fn cells(count: u64, contender: Collector, figures: &Figures, peer_s: Option<f64>) -> [String; 10] {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let is_ours = contender == Collector::Ours;
    let speedup = peer_s.filter(|_| is_ours).map(|peer_s| format!("{:.1}", peer_s / figures.round_s));
    [
        count.to_string(),
        if is_ours { "blob-gc" } else { "iroh-blobs 0.104" }.to_owned(),
        format!("{:.3}", figures.round_s),
        speedup.unwrap_or_default(),
        (figures.peak_bytes / (count / ONE_OF).max(1)).to_string(),
        mib(figures.written_bytes),
        mib(figures.before_bytes),
        mib(figures.after_bytes),
        if is_ours { format!("{:.2}", figures.compact_s) } else { String::new() },
        if is_ours { mib(figures.compacted_bytes) } else { String::new() },
    ]
}

fn row(cells: &[String]) -> String {
    let widths = [8, 17, 8, 7, 7, 9, 9, 9, 10, 10];
    let cells: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
    cells.join(" ")
}

fn median(mut rounds: Vec<Figures>) -> Figures {
    rounds.sort_by(|a, b| a.round_s.total_cmp(&b.round_s));
    rounds.get(rounds.len() / 2).copied().unwrap_or_default()
}

fn in_child(contender: Collector, dir: &Path, count: u64) -> Result<Figures> {
    let store = tempfile::Builder::new().prefix("blob-peers-").tempdir_in(dir)?;
    rustix::fs::sync();
    let name = if contender == Collector::Ours { "ours" } else { "peer" };
    let output = Command::new(std::env::current_exe()?)
        .args(["collect-one", name])
        .arg(store.path())
        .args(["--count", &count.to_string()])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{name} failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("reading a run's figures")
}

/// One run, in this process.
pub(crate) fn run(contender: Collector, dir: &Path, workload: Workload) -> Result<Figures> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match contender {
            Collector::Ours => ours(dir, workload).await,
            Collector::Peer => peer(dir, workload).await,
        }
    })
}

/// What the system has counted before something is measured.
struct Meter {
    begun: Instant,
    written: u64,
    resident: u64,
}

impl Meter {
    fn begin() -> Result<Self> {
        // Since Linux 4.0 this resets the peak of resident memory to what is resident now.
        std::fs::write("/proc/self/clear_refs", "5").context("resetting the peak of memory")?;
        let (written, resident) = (written_bytes()?, memory::peak_bytes()?);
        Ok(Self { begun: Instant::now(), written, resident })
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn read(&self, figures: &mut Figures) -> Result<()> {
        figures.peak_bytes = memory::peak_bytes()?.saturating_sub(self.resident);
        figures.written_bytes = written_bytes()? - self.written;
        Ok(())
    }
}

fn written_bytes() -> Result<u64> {
    let io = std::fs::read_to_string("/proc/self/io").context("reading /proc/self/io")?;
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).context("no wchar")?;
    Ok(line.trim().parse()?)
}

async fn ours(dir: &Path, workload: Workload) -> Result<Figures> {
    let store = FsStore::open(Options::new(dir)).await?;
    let mut importing = JoinSet::new();
    for lane in 0..workload.in_flight.get() as u64 {
        let store = store.clone();
        importing.spawn(async move {
            let mut kept = Vec::new();
            for index in (lane..workload.count.get()).step_by(workload.in_flight.get()) {
                let pinned = store.import_bytes(workload.blob(index), BlobFormat::Raw).await?;
                if index.is_multiple_of(ONE_OF) {
                    kept.push(pinned.hash());
                }
            }
            anyhow::Ok(kept)
        });
    }
    let mut kept = Vec::new();
    while let Some(done) = importing.join_next().await {
        kept.extend(done??);
    }
    for children in kept.chunks(CHILDREN) {
        let sequence: HashSeq = children.iter().copied().collect();
        let pinned = store.import_bytes(sequence.into_inner(), BlobFormat::HashSeq).await?;
        store.create_tag(HashAndFormat::hash_seq(pinned.hash())).await?;
    }
    store.sync().await?;
    let mut figures = Figures { before_bytes: disk::usage(dir)?.allocated, ..Figures::default() };
    let meter = Meter::begin()?;
    let report = blob_gc::collect(&store, GcOptions::default(), Progress::none()).await?;
    figures.round_s = meter.seconds();
    meter.read(&mut figures)?;
    let garbage = workload.count.get() - kept.len() as u64;
    ensure!(report.swept.n_complete == garbage, "{} of {garbage} were deleted", report.swept.n_complete);
    figures.after_bytes = disk::usage(dir)?.allocated;
    let begun = Instant::now();
    store.compact(CompactOptions::default()).await?;
    figures.compact_s = begun.elapsed().as_secs_f64();
    figures.compacted_bytes = disk::usage(dir)?.allocated;
    store.shutdown().await?;
    Ok(figures)
}

async fn peer(dir: &Path, workload: Workload) -> Result<Figures> {
    let failed = |error| anyhow!("{error:#}");
    let store = peer::FsStore::load(dir).await.map_err(failed)?;
    let mut importing = JoinSet::new();
    for lane in 0..workload.in_flight.get() as u64 {
        let store = store.clone();
        importing.spawn(async move {
            let mut kept = Vec::new();
            for index in (lane..workload.count.get()).step_by(workload.in_flight.get()) {
                let pinned = store.blobs().add_bytes(workload.blob(index)).temp_tag().await?;
                if index.is_multiple_of(ONE_OF) {
                    kept.push(pinned.hash());
                }
            }
            anyhow::Ok(kept)
        });
    }
    let mut kept = Vec::new();
    while let Some(done) = importing.join_next().await {
        kept.extend(done??);
    }
    for children in kept.chunks(CHILDREN) {
        let sequence: iroh_blobs::hashseq::HashSeq = children.iter().copied().collect();
        let pinned = store.blobs().add_bytes(Bytes::from(sequence)).temp_tag().await?;
        store.tags().create(iroh_blobs::HashAndFormat::hash_seq(pinned.hash())).await?;
    }
    store.shutdown().await?;
    let mut figures = Figures { before_bytes: disk::usage(dir)?.allocated, ..Figures::default() };

    // It is asked what else to protect at the beginning of each round, one interval after the end of the one before.
    let (asked, mut rounds) = mpsc::unbounded_channel();
    let mut options = peer::options::Options::new(dir);
    let add_protected: iroh_blobs::store::ProtectCb = Arc::new(move |_| {
        let _ = asked.send(());
        Box::pin(async { ProtectOutcome::Continue })
    });
    options.gc = Some(GcConfig { interval: INTERVAL, add_protected: Some(add_protected) });
    let store = peer::FsStore::load_with_opts(dir.join("blobs.db"), options).await.map_err(failed)?;
    rounds.recv().await.context("no round began")?;
    let meter = Meter::begin()?;
    rounds.recv().await.context("no second round began")?;
    figures.round_s = meter.seconds() - INTERVAL.as_secs_f64();
    meter.read(&mut figures)?;
    let n_left = store.blobs().list().hashes().await?.len() as u64;
    let expected = kept.len() as u64 + kept.len().div_ceil(CHILDREN) as u64;
    ensure!(n_left <= expected + 1, "{n_left} are left, {expected} were expected");
    store.shutdown().await?;
    figures.after_bytes = disk::usage(dir)?.allocated;
    Ok(figures)
}
