//! `blob has`: which hashes are there.

use blob_fs::FsStore;
use blob_traits::{EntryStatus, Error, Hash, prelude::*};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    args::HasArgs,
    exit::{Exit, Failure},
    open::Access,
    output::shown,
    run::Context,
};

const BLOBS: &str = "blobs";

/// Tells of each hash whether it is there.
pub(crate) async fn run(context: &Context, args: HasArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let mut all = true;
    if args.hashes.iter().all(|hash| hash == "-") {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        let failed = |e| Error::io("read", "standard input", e);
        while let Some(line) = lines.next_line().await.map_err(failed)? {
            if !line.trim().is_empty() {
                all &= show(context, &store, line.trim()).await?;
            }
        }
    } else {
        for hash in &args.hashes {
            all &= show(context, &store, hash).await?;
        }
    }
    context.output.end_listing(BLOBS)?;
    Ok(if all { Exit::Ok } else { Exit::Error })
}

/// Returns whether the blob is complete.
async fn show(context: &Context, store: &FsStore, text: &str) -> Result<bool, Failure> {
    let hash: Hash = text.parse().map_err(|reason| {
        let text = shown(&text.chars().take(80).collect::<String>());
        Failure::MalformedHash { text, reason }
    })?;
    let status = store.entry_status(&hash).await?;
    let word = match status {
        EntryStatus::Complete => "complete",
        EntryStatus::Partial => "partial",
        EntryStatus::NotFound => "missing",
    };
    let element = json!({ "hash": hash.to_string(), "status": word });
    context.output.element(BLOBS, format_args!("{hash}  {word}"), &element)?;
    Ok(status == EntryStatus::Complete)
}
