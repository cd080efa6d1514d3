//! The conformance suite: runs it, and shows what came of it as a matrix.

mod html;
mod matrix;
mod records;

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use records::Records;

use crate::sh::{self, Error, Result};

/// The test targets of our own backends.
const TARGETS: [&str; 3] = ["mem", "fs", "dynamic"];

#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Args {
    /// One configuration of a backend (`fs-inline-none`), or with `--controls` one defect (`TruncatedTail`)
    #[arg(long)]
    backend: Option<String>,
    /// Only cases whose full name has this in it (`tags::`, `prefix`)
    #[arg(long)]
    case: Option<String>,
    /// Starts all generated numbers; the same seed makes the same run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Runs so many times, with this seed and those after it
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// Also runs the cases that take minutes
    #[arg(long)]
    deep: bool,
    /// Holds stores with known defects to the suite instead, and shows which case catches which
    #[arg(long, conflicts_with = "case")]
    controls: bool,
    /// Holds the stores of iroh-blobs 0.35 to the suite instead
    #[arg(long, conflicts_with = "controls")]
    peers: bool,
    /// Prints one document of JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Writes a page that shows everything
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Writes the tables in Markdown
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Writes the manifests anew, where a case was added on purpose
    #[arg(long, conflicts_with_all = ["backend", "case", "controls", "peers"])]
    bless: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut records = Records::default();
    let mut ended = Ok(());
    for seed in args.seed..args.seed.saturating_add(args.seeds.max(1)) {
        let report = report_path()?;
        let mut command = command(args, seed, &report);
        if args.json {
            // Standard output is for the document.
            command.stdout(io::stderr());
        }
        let run = sh::run(&mut command);
        records.read(&report)?;
        ended = ended.and(run);
    }
    show(args, &records)?;
    if records.is_empty() {
        return ended.and(Err(Error::NothingRun));
    }
    let n_failed = records.failed().count();
    match ended {
        // What others do wrong is what was asked for.
        Err(_) if args.peers && n_failed > 0 => Ok(()),
        Err(_) if n_failed > 0 => Err(Error::Trials { n_failed }),
        ended => ended,
    }
}

/// What CI runs: every case on every backend, and on every broken store.
pub(crate) fn everything() -> Result<()> {
    run(&Args { seeds: 1, ..Args::default() })?;
    run(&Args { seeds: 1, controls: true, ..Args::default() })
}

fn command(args: &Args, seed: u64, report: &Path) -> Command {
    let mut command = if args.peers {
        sh::cargo_in_peers("peers/seed/Cargo.toml", ["test", "--locked", "--test", "conformance"])
    } else {
        let mut command = sh::cargo(["test", "--locked", "--no-fail-fast", "--package", "blob-conformance"]);
        let targets: &[&str] = if args.controls { &["controls"] } else { &TARGETS };
        command.args(targets.iter().flat_map(|target| ["--test", target]));
        command
    };
    command.args(["--", "--quiet"]).args(&args.case);
    if args.peers {
        // Its trials mostly wait: for the disk, and for calls that are never answered.
        command.args(["--test-threads", "8"]);
    }
    command.env("BLOB_CONFORMANCE_SEED", seed.to_string()).env("BLOB_CONFORMANCE_REPORT", report);
    let flags = [("BLOB_CONFORMANCE_DEEP", args.deep), ("BLOB_CONFORMANCE_BLESS", args.bless)];
    command.envs(flags.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| (name, "1")));
    sh::on_tmpfs(&mut command);
    command.envs(args.backend.iter().map(|backend| ("BLOB_CONFORMANCE_BACKEND", backend)));
    command
}

/// An empty place for a report.
fn report_path() -> Result<PathBuf> {
    let dir = sh::target_dir().join("conformance");
    let path = dir.join("report.jsonl");
    fs::create_dir_all(&dir).map_err(|source| Error::Write { path: dir, source })?;
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::Write { path, source }),
        _ => Ok(path),
    }
}

fn show(args: &Args, records: &Records) -> Result<()> {
    if args.json {
        println!("{}", records.to_json());
    } else {
        print!("\n{}", matrix::text(records));
    }
    let files = [
        (&args.html, html::page as fn(&Records) -> String),
        (&args.markdown, matrix::markdown as fn(&Records) -> String),
    ];
    for (path, make) in files {
        if let Some(path) = path {
            let written = fs::write(path, make(records));
            written.map_err(|source| Error::Write { path: path.clone(), source })?;
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(())
}
