//! `blob validate`: looks for damaged blobs, and repairs them.

mod findings;
mod slice;
mod source;
mod summary;
mod watch;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use blob_fs::FsStore;
use blob_traits::{BlobFormat, Error, Hash, HashAndFormat, Progress, prelude::*};
use blob_validate::{
    RepairExt, RepairOptions, RepairProgress, RepairReport, Subset, ValidateExt, ValidateOptions,
    ValidateReport,
};

pub(crate) use source::From;

use crate::{
    args::{ValidateArgs, Work},
    exit::{Exit, Failure},
    open::{Access, resolve},
    run::Context,
    target::Name,
};
use findings::Findings;
use watch::Watcher;

/// Looks, and mends what it was told to mend.
pub(crate) async fn run(context: Arc<Context>, args: ValidateArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let mut sources = Vec::with_capacity(args.from.len());
    for from in &args.from {
        sources.push(from.open(&context).await?);
    }
    let options = options(&context, &store, &args).await?;
    let watcher = Watcher::new(context.clone(), expected_bytes(&store, &options.subset).await?);
    let begun = Instant::now();
    let done = if args.repair {
        let mut all = RepairOptions::default();
        (all.validate, all.sources) = (options, sources);
        let seen = watcher.clone();
        let progress = Progress::from_fn(move |event| {
            seen.see_repair(event);
            Ok(())
        });
        Done::Repaired(store.repair(all, progress).await?)
    } else {
        let seen = watcher.clone();
        let progress = Progress::from_fn(move |event| {
            seen.see_repair(RepairProgress::Validate(event));
            Ok(())
        });
        Done::Validated(store.validate(options, progress).await?)
    };
    let took = begun.elapsed();
    context.meter.end(&context.output);
    watcher.settle();
    conclude(&context, &store, &done, took).await
}

/// What came of a run.
enum Done {
    Validated(ValidateReport),
    Repaired(RepairReport),
}

impl Done {
    fn found(&self) -> &ValidateReport {
        match self {
            Self::Validated(found) => found,
            Self::Repaired(report) => &report.found,
        }
    }

    /// What became of the damaged blobs.
    fn repaired(&self) -> Option<&RepairReport> {
        match self {
            Self::Validated(_) => None,
            Self::Repaired(report) => Some(report),
        }
    }

    fn is_clean(&self) -> bool {
        match self {
            Self::Validated(found) => found.is_clean(),
            Self::Repaired(report) => report.is_clean(),
        }
    }
}

async fn conclude(context: &Context, store: &FsStore, done: &Done, took: Duration) -> Result<Exit, Failure> {
    let findings = Findings::new(context, store, done).await?;
    findings.list().await?;
    summary::sum_up(context, done, took)?;
    Ok(if done.is_clean() { Exit::Ok } else { Exit::Damage })
}

async fn options(
    context: &Context,
    store: &FsStore,
    args: &ValidateArgs,
) -> Result<ValidateOptions, Failure> {
    let mut options = ValidateOptions::default();
    (options.jobs, options.rate) = (args.jobs, args.rate);
    match args.budget {
        Some(Work::Bytes(n_bytes)) => options.budget.n_bytes = Some(n_bytes),
        Some(Work::Time(time)) => options.budget.time = Some(time),
        None => {}
    }
    let tags = args.tags.iter().cloned().map(Name::Tag);
    let names: Vec<_> = args.names.iter().cloned().chain(tags).collect();
    options.subset = match (args.sample, names.is_empty()) {
        (Some(one_in), _) => Subset::Sample { one_in, seed: args.seed },
        (None, true) => Subset::All,
        (None, false) => Subset::Roots(roots(context, store, &names).await?),
    };
    Ok(options)
}

/// What was named. A blob that is not there is an error by its hash, and a warning by a tag.
async fn roots(context: &Context, store: &FsStore, names: &[Name]) -> Result<Vec<HashAndFormat>, Failure> {
    let mut roots = Vec::with_capacity(names.len());
    for name in names {
        let resolved = resolve(store, name).await?;
        let hash = resolved.hash;
        match (store.get(&hash).await?, resolved.tag) {
            (Some(_), _) => {}
            (None, None) => return Err(Error::NotFound { hash }.into()),
            (None, Some(tag)) => {
                context
                    .output
                    .warning(&format!("tag \"{tag}\" names blob {hash}, which is not in the store"));
            }
        }
        roots.push(HashAndFormat::new(hash, resolved.format.unwrap_or(BlobFormat::Raw)));
    }
    Ok(roots)
}

/// About how many bytes are to be looked at, where that can be told without looking at each blob.
async fn expected_bytes(store: &FsStore, subset: &Subset) -> Result<u64, Failure> {
    let Subset::All = subset else { return Ok(0) };
    let space = store.space().await?;
    Ok(space.live_log_bytes.saturating_add(space.file_bytes))
}

/// The blobs that there is something to say about.
fn hashes(done: &Done) -> BTreeSet<Hash> {
    let found = done.found();
    let damaged = found.damaged.iter().map(|blob| blob.hash);
    let failed = found.failed.iter().map(|blob| blob.hash);
    damaged.chain(failed).chain(found.demoted.iter().copied()).collect()
}
