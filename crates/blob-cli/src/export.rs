//! `blob export`: blobs as files, collections as directories.

use blob_traits::{
    BlobFormat, Error, ExistingTarget, ExportFormat, ExportMode, ExportOptions, MapEntry,
    bao_tree::ByteRanges, prelude::*,
};
use serde_json::json;

use crate::{
    args::{ExportArgs, ExportAs},
    exit::{Exit, Failure},
    get::refuse_gaps,
    open::{Access, absolute, detect, resolve},
    output::{shown_bytes, shown_path},
    progress::Total,
    run::Context,
};

/// Writes a blob or a collection.
pub(crate) async fn run(context: &Context, args: ExportArgs) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let resolved = resolve(&store, &args.name).await?;
    let (hash, target) = (resolved.hash, absolute(&args.path)?);
    let format = match (args.format, resolved.format) {
        (Some(ExportAs::Blob), _) => BlobFormat::Raw,
        (Some(ExportAs::Collection), _) => BlobFormat::HashSeq,
        (None, Some(format)) => format,
        (None, None) => detect(&store, hash).await?.format,
    };
    let entry = store.existing(hash).await?;
    let size = entry.size().value();
    refuse_gaps(&store, &entry, &ByteRanges::from(..size)).await?;
    let (format, name, total) = match format {
        BlobFormat::Raw => (ExportFormat::Blob, "blob", Total { n_items: 1, n_bytes: size }),
        // The first child holds the names.
        BlobFormat::HashSeq => (
            ExportFormat::Collection,
            "collection",
            Total { n_items: (size / 32).saturating_sub(1), n_bytes: 0 },
        ),
    };
    let existing = if args.force { ExistingTarget::Replace } else { ExistingTarget::Refuse };
    let options = ExportOptions { mode: ExportMode::Copy, existing };
    context.meter.begin("export", total, &context.output);
    let exported = store.export_as(hash, format, target.clone(), options, context.meter.export()).await;
    exported.map_err(|error| match error {
        Error::TargetExists { path } if args.force => Failure::InTheWay { path },
        error => error.into(),
    })?;
    context.meter.end(&context.output);
    context.output.count_bytes(total.n_bytes);
    let fields = json!({
        "hash": hash.to_string(),
        "path": target.to_string_lossy(),
        "as": name,
        "files": total.n_items,
    });
    context.output.item(format_args!("{hash}  {}", shown_path(&target)), &fields)?;
    if total.n_bytes > 0 {
        context.meter.sum_up(&format!("exported {}", shown_bytes(total.n_bytes)), &context.output);
    } else {
        context.meter.sum_up(&format!("exported {} files", total.n_items), &context.output);
    }
    Ok(Exit::Ok)
}
