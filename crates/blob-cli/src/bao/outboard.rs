//! `blob bao outboard`: the tree of a blob without its bytes.

use std::io::Write;

use blob_traits::{
    BLOCK_SIZE, Error, Hash, MapEntry,
    bao_tree::{ByteRanges, ChunkRanges, io::fsm::Outboard, iter::BaoChunk},
    blocking::on_blocking_pool,
    prelude::*,
    tree::parent_cv,
};

use super::{encode::report, stream::Destination};
use crate::{
    args::OutputFile,
    exit::{Exit, Failure},
    get::refuse_gaps,
    open::{Access, resolve},
    progress::Total,
    run::Context,
    target::Name,
};

/// Writes all parents above the chunk groups, in pre-order, each proven.
pub(super) async fn run(context: &Context, name: Name, output: OutputFile) -> Result<Exit, Failure> {
    let store = context.open(Access::Existing).await?;
    let hash = resolve(&store, &name).await?.hash;
    let entry = store.existing(hash).await?;
    let size = entry.size().value();
    refuse_gaps(&store, &entry, &ByteRanges::from(..size)).await?;
    let destination = Destination::begin(context, &output).await?;
    context.meter.begin("outboard", Total::default(), &context.output);
    let writer = destination.writer()?;
    let written = on_blocking_pool(move || write_parents(entry, writer)).await;
    written.map_err(|e| destination.blame(e))?;
    if let Some(path) = destination.finish().await? {
        report(context, hash, size, &path)?;
    }
    Ok(Exit::Ok)
}

async fn write_parents(entry: impl MapEntry, mut writer: impl Write) -> Result<(), Error> {
    let mut outboard = entry.outboard().await?;
    let root = Hash::from(outboard.root());
    let mut expected = vec![*root.as_bytes()];
    let tree = outboard.tree();
    for part in tree.ranges_pre_order_chunks_iter_ref(&ChunkRanges::all(), BLOCK_SIZE.chunk_log()) {
        let Some(hash) = expected.pop() else { break };
        let BaoChunk::Parent { node, is_root, .. } = part else { continue };
        let mismatch = Error::Mismatch { hash: root, offset: node.chunk_range().start.to_bytes() };
        let Some((left, right)) = outboard.load(node).await? else { return Err(mismatch) };
        if parent_cv(left.as_bytes(), right.as_bytes(), is_root) != hash {
            return Err(mismatch);
        }
        expected.extend([*right.as_bytes(), *left.as_bytes()]);
        writer.write_all(left.as_bytes())?;
        writer.write_all(right.as_bytes())?;
    }
    Ok(writer.flush()?)
}
