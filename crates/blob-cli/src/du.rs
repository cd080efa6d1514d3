//! `blob du`: how much there is.

mod directory;

use blob_fs::FsStore;
use blob_gc::{Extent, exclusive, extent};
use blob_traits::{Error, Hash, HashAndFormat, MapEntry, blocking::unblock, prelude::*};
use futures_lite::StreamExt;
use serde_json::{Value, json};

use crate::{
    args::DuArgs,
    exit::{Exit, Failure},
    open::{Access, Resolved, detect, resolve},
    output::{insert_tag, shown_bytes},
    progress::Total,
    run::Context,
    stat::in_bytes,
    tag::format_name,
    target::Name,
};

use directory::OnDisk;

const NAMES: &str = "names";

/// Measures the store, or what is named.
pub(crate) async fn run(context: &Context, args: DuArgs) -> Result<Exit, Failure> {
    if args.exclusive && args.names.iter().any(|name| matches!(name, Name::Hash(..))) {
        let message = "--exclusive is about tags, and a hash is given".to_owned();
        return Err(Failure::Usage { message, hint: "`blob tag ls` lists the tags" });
    }
    let store = context.open(Access::Existing).await?;
    if args.names.is_empty() {
        measure_store(context, &store).await?;
        return Ok(Exit::Ok);
    }
    for name in &args.names {
        let resolved = resolve(&store, name).await?;
        let root = match resolved.format {
            Some(format) => HashAndFormat::new(resolved.hash, format),
            None => detect(&store, resolved.hash).await?,
        };
        let extent = measure(&store, &resolved, root, args.exclusive).await?;
        context.output.element(NAMES, line(&resolved, &extent), &fields(&resolved, root, &extent))?;
    }
    context.output.end_listing(NAMES)?;
    Ok(Exit::Ok)
}

async fn measure(
    store: &FsStore,
    resolved: &Resolved,
    root: HashAndFormat,
    is_exclusive: bool,
) -> Result<Extent, Failure> {
    match &resolved.tag {
        Some(tag) if is_exclusive => match exclusive(store, tag.clone()).await? {
            Some(extent) => Ok(extent),
            None => Err(Error::TagNotFound { tag: tag.clone() }.into()),
        },
        Some(_) => Ok(extent(store, root).await?),
        None => {
            store.existing(root.hash).await?;
            Ok(extent(store, root).await?)
        }
    }
}

fn line(resolved: &Resolved, extent: &Extent) -> String {
    let name = resolved.tag.as_ref().map_or_else(|| resolved.hash.to_string(), ToString::to_string);
    let missing = match extent.n_missing {
        0 => String::new(),
        n => format!(" ({n} more are missing)"),
    };
    format!("{:>12}  {:>8} blobs  {name}{missing}", shown_bytes(extent.bytes), extent.blobs.len())
}

fn fields(resolved: &Resolved, root: HashAndFormat, extent: &Extent) -> Value {
    let mut fields = json!({
        "hash": root.hash.to_string(),
        "format": format_name(root.format),
        "blobs": extent.blobs.len(),
        "bytes": extent.bytes,
        "missing": extent.n_missing,
    });
    if let Some(tag) = &resolved.tag {
        insert_tag(&mut fields, tag);
    }
    fields
}

/// Blobs of one kind.
#[derive(Debug, Default)]
struct Tally {
    n_blobs: u64,
    n_bytes: u64,
}

async fn measure_store(context: &Context, store: &FsStore) -> Result<(), Failure> {
    context.meter.begin("count", Total::default(), &context.output);
    let (mut complete, mut partial) = (Tally::default(), Tally::default());
    let mut blobs = store.blobs().await?;
    while let Some(hash) = blobs.next().await {
        complete.count(context, n_bytes(store, hash?).await?);
    }
    let mut blobs = store.partial_blobs().await?;
    while let Some(hash) = blobs.next().await {
        partial.count(context, n_bytes(store, hash?).await?);
    }
    let dir = context.directory()?;
    let on_disk = unblock(move || OnDisk::of(&dir)).await?;
    context.meter.end(&context.output);
    let lines = format!(
        "{}\n{}\n{}",
        complete.line("complete"),
        partial.line("partial"),
        on_disk.lines(|name, n_bytes| format!("{name:14}        {:>12}", shown_bytes(n_bytes))),
    );
    let fields =
        json!({ "complete": complete.fields(), "partial": partial.fields(), "disk": on_disk.fields() });
    context.output.document(lines, &fields)
}

impl Tally {
    fn count(&mut self, context: &Context, n_bytes: u64) {
        self.n_blobs += 1;
        self.n_bytes = self.n_bytes.saturating_add(n_bytes);
        context.meter.advance(1, n_bytes);
    }

    fn line(&self, name: &str) -> String {
        format!("{name:8}  {:>6} blobs  {:>10}", self.n_blobs, shown_bytes(self.n_bytes))
    }

    fn fields(&self) -> Value {
        json!({ "blobs": self.n_blobs, "bytes": self.n_bytes })
    }
}

/// How much of a blob is there. What was removed since it was listed is nothing.
async fn n_bytes(store: &FsStore, hash: Hash) -> Result<u64, Failure> {
    let Some(entry) = store.get(&hash).await? else { return Ok(0) };
    let size = entry.size().value();
    if entry.is_complete() {
        return Ok(size);
    }
    let present = store.present_ranges(&hash).await?.unwrap_or_default();
    Ok(in_bytes(&present, size).iter().map(|(start, end)| end - start).sum())
}
