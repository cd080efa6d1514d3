//! `blob get` and `blob cat`: verified bytes.

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
};

use blob_fs::FsStore;
use blob_traits::{Error, Hash, MapEntry, prelude::*};
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
    let n_bytes = copy(context, &store, hash, &args.target, Sink::File(handle, file.target().to_owned())).await?;
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
pub(crate) fn within(ranges: &[ByteRange], hash: Hash, size: u64) -> Result<Vec<std::ops::Range<u64>>, Failure> {
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
    let size = store.existing(hash).await?.size().value();
    let ranges = within(target.ranges(), hash, size)?;
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
            Self::File(file, path) => Ok(file.write_all(&bytes).await.map_err(|e| Error::io("write", &*path, e))?),
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        match &mut self {
            Self::Stdout(out) => out.flush().await.map_err(Failure::output),
            Self::File(file, path) => Ok(file.flush().await.map_err(|e| Error::io("write", &*path, e))?),
        }
    }
}
