//! `blob bao decode`: from a verified slice to bytes, or into the store.

use std::{
    io::{ErrorKind, Read, Write},
    ops::Range,
};

use blob_traits::{
    BLOCK_SIZE, EntryStatus, Error, Hash, HashAndFormat, Result,
    bao_tree::{
        BaoTree,
        io::{BaoContentItem, DecodeError, sync::DecodeResponseIter},
    },
    blocking::unblock,
    prelude::*,
};
use serde_json::json;

use super::{
    encode::chunks,
    stream::{Blocking, Destination, open_input},
};
use crate::{
    args::DecodeArgs,
    exit::{Exit, Failure},
    get::{union, within},
    open::Access,
    output::{insert_tag, shown_path},
    progress::Total,
    range::ByteRange,
    run::Context,
    tag,
};

type Input = Box<dyn Read + Send>;

/// Checks a stream and takes its bytes out.
pub(super) async fn run(context: &Context, args: DecodeArgs) -> Result<Exit, Failure> {
    let file = args.file.clone();
    let (mut input, size) = unblock(move || {
        let mut input = open_input(&file)?;
        let mut size = [0; 8];
        input.read_exact(&mut size)?;
        Ok((input, u64::from_le_bytes(size)))
    })
    .await
    .map_err(blame_stream)?;
    let given = args.range.as_deref().unwrap_or(&[ByteRange::ALL]);
    let ranges = within(given, args.hash, size)?;
    context.meter.begin("decode", Total::default(), &context.output);
    if args.import {
        return import(context, args, size, ranges, input).await;
    }
    let destination = Destination::begin(context, &args.output).await?;
    let writer = destination.writer()?;
    let hash = args.hash;
    let decoded = unblock(move || {
        let n_bytes = decode(hash, size, &ranges, &mut input, writer)?;
        Ok((n_bytes, is_at_end(&mut input)?))
    });
    let (n_bytes, is_at_end) = decoded.await.map_err(blame_stream).map_err(|failure| match failure {
        Failure::Store(error) => destination.blame(error),
        other => other,
    })?;
    if !is_at_end {
        return Err(Failure::TrailingBytes);
    }
    context.output.count_bytes(n_bytes);
    if let Some(path) = destination.finish().await? {
        context.meter.end(&context.output);
        let fields = json!({ "hash": hash.to_string(), "path": path.to_string_lossy(), "size": n_bytes });
        context.output.item(format_args!("{hash}  {}", shown_path(&path)), &fields)?;
    }
    Ok(Exit::Ok)
}

async fn import(
    context: &Context,
    args: DecodeArgs,
    size: u64,
    ranges: Vec<Range<u64>>,
    input: Input,
) -> Result<Exit, Failure> {
    let store = context.open(Access::Create).await?;
    let hash = args.hash;
    let _pinned = store.temp_tag(HashAndFormat::raw(hash));
    let imported = store.import_bao(hash, size, chunks(&ranges), Blocking(input)).await;
    let mut rest = imported.map_err(blame_stream)?.0;
    if !unblock(move || Ok(is_at_end(&mut rest)?)).await? {
        return Err(Failure::TrailingBytes);
    }
    let tag = tag::point(&store, args.tag, HashAndFormat::raw(hash)).await?;
    let is_complete = store.entry_status(&hash).await? == EntryStatus::Complete;
    let status = if is_complete { "complete" } else { "partial" };
    context.meter.end(&context.output);
    context.output.count_bytes(ranges.iter().map(|range| range.end - range.start).sum());
    let mut fields = json!({ "hash": hash.to_string(), "status": status, "size": size });
    insert_tag(&mut fields, &tag);
    context.output.item(format_args!("{hash}  {tag}  {status}"), &fields)?;
    Ok(Exit::Ok)
}

/// Writes the bytes of ranges, in ascending order, once they are proven.
fn decode(
    hash: Hash,
    size: u64,
    ranges: &[Range<u64>],
    input: &mut Input,
    mut writer: impl Write,
) -> Result<u64> {
    let (tree, chunks) = (BaoTree::new(size, BLOCK_SIZE), chunks(ranges));
    let wanted = union(ranges);
    let mut n_bytes = 0;
    for part in DecodeResponseIter::new(hash.into(), tree, input, &chunks) {
        let BaoContentItem::Leaf(leaf) = part.map_err(|e: DecodeError| Error::decode(hash, e))? else {
            continue;
        };
        for range in wanted.boundaries().chunks_exact(2) {
            let [start, end] = range else { continue };
            let index = |at: &u64| {
                let index = usize::try_from(at.saturating_sub(leaf.offset)).unwrap_or(usize::MAX);
                index.min(leaf.data.len())
            };
            let bytes = leaf.data.get(index(start)..index(end)).unwrap_or_default();
            writer.write_all(bytes)?;
            n_bytes += bytes.len() as u64;
        }
    }
    writer.flush()?;
    Ok(n_bytes)
}

fn is_at_end(input: &mut Input) -> std::io::Result<bool> {
    match input.read_exact(&mut [0]) {
        Ok(()) => Ok(false),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(true),
        Err(e) => Err(e),
    }
}

fn blame_stream(error: Error) -> Failure {
    match error {
        Error::Io { source, .. } if source.kind() == ErrorKind::UnexpectedEof => Failure::CutOff,
        Error::Mismatch { hash, offset } => Failure::WrongStream { hash, offset },
        error => error.into(),
    }
}
