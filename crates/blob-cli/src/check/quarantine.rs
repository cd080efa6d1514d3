//! Removing for good what was put aside.

use blob_fs::Quarantined;
use serde_json::json;

use crate::{
    exit::{Exit, Failure},
    open::Access,
    output::{counted, set, shown, shown_bytes},
    run::Context,
};

/// Empties the quarantine, and says what was in it.
pub(super) async fn purge(context: &Context) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let files = store.quarantined().await?;
    let n_bytes = store.purge_quarantine().await?;
    context.output.count_bytes(n_bytes);
    for Quarantined { path, name, size, hash, .. } in &files {
        let stored = path.file_name().unwrap_or_default().to_string_lossy();
        let mut fields = json!({ "removed": stored, "name": name, "size": size });
        if let Some(hash) = hash {
            set(&mut fields, "hash", hash.to_string());
        }
        context
            .output
            .item(format_args!("removed  quarantine/{}  {}", shown(&stored), shown_bytes(*size)), &fields)?;
    }
    context.output.remark(format_args!(
        "{} removed, {}",
        counted(files.len() as u64, "file"),
        shown_bytes(n_bytes)
    ))?;
    Ok(Exit::Ok)
}
