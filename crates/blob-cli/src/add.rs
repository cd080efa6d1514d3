//! `blob add`: files, directories and standard input.

mod source;
mod walk;

use std::sync::Arc;

use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, Collection, Error, HashAndFormat, ImportMode, ImportProgress, ImportSource, Progress, Tag,
    TempTag, blocking::unblock, prelude::*,
};
use futures_buffered::FuturesUnorderedBounded;
use futures_lite::StreamExt;
use serde_json::json;

use crate::{
    args::AddArgs,
    exit::{Exit, Failure},
    open::Access,
    output::{shown_bytes, shown_path},
    progress::Total,
    run::Context,
    tag,
};

use source::{Content, Source, Wanted, scan};
use walk::Special;

/// How many files are imported at the same time.
const CONCURRENCY: usize = 64;
/// How many entries that are left out are named.
const MAX_NAMED: usize = 20;

/// Adds everything that can be added. What is printed as added is durable.
pub(crate) async fn run(context: Arc<Context>, args: AddArgs) -> Result<Exit, Failure> {
    let n_stdin = args.paths.iter().filter(|path| path.as_os_str() == "-").count();
    if n_stdin > 1 || (args.tag.is_some() && args.paths.len() > 1) {
        let message =
            if n_stdin > 1 { "standard input can be added once" } else { "--tag needs a single PATH" };
        return Err(Failure::Usage { message: message.to_owned(), hint: "run the command once for each" });
    }
    let (mut sources, mut exits) = look_at(&context, &args).await?;
    if sources.is_empty() {
        return Ok(exits.first().copied().unwrap_or(Exit::Ok));
    }
    let store = context.open(Access::Bulk).await?;
    let mode = if args.reference { ImportMode::TryReference } else { ImportMode::Copy };
    let imported = import(&context, &store, &mut sources, mode).await;
    let mut added = Vec::new();
    for (source, files) in sources.iter().zip(imported) {
        let kept = async { keep(&store, source, files?, args.tag.clone()).await };
        match kept.await {
            Ok(one) => added.push(one),
            Err(failure) => {
                context.output.error(&failure);
                exits.push(failure.exit());
            }
        }
    }
    context.meter.begin("sync", Total::default(), &context.output);
    store.sync().await?;
    context.meter.end(&context.output);
    print(&context, &added)?;
    Ok(match exits.first() {
        None => Exit::Ok,
        Some(_) if !added.is_empty() => Exit::Partly,
        Some(exit) => *exit,
    })
}

/// Finds out what is to be added before the store is touched, and reports what cannot be.
async fn look_at(context: &Arc<Context>, args: &AddArgs) -> Result<(Vec<Source>, Vec<Exit>), Failure> {
    let counting = context.clone();
    let wanted = Arc::new(Wanted {
        store: context.directory()?,
        recursive: args.recursive,
        special: if args.skip_special { Special::Skip } else { Special::Refuse },
        on_file: Box::new(move |file| counting.meter.advance(1, file.n_bytes)),
    });
    context.meter.begin("scan", Total::default(), &context.output);
    let mut scanned = Vec::new();
    for path in args.paths.clone() {
        let wanted = wanted.clone();
        scanned.push(unblock(move || Ok(scan(path, &wanted))).await?);
    }
    context.meter.end(&context.output);
    let (mut sources, mut exits) = (Vec::new(), Vec::new());
    for result in scanned {
        match result {
            Ok(source) => {
                warn(context, &source);
                sources.push(source);
            }
            Err(failure) => {
                context.output.error(&failure);
                exits.push(failure.exit());
            }
        }
    }
    Ok((sources, exits))
}

fn warn(context: &Context, source: &Source) {
    for reason in source.skipped.iter().take(MAX_NAMED) {
        context.output.warning(&format!("left out: {}", reason.info().message));
    }
    let n_more = source.skipped.len().saturating_sub(MAX_NAMED);
    if n_more > 0 {
        context.output.warning(&format!("left out: {n_more} more entries"));
    }
    if let Some(reason) = source.not_exportable() {
        context.output.warning(&format!(
            "`blob export` will refuse this collection: {reason}; its files can be read one by one"
        ));
    }
}

/// What came of one source: its files with their names, or the first failure.
type Imported = Result<Vec<(String, TempTag, u64)>, Failure>;

async fn import(
    context: &Context,
    store: &FsStore,
    sources: &mut [Source],
    mode: ImportMode,
) -> Vec<Imported> {
    let sum = |count: fn(&Source) -> u64| sources.iter().map(count).sum();
    let total = Total { n_items: sum(Source::n_files), n_bytes: sum(Source::n_bytes) };
    context.meter.begin("import", total, &context.output);
    let mut imported: Vec<Imported> = sources.iter().map(|_| Ok(Vec::new())).collect();
    let mut jobs = Vec::new();
    for (i, source) in sources.iter_mut().enumerate() {
        jobs.extend(source.take_files().into_iter().map(|(name, input)| (i, name, input)));
    }
    let mut running = FuturesUnorderedBounded::new(CONCURRENCY);
    let mut jobs = jobs.into_iter();
    loop {
        while running.len() < CONCURRENCY
            && let Some((i, name, input)) = jobs.next()
        {
            let wanted = imported.get(i).is_some_and(Result::is_ok);
            if wanted {
                running.push(import_file(store.clone(), i, name, input.open(mode), context.meter.import()));
            }
        }
        let Some((i, name, result)) = running.next().await else { return imported };
        let Some(slot) = imported.get_mut(i) else { continue };
        match (slot.as_mut(), result) {
            (Ok(files), Ok((pinned, size))) => files.push((name, pinned, size)),
            (Ok(_), Err(error)) => *slot = Err(error.into()),
            (Err(_), _) => {}
        }
    }
}

async fn import_file(
    store: FsStore,
    i: usize,
    name: String,
    source: ImportSource,
    progress: Progress<ImportProgress>,
) -> (usize, String, blob_traits::Result<(TempTag, u64)>) {
    (i, name, store.import(source, BlobFormat::Raw.into(), progress).await)
}

/// What was added, and under which name.
struct Added<'a> {
    source: &'a Source,
    content: HashAndFormat,
    tag: Tag,
    n_files: u64,
    n_bytes: u64,
}

/// Tags what was imported; a directory becomes a collection first. Its files are pinned until then.
async fn keep<'a>(
    store: &FsStore,
    source: &'a Source,
    mut files: Vec<(String, TempTag, u64)>,
    tag: Option<Tag>,
) -> Result<Added<'a>, Failure> {
    let (n_files, n_bytes) = (files.len() as u64, files.iter().map(|(_, _, size)| size).sum());
    let collected;
    let pinned = if let Content::Directory(_) = source.content {
        files.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let collection: Collection =
            files.iter().map(|(name, pinned, _)| (name.clone(), pinned.hash())).collect();
        collected = collection.store(store).await?;
        &collected
    } else {
        let [(_, pinned, _)] = &files[..] else { return Err(Error::Cancelled.into()) };
        pinned
    };
    let content = pinned.hash_and_format();
    let tag = tag::point(store, tag, content).await?;
    Ok(Added { source, content, tag, n_files, n_bytes })
}

fn print(context: &Context, added: &[Added<'_>]) -> Result<(), Failure> {
    for one in added {
        let mut fields = json!({
            "path": one.source.path.to_string_lossy(),
            "hash": one.content.hash.to_string(),
            "format": tag::format_name(one.content.format),
            "size": one.n_bytes,
            "files": one.n_files,
        });
        crate::output::insert_tag(&mut fields, &one.tag);
        context.output.count_bytes(one.n_bytes);
        let path = shown_path(&one.source.path);
        context.output.item(format_args!("{}  {}  {path}", one.content.hash, one.tag), &fields)?;
    }
    let (n_files, n_bytes) = added.iter().fold((0, 0), |sum, one| (sum.0 + one.n_files, sum.1 + one.n_bytes));
    context.meter.sum_up(&format!("added {n_files} files, {}", shown_bytes(n_bytes)), &context.output);
    Ok(())
}
