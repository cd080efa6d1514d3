//! `blob get` and `blob cat`: verified bytes.

use std::{
    io::{self, IsTerminal},
    ops::Range,
    path::PathBuf,
};

use blob_fs::FsStore;
use blob_traits::{
    BLOCK_SIZE, Error, Hash, MapEntry,
    bao_tree::{BaoTree, ByteRanges, io::round_up_to_chunks},
    prelude::*,
};
use bytes::Bytes;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::{
    args::{CatArgs, GetArgs},
    exit::{Exit, Failure},
    new_file::NewFile,
    open::{Access, resolve},
    output::{Output, shown_path},
    progress::Total,
    range::ByteRange,
    run::Context,
    target::Target,
};

/// How much is read and verified at a time.
const PIECE: u64 = 1 << 20;

/// Writes one blob.
pub(crate) async fn run(context: &Context, args: GetArgs) -> Result<Exit, Failure> {
    let Some(path) = args.output.file() else {
        return run_cat(context, CatArgs { targets: vec![args.target] }).await;
    };
    let store = context.open(Access::Existing).await?;
    let hash = resolve(&store, &args.target.name).await?.hash;
    let file = NewFile::begin(path, args.output.force).await?;
    let handle = tokio::fs::File::from_std(file.handle()?);
    let n_bytes =
        copy(context, &store, hash, &args.target, Sink::File(handle, file.target().to_owned())).await?;
    let path = file.target().to_owned();
    file.finish().await?;
    context.meter.end(&context.output);
    let fields = json!({ "hash": hash.to_string(), "path": path.to_string_lossy(), "size": n_bytes });
    context.output.item(format_args!("{hash}  {}", shown_path(&path)), &fields)?;
    Ok(Exit::Ok)
}

/// Writes blobs one after the other to standard output.
pub(crate) async fn run_cat(context: &Context, args: CatArgs) -> Result<Exit, Failure> {
    stdout_takes_bytes(&context.output)?;
    let store = context.open(Access::Existing).await?;
    for target in &args.targets {
        let hash = resolve(&store, &target.name).await?.hash;
        copy(context, &store, hash, target, Sink::Stdout(tokio::io::stdout())).await?;
    }
    Ok(Exit::Ok)
}

/// Refuses ranges of a partial blob that are not all there, before anything is written.
pub(crate) async fn refuse_gaps(
    store: &FsStore,
    entry: &impl MapEntry,
    wanted: &ByteRanges,
) -> Result<(), Failure> {
    if entry.is_complete() {
        return Ok(());
    }
    let (hash, n_chunks) = (entry.hash(), BaoTree::new(entry.size().value(), BLOCK_SIZE).chunks());
    let present = store.present_ranges(&hash).await?.ok_or(Error::NotFound { hash })?;
    let missing = round_up_to_chunks(wanted) - present;
    let Some(first) = missing.boundaries().first() else { return Ok(()) };
    let n_missing = missing.boundaries().chunks_exact(2).map(|range| match range {
        [start, end] => end.0 - start.0,
        _ => 0,
    });
    Err(Error::Incomplete {
        hash,
        first_missing: first.to_bytes(),
        n_missing: n_missing.sum(),
        n_chunks: n_chunks.0,
    }
    .into())
}

/// Ranges of bytes as a set.
pub(crate) fn union(ranges: &[Range<u64>]) -> ByteRanges {
    ranges.iter().fold(ByteRanges::empty(), |all, range| all | ByteRanges::from(range.clone()))
}

/// Refuses to mix bytes with JSON.
pub(crate) fn stdout_takes_bytes(output: &Output) -> Result<(), Failure> {
    if output.is_human() {
        return Ok(());
    }
    Err(Failure::Usage {
        message: "the bytes and --json cannot both go to standard output".to_owned(),
        hint: "name a file with -o, where the verb has that, or leave --json out",
    })
}

/// Cuts ranges off at the end of a blob.
pub(crate) fn within(ranges: &[ByteRange], hash: Hash, size: u64) -> Result<Vec<Range<u64>>, Failure> {
    let cut = ranges.iter().map(|range| range.within(size));
    cut.collect::<Result<_, _>>().map_err(|source| Failure::BeyondEnd { hash, source })
}

async fn copy(
    context: &Context,
    store: &FsStore,
    hash: Hash,
    target: &Target,
    mut sink: Sink,
) -> Result<u64, Failure> {
    let entry = store.existing(hash).await?;
    let ranges = within(target.ranges(), hash, entry.size().value())?;
    refuse_gaps(store, &entry, &union(&ranges)).await?;
    let n_bytes = ranges.iter().map(|range| range.end - range.start).sum();
    if !sink.is_terminal() {
        context.meter.begin("read", Total { n_items: 0, n_bytes }, &context.output);
    }
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            // Pieces end at multiples of their length, so that no chunk group is read twice.
            let end = range.end.min((start / PIECE + 1).saturating_mul(PIECE));
            let bytes = store.read_verified(hash, start..end).await?;
            context.meter.advance(0, end - start);
            sink.write(bytes).await?;
            start = end;
        }
    }
    sink.finish().await?;
    context.output.count_bytes(n_bytes);
    Ok(n_bytes)
}

/// Where the bytes go.
enum Sink {
    Stdout(tokio::io::Stdout),
    File(tokio::fs::File, PathBuf),
}

impl Sink {
    fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(_)) && io::stdout().is_terminal()
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.write_all(&bytes).await.map_err(Failure::output),
            Self::File(file, path) => {
                Ok(file.write_all(&bytes).await.map_err(|e| Error::io("write", &*path, e))?)
            }
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        match &mut self {
            Self::Stdout(out) => out.flush().await.map_err(Failure::output),
            Self::File(file, path) => Ok(file.flush().await.map_err(|e| Error::io("write", &*path, e))?),
        }
    }
}
