//! What is there after a store was opened with what is left of it, and what is not.

use blob_fs::{FsStore, Recovery};
use blob_traits::{BoxStream, TagRange, prelude::*};
use futures_lite::StreamExt;
use serde_json::{Value, json};

use super::Lost;
use crate::{
    exit::Failure,
    output::{counted, shown, shown_path},
    run::Context,
};

/// Says what is lost, what was put aside, and how much there is.
pub(super) async fn report(context: &Context, store: &FsStore) -> Result<Lost, Failure> {
    let recovery = store.recovery();
    let losses = lost(recovery);
    for (line, fields) in &losses {
        context.output.item(format_args!("lost   {line}"), fields)?;
    }
    for path in &recovery.quarantined {
        let path = shown_path(path);
        context.output.item(format_args!("aside  {path}"), &json!({ "quarantined": path }))?;
    }
    let n_blobs = count(store.blobs().await?).await? + count(store.partial_blobs().await?).await?;
    let n_tags = count(store.tags(TagRange::all()).await?).await?;
    context.output.summarize(json!({
        "rebuilt": recovery.rebuilt_index,
        "replayed_records": recovery.replayed_records,
        "blobs": n_blobs,
        "tags": n_tags,
    }));
    let there = format!("there are {} and {}", counted(n_blobs, "blob"), counted(n_tags, "tag"));
    let line = match (recovery.rebuilt_index, &recovery.rebuilt_because) {
        (false, _) => format!("the index can be used and was kept; {there}"),
        (true, None) => format!("the index was built anew from the log; {there}"),
        (true, Some(why)) => {
            format!("the index could not be used ({}) and was built anew from the log; {there}", shown(why))
        }
    };
    context.output.remark(line)?;
    Ok(if losses.is_empty() { Lost::Nothing } else { Lost::Something })
}

async fn count<T>(mut listing: BoxStream<T>) -> Result<u64, Failure> {
    let mut n = 0;
    while let Some(item) = listing.next().await {
        item?;
        n += 1;
    }
    Ok(n)
}

fn lost(recovery: &Recovery) -> Vec<(String, Value)> {
    let losses = recovery.losses.iter().map(|loss| {
        let path = shown_path(&loss.path);
        (format!("{path}: {}", shown(&loss.what)), json!({ "lost": path, "message": loss.what }))
    });
    let ranges = recovery.damaged.iter().map(|damaged| {
        let (path, range) = (shown_path(&damaged.path), &damaged.range);
        let line = format!("{path}: bytes {}..{} cannot be read", range.start, range.end);
        (line, json!({ "lost": path, "range": [range.start, range.end] }))
    });
    let blobs = recovery.damaged_blobs.iter().map(|hash| {
        (format!("bytes of blob {hash}"), json!({ "lost": hash.to_string(), "hash": hash.to_string() }))
    });
    losses.chain(ranges).chain(blobs).collect()
}
