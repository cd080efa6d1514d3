//! `blob rm`: tags, and blobs by force.

use blob_fs::FsStore;
use blob_gc::{Root, why};
use blob_traits::{EntryStatus, Error, Hash, Tag, prelude::*};
use serde_json::json;

use crate::{
    args::RmArgs,
    exit::{Exit, Failure},
    open::{Access, resolve},
    output::insert_tag,
    run::Context,
    target::Name,
};

/// Removes each; one that cannot be removed does not keep the others.
pub(crate) async fn run(context: &Context, args: RmArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let mut tally = Tally::default();
    for name in &args.names {
        tally.count(context, remove(context, &store, name, args.force).await)?;
    }
    Ok(tally.exit())
}

async fn remove(context: &Context, store: &FsStore, name: &Name, force: bool) -> Result<(), Failure> {
    let Name::Hash(hash, _) = *name else {
        let resolved = resolve(store, name).await?;
        return match resolved.tag {
            Some(tag) => remove_tag(context, store, tag).await,
            None => Ok(()),
        };
    };
    if store.entry_status(&hash).await? == EntryStatus::NotFound {
        return Err(Error::NotFound { hash }.into());
    }
    if !force && let Some(tag) = tag_that_keeps(store, hash).await? {
        return Err(Failure::Kept { hash, tag });
    }
    store.delete(vec![hash]).await?;
    let fields = json!({ "removed": "blob", "hash": hash.to_string() });
    context.output.item(format_args!("removed blob {hash}"), &fields)
}

/// Finds a tag that keeps a blob.
async fn tag_that_keeps(store: &FsStore, hash: Hash) -> Result<Option<Tag>, Failure> {
    let reasons = why(store, hash).await?;
    Ok(reasons.into_iter().find_map(|reason| match reason.root {
        Root::Tag(tag) => Some(tag),
        Root::TempTag => None,
    }))
}

/// Removes a tag that was there.
pub(crate) async fn remove_tag(context: &Context, store: &FsStore, tag: Tag) -> Result<(), Failure> {
    store.set_tag(tag.clone(), None).await?;
    let mut fields = json!({ "removed": "tag" });
    insert_tag(&mut fields, &tag);
    context.output.item(format_args!("removed tag {tag}"), &fields)
}

/// Goes on past failures, and tells at the end what came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    n_done: u64,
    first: Option<Exit>,
}

impl Tally {
    /// Counts one result; a failure to print ends everything.
    pub(crate) fn count(&mut self, context: &Context, result: Result<(), Failure>) -> Result<(), Failure> {
        match result {
            Ok(()) => self.n_done += 1,
            Err(failure @ (Failure::Closed | Failure::Output(_))) => return Err(failure),
            Err(failure) => {
                context.output.error(&failure);
                self.first.get_or_insert(failure.exit());
            }
        }
        Ok(())
    }

    /// The exit code: that of the first failure where nothing was done.
    pub(crate) fn exit(&self) -> Exit {
        match self.first {
            None => Exit::Ok,
            Some(_) if self.n_done > 0 => Exit::Partly,
            Some(exit) => exit,
        }
    }
}
