//! `blob tag`: names that keep blobs.

use blob_fs::FsStore;
use blob_traits::{BlobFormat, EntryStatus, Error, HashAndFormat, Tag, TagRange, prelude::*};
use futures_lite::StreamExt;
use serde_json::{Value, json};

use crate::{
    args::{TagFormat, TagVerb},
    exit::{Exit, Failure},
    open::{Access, detect, resolve},
    output::insert_tag,
    rm::{Tally, remove_tag},
    run::Context,
    target::Name,
};

const TAGS: &str = "tags";

/// Does what the verb says.
pub(crate) async fn run(context: &Context, verb: TagVerb) -> Result<Exit, Failure> {
    match verb {
        TagVerb::Set { tag, name, format } => set(context, tag, &name, format).await,
        TagVerb::Ls { prefix } => {
            let prefix = prefix.as_ref().map(|prefix| Tag::from(prefix.as_encoded_bytes()));
            list(context, prefix.map_or(TagRange::all(), TagRange::prefix)).await
        }
        TagVerb::Rm { tags } => remove(context, &tags).await,
        TagVerb::Mv { from, to, force } => rename(context, from, to, force).await,
    }
}

async fn set(context: &Context, tag: Tag, name: &Name, format: Option<TagFormat>) -> Result<Exit, Failure> {
    let store = context.open(Access::Create).await?;
    let resolved = resolve(&store, name).await?;
    let format = match (format, resolved.format) {
        (Some(TagFormat::Raw), _) => BlobFormat::Raw,
        (Some(TagFormat::HashSeq), _) => BlobFormat::HashSeq,
        (None, Some(format)) => format,
        (None, None) => detect(&store, resolved.hash).await?.format,
    };
    let kept = HashAndFormat::new(resolved.hash, format);
    if store.entry_status(&kept.hash).await? == EntryStatus::NotFound {
        context.output.warning(&format!("blob {} is not in the store yet", kept.hash));
    }
    store.set_tag(tag.clone(), Some(kept)).await?;
    context.output.item(line(&tag, kept), &fields(&tag, kept))?;
    Ok(Exit::Ok)
}

async fn list(context: &Context, range: TagRange) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let mut tags = store.tags(range).await?;
    while let Some(tag) = tags.next().await {
        let (tag, kept) = tag?;
        context.output.element(TAGS, line(&tag, kept), &fields(&tag, kept))?;
    }
    context.output.end_listing(TAGS)?;
    Ok(Exit::Ok)
}

async fn remove(context: &Context, tags: &[Tag]) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let mut tally = Tally::default();
    for tag in tags {
        let removed = match store.get_tag(tag).await? {
            Some(_) => remove_tag(context, &store, tag.clone()).await,
            None => Err(Error::TagNotFound { tag: tag.clone() }.into()),
        };
        tally.count(context, removed)?;
    }
    Ok(tally.exit())
}

async fn rename(context: &Context, from: Tag, to: Tag, force: bool) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let Some(kept) = store.get_tag(&from).await? else {
        return Err(Error::TagNotFound { tag: from }.into());
    };
    if !force && from != to && store.get_tag(&to).await?.is_some() {
        return Err(Failure::TagExists { tag: to });
    }
    store.rename_tag(from, to.clone()).await?;
    context.output.item(line(&to, kept), &fields(&to, kept))?;
    Ok(Exit::Ok)
}

/// A tag, behind what it keeps.
pub(crate) fn line(tag: &Tag, kept: HashAndFormat) -> String {
    format!("{}  {:8}  {tag}", kept.hash, format_name(kept.format))
}

/// The same for JSON.
pub(crate) fn fields(tag: &Tag, kept: HashAndFormat) -> Value {
    let mut fields = json!({ "hash": kept.hash.to_string(), "format": format_name(kept.format) });
    insert_tag(&mut fields, tag);
    fields
}

/// The name of a format on the command line and in JSON.
pub(crate) fn format_name(format: BlobFormat) -> &'static str {
    match format {
        BlobFormat::Raw => "raw",
        BlobFormat::HashSeq => "hash-seq",
    }
}

/// Points a tag to something that is there, a new one where none is given.
pub(crate) async fn point(store: &FsStore, tag: Option<Tag>, kept: HashAndFormat) -> Result<Tag, Failure> {
    match tag {
        Some(tag) => {
            store.set_tag(tag.clone(), Some(kept)).await?;
            Ok(tag)
        }
        None => Ok(store.create_tag(kept).await?),
    }
}
