//! `blob ls`: the blobs of the store, or of a collection.

use std::collections::BTreeMap;

use blob_fs::FsStore;
use blob_gc::{Event, GcMode, GcOptions, GcSweepEvent, NoRoots};
use blob_traits::{Collection, EntryStatus, Hash, MapEntry, Tag, TagRange, prelude::*};
use futures_lite::StreamExt;
use serde_json::{Value, json};

use crate::{
    args::LsArgs,
    exit::{Exit, Failure},
    gc::{Watch, round},
    open::{Access, resolve},
    output::{set, shown},
    run::Context,
    stat::n_lost,
    target::Name,
};

/// The names of the lists in the documents.
const BLOBS: &str = "blobs";
const FILES: &str = "files";

/// Lists.
pub(crate) async fn run(context: &Context, args: LsArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    if let Some(name) = args.name {
        return list_collection(context, &store, &name, args.long).await;
    }
    let tags = if args.long { Some(tags_by_hash(&store).await?) } else { None };
    let lister = Lister { context, store: &store, tags };
    if args.untagged {
        lister.list_untagged().await?;
    } else if args.partial {
        lister.list(store.partial_blobs().await?, EntryStatus::Partial).await?;
    } else {
        lister.list(store.blobs().await?, EntryStatus::Complete).await?;
    }
    context.output.end_listing(BLOBS)?;
    Ok(Exit::Ok)
}

struct Lister<'a> {
    context: &'a Context,
    store: &'a FsStore,
    /// What is shown of tags, if anything.
    tags: Option<BTreeMap<Hash, Vec<Tag>>>,
}

impl Lister<'_> {
    async fn list(
        &self,
        mut hashes: blob_traits::BoxStream<Hash>,
        status: EntryStatus,
    ) -> Result<(), Failure> {
        while let Some(hash) = hashes.next().await {
            self.show(hash?, status).await?;
        }
        Ok(())
    }

    /// What a round of collection would delete: both kinds, in one order.
    async fn list_untagged(&self) -> Result<(), Failure> {
        let mut options = GcOptions::default();
        (options.mode, options.no_roots) = (GcMode::DryRun, NoRoots::DeleteAll);
        round(self.context, self.store, options, self).await.map(drop)
    }

    async fn show(&self, hash: Hash, status: EntryStatus) -> Result<(), Failure> {
        let status = if status == EntryStatus::Complete { "complete" } else { "partial" };
        let mut element = json!({ "hash": hash.to_string(), "status": status });
        let mut line = hash.to_string();
        if let Some(tags) = &self.tags {
            // What has been removed since the listing began is left out.
            let Some(entry) = self.store.get(&hash).await? else { return Ok(()) };
            let size = entry.size();
            let tags = tags.get(&hash).map(Vec::as_slice).unwrap_or_default();
            let printed: Vec<String> = tags.iter().map(Tag::to_string).collect();
            let n_lost = n_lost(self.store, &entry).await?;
            let lost = n_lost.map(|n| format!("  (damaged: {n} bytes missing)")).unwrap_or_default();
            line = format!("{hash}  {status:8}  {:>12}  {}{lost}", size.value(), printed.join(" "));
            set(&mut element, "demoted", n_lost.is_some());
            set(&mut element, "size", size.value());
            set(&mut element, "size_verified", size.is_verified());
            set(&mut element, "tags", tags.iter().map(tag_element).collect::<Vec<_>>());
        }
        self.context.output.element(BLOBS, line.trim_end(), &element)
    }
}

impl Watch for &Lister<'_> {
    async fn see(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Sweep(GcSweepEvent::Garbage { hash, status, .. }) => self.show(hash, status).await,
            _ => Ok(()),
        }
    }
}

/// Lists the files of a collection.
async fn list_collection(
    context: &Context,
    store: &FsStore,
    name: &Name,
    long: bool,
) -> Result<Exit, Failure> {
    let hash = resolve(store, name).await?.hash;
    for (name, child) in Collection::load(hash, store).await? {
        let mut element = json!({ "name": name, "hash": child.to_string() });
        let mut line = format!("{child}  {}", shown(&name));
        if long {
            let entry = store.get(&child).await?;
            let status = match &entry {
                Some(entry) if entry.is_complete() => "complete",
                Some(_) => "partial",
                None => "missing",
            };
            let size = entry.map(|entry| entry.size().value());
            line = format!(
                "{child}  {status:8}  {:>12}  {}",
                size.map_or("?".to_owned(), |n| n.to_string()),
                shown(&name)
            );
            set(&mut element, "status", status);
            set(&mut element, "size", size);
        }
        context.output.element(FILES, line, &element)?;
    }
    context.output.end_listing(FILES)?;
    Ok(Exit::Ok)
}

/// Which tags point to a blob itself.
pub(crate) async fn tags_by_hash(store: &FsStore) -> Result<BTreeMap<Hash, Vec<Tag>>, Failure> {
    let mut by_hash = BTreeMap::<_, Vec<_>>::new();
    let mut tags = store.tags(TagRange::all()).await?;
    while let Some(tag) = tags.next().await {
        let (tag, content) = tag?;
        by_hash.entry(content.hash).or_default().push(tag);
    }
    Ok(by_hash)
}

/// A tag as an object of its own.
pub(crate) fn tag_element(tag: &Tag) -> Value {
    let mut fields = json!({});
    crate::output::insert_tag(&mut fields, tag);
    fields
}
