//! `blob why`: what keeps a blob.

use blob_gc::{Reason, Root};
use blob_traits::{EntryStatus, Error, prelude::*};
use serde_json::{Value, json};

use crate::{
    args::WhyArgs,
    exit::{Exit, Failure},
    open::{Access, resolve},
    output::{insert_tag, set},
    run::Context,
};

/// Shows every way in which the blob is reached.
pub(crate) async fn run(context: &Context, args: WhyArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let hash = resolve(&store, &args.name).await?.hash;
    let reasons = blob_gc::why(&store, hash).await?;
    if reasons.is_empty() && store.entry_status(&hash).await? == EntryStatus::NotFound {
        return Err(Error::NotFound { hash }.into());
    }
    let lines: Vec<_> = reasons.iter().map(line).collect();
    let lines = if lines.is_empty() { format!("nothing keeps {hash}") } else { lines.join("\n") };
    let reasons: Vec<_> = reasons.iter().map(fields).collect();
    context.output.document(lines, &json!({ "hash": hash.to_string(), "reasons": reasons }))?;
    Ok(if reasons.is_empty() { Exit::Error } else { Exit::Ok })
}

fn line(reason: &Reason) -> String {
    let root = match &reason.root {
        Root::Tag(tag) => format!("tag {tag}"),
        Root::TempTag => "temporary tag".to_owned(),
    };
    match reason.through {
        Some(sequence) => format!("{root} through {sequence}"),
        None => root,
    }
}

fn fields(reason: &Reason) -> Value {
    let mut fields = json!({ "through": reason.through.map(|hash| hash.to_string()) });
    match &reason.root {
        Root::Tag(tag) => insert_tag(&mut fields, tag),
        Root::TempTag => set(&mut fields, "temporary", true),
    }
    fields
}
