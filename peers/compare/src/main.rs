//! Compares blob-fs with the file store of iroh-blobs, and both with what the hardware can do.
//!
//! Every run is a process of its own, so that its peak memory is its own; rounds are interleaved, so that a
//! slow minute of the machine meets every contender.

mod collect;
mod contender;
mod disk;
mod memory;
mod ours;
mod peer;
mod report;
mod rounds;
mod run;
mod validate;
mod workload;

use std::{num::NonZeroUsize, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{contender::Contender, workload::Workload};

/// Imports many small blobs into each store and prints what it took.
#[derive(Debug, Parser)]
#[command(name = "blob-peers", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    args: Args,
    #[command(subcommand)]
    task: Option<Task>,
}

#[derive(Debug, clap::Args)]
struct Args {
    /// Where to put the stores; may be repeated, for example once on tmpfs and once on a disk
    #[arg(long, default_value = ".")]
    dir: Vec<PathBuf>,
    /// How often each contender runs; the medians are shown
    #[arg(long, default_value = "3")]
    rounds: NonZeroUsize,
    /// Run these only; may be repeated
    #[arg(long)]
    only: Vec<Contender>,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    workload: Workload,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measures a round of collection instead, beside that of iroh-blobs
    Collect(collect::Args),
    /// One step of such a run, in a process of its own; prints what it found as JSON
    #[command(hide = true)]
    CollectOne {
        contender: collect::Collector,
        step: collect::Step,
        dir: PathBuf,
        #[command(flatten)]
        set: collect::Set,
    },
    /// Measures validation instead, beside plain hashing and iroh-blobs
    Validate(validate::Args),
    /// One step of that, in a process of its own
    #[command(hide = true)]
    ValidateOne {
        contender: validate::Validator,
        step: validate::Step,
        dir: PathBuf,
        #[command(flatten)]
        workload: Workload,
    },
    /// One run, in a process of its own; prints its figures as JSON
    #[command(hide = true)]
    RunOne {
        contender: Contender,
        dir: PathBuf,
        #[command(flatten)]
        workload: Workload,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.task {
        None => {}
        Some(Task::Collect(args)) => return collect::compare(&args),
        Some(Task::CollectOne { contender, step, dir, set }) => {
            println!("{}", collect::run(contender, step, &dir, set)?);
            return Ok(());
        }
        Some(Task::Validate(args)) => return validate::compare(&args),
        Some(Task::ValidateOne { contender, step, dir, workload }) => {
            let figures = validate::run(contender, step, &dir, workload)?;
            println!("{}", serde_json::to_string(&figures)?);
            return Ok(());
        }
        Some(Task::RunOne { contender, dir, workload }) => {
            let figures = run::run(contender, &dir, workload)?;
            println!("{}", serde_json::to_string(&figures)?);
            return Ok(());
        }
    }
    let args = cli.args;
    let contenders = if args.only.is_empty() { Contender::ALL.to_vec() } else { args.only };
    let mut all = Vec::new();
    for dir in &args.dir {
        all.extend(rounds::run(dir, &contenders, args.rounds, args.workload)?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report::document(args.workload, &all))?);
    } else {
        print!("{}", report::table(args.workload, &all));
    }
    Ok(())
}
