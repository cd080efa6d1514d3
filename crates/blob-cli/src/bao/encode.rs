//! `blob bao encode`: a verified slice of a blob.

use std::{io::Write, ops::Range, path::Path};

use blob_traits::{
    Error, Hash, MapEntry,
    bao_tree::{ChunkRanges, io::round_up_to_chunks},
    prelude::*,
};
use serde_json::json;

use super::stream::{Blocking, Destination};
use crate::{
    args::OutputFile,
    exit::{Exit, Failure},
    get::{refuse_gaps, union, within},
    open::{Access, resolve},
    output::shown_path,
    progress::Total,
    run::Context,
    target::Target,
};

/// Writes the size and the stream.
pub(super) async fn run(context: &Context, target: Target, output: OutputFile) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let hash = resolve(&store, &target.name).await?.hash;
    let entry = store.existing(hash).await?;
    let size = entry.size().value();
    let ranges = within(target.ranges(), hash, size)?;
    refuse_gaps(&store, &entry, &union(&ranges)).await?;
    let destination = Destination::begin(context, &output).await?;
    context.meter.begin("encode", Total::default(), &context.output);
    let mut writer = destination.writer()?;
    writer.write_all(&size.to_le_bytes()).map_err(|e| destination.blame(e.into()))?;
    let encoded = store.export_bao(hash, chunks(&ranges), Blocking(writer)).await;
    let mut writer = encoded.map_err(|e| destination.blame(e))?;
    writer.0.flush().map_err(|e| destination.blame(e.into()))?;
    if let Some(path) = destination.finish().await? {
        report(context, hash, size, &path)?;
    }
    Ok(Exit::Ok)
}

/// All chunks that ranges of bytes touch.
pub(crate) fn chunks(ranges: &[Range<u64>]) -> ChunkRanges {
    round_up_to_chunks(&union(ranges))
}

/// Says which file was written.
pub(super) fn report(context: &Context, hash: Hash, size: u64, path: &Path) -> Result<(), Failure> {
    context.meter.end(&context.output);
    let n_written = std::fs::metadata(path).map_err(|e| Error::io("look at", path, e))?.len();
    context.output.count_bytes(n_written);
    let fields = json!({
        "hash": hash.to_string(),
        "size": size,
        "path": path.to_string_lossy(),
        "written": n_written,
    });
    context.output.item(format_args!("{hash}  {}", shown_path(path)), &fields)
}
