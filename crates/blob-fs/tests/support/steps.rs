//! Scripted operations that can be done again, each with what it makes of the world.

use std::{fs, io, path::Path, time::SystemTime};

use bao_tree::ChunkRanges;
use blob_fs::FsStore;
use blob_traits::{
    BlobFormat, Damage, EntryStatus, Error, ExistingTarget, ExportMode, ExportOptions, Hash, HashAndFormat,
    ImportMode, ImportSource, Progress, Result, TagRange, collect, prelude::*,
};
use bytes::Bytes;

use super::{
    bao, chunks, content, hash,
    world::{Has, World},
};

/// One operation; blobs are given by seed and length.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Import(u64, usize),
    Stream(u64, usize),
    CopyFile(u64, usize),
    Refer(u64, usize),
    Tagged(u64, usize, &'static str),
    SetTag(&'static str, u64, usize),
    CreateTag(u64, usize),
    /// From, to, and the blob that the tag points to.
    Rename(&'static str, &'static str, u64, usize),
    DropTags(&'static str),
    /// Seed, length, first and last chunk.
    Bao(u64, usize, u64, u64),
    /// One batch, synced and not said to be complete.
    Write(u64, usize, u64, u64),
    Delete(u64, usize),
    /// Seed, length, first and last chunk that is lost.
    Demote(u64, usize, u64, u64),
    Export(u64, usize),
    MoveOut(u64, usize),
    List,
    Read(u64, usize),
    Sync,
}

/// Does one step, and takes note of what it did or may have done.
pub(crate) async fn run(step: Step, store: &FsStore, world: &mut World, user: &Path) -> Result<()> {
    use Step::{
        Bao, CopyFile, CreateTag, Delete, Demote, DropTags, Export, Import, List, MoveOut, Read, Refer,
        Rename, SetTag, Stream, Sync, Tagged, Write,
    };
    match step {
        Import(seed, len) => take(store, world, content(seed, len), Source::Bytes).await,
        Stream(seed, len) => take(store, world, content(seed, len), Source::Stream).await,
        CopyFile(seed, len) => {
            take(store, world, content(seed, len), Source::File(user, ImportMode::Copy)).await
        }
        Refer(seed, len) => {
            take(store, world, content(seed, len), Source::File(user, ImportMode::TryReference)).await
        }
        Tagged(seed, len, tag) => tagged(store, world, content(seed, len), tag).await,
        SetTag(tag, seed, len) => set_tag(store, world, tag, Some(HashAndFormat::raw(hash(seed, len)))).await,
        CreateTag(seed, len) => create_tag(store, world, HashAndFormat::raw(hash(seed, len))).await,
        Rename(from, to, seed, len) => {
            rename(store, world, from, to, HashAndFormat::raw(hash(seed, len))).await
        }
        DropTags(prefix) => drop_tags(store, world, prefix).await,
        Bao(seed, len, first, end) => take_bao(store, world, content(seed, len), chunks(first..end)).await,
        Write(seed, len, first, end) => write(store, world, content(seed, len), chunks(first..end)).await,
        Delete(seed, len) => delete(store, world, content(seed, len)).await,
        Demote(seed, len, first, end) => demote(store, world, content(seed, len), chunks(first..end)).await,
        Export(seed, len) => export(store, &content(seed, len), user, ExportMode::Copy).await,
        MoveOut(seed, len) => export(store, &content(seed, len), user, ExportMode::TryReference).await,
        List => list(store).await,
        Read(seed, len) => read(store, &content(seed, len)).await,
        Sync => store.sync().await,
    }
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Bytes,
    Stream,
    File(&'a Path, ImportMode),
}

async fn take(store: &FsStore, world: &mut World, data: Bytes, source: Source<'_>) -> Result<()> {
    let source = match source {
        Source::Bytes => ImportSource::Bytes(data.clone()),
        Source::Stream => {
            let pieces: Vec<io::Result<Bytes>> =
                data.chunks(30_000).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
            ImportSource::Stream(Box::pin(futures_lite::stream::iter(pieces)))
        }
        Source::File(user, mode) => ImportSource::File { path: user_file(user, &data), mode },
    };
    let result = store.import(source, BlobFormat::Raw.into(), Progress::none()).await;
    world.blob(&data, Has::Complete, &result);
    result.map(drop)
}

/// A file of the user's, old enough to be trusted.
fn user_file(user: &Path, data: &Bytes) -> std::path::PathBuf {
    let path = user.join(format!("{}.in", Hash::new(data)));
    if !path.exists() {
        fs::write(&path, data).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    }
    path
}

async fn tagged(store: &FsStore, world: &mut World, data: Bytes, tag: &'static str) -> Result<()> {
    let source = ImportSource::Bytes(data.clone());
    let result = store.import_tagged(source, BlobFormat::Raw, tag.into(), Progress::none()).await;
    world.blob(&data, Has::Complete, &result);
    world.tag(&tag.into(), Some(HashAndFormat::raw(Hash::new(&data))), &result);
    result.map(drop)
}

async fn set_tag(
    store: &FsStore,
    world: &mut World,
    tag: &'static str,
    content: Option<HashAndFormat>,
) -> Result<()> {
    let result = store.set_tag(tag.into(), content).await;
    world.tag(&tag.into(), content, &result);
    result
}

async fn create_tag(store: &FsStore, world: &mut World, content: HashAndFormat) -> Result<()> {
    let result = store.create_tag(content).await;
    match &result {
        Ok(tag) => world.tag(tag, Some(content), &result),
        Err(_) => world.unknown_tags = true,
    }
    result.map(drop)
}

async fn rename(
    store: &FsStore,
    world: &mut World,
    from: &'static str,
    to: &'static str,
    content: HashAndFormat,
) -> Result<()> {
    let result = store.rename_tag(from.into(), to.into()).await;
    world.tag(&from.into(), None, &result);
    world.tag(&to.into(), Some(content), &result);
    result
}

async fn drop_tags(store: &FsStore, world: &mut World, prefix: &str) -> Result<()> {
    let result = store.delete_tags(TagRange::prefix(prefix)).await;
    for tag in world.tags_with(prefix) {
        world.tag(&tag, None, &result);
    }
    result
}

async fn take_bao(store: &FsStore, world: &mut World, data: Bytes, ranges: ChunkRanges) -> Result<()> {
    let hash = Hash::new(&data);
    let stream = bao(&data, &ranges);
    let result = store.import_bao(hash, data.len() as u64, ranges.clone(), stream).await.map(drop);
    note_partial(world, &data, ranges, &result, Completes::IfAllIsThere);
    result
}

async fn write(store: &FsStore, world: &mut World, data: Bytes, ranges: ChunkRanges) -> Result<()> {
    let written = async {
        let mut writer = super::write(store, &data, &ranges).await?;
        Ok::<_, Error>(writer.sync().await?)
    };
    let result = written.await;
    note_partial(world, &data, ranges, &result, Completes::Never);
    result
}

#[derive(Clone, Copy, PartialEq)]
enum Completes {
    Never,
    IfAllIsThere,
}

fn note_partial(
    world: &mut World,
    data: &Bytes,
    ranges: ChunkRanges,
    result: &Result<()>,
    completes: Completes,
) {
    let (before, complete) = (world.synced(&Hash::new(data)), world.may_be_complete(&Hash::new(data)));
    if before == ChunkRanges::all() {
        return;
    }
    let all = chunks(0..(data.len() as u64).div_ceil(1024));
    let after = before.clone() | ranges;
    let whole = completes == Completes::IfAllIsThere && all.is_subset(&after);
    if result.is_err() {
        world.blob(data, Has::Partial(before), result);
    }
    world.blob(data, if whole { Has::Complete } else { Has::Partial(after) }, result);
    if complete {
        // Nothing was to be done, if it was.
        world.blob::<()>(data, Has::Complete, &Err(Error::Cancelled));
    }
}

async fn delete(store: &FsStore, world: &mut World, data: Bytes) -> Result<()> {
    let result = store.delete(vec![Hash::new(&data)]).await;
    world.blob(&data, Has::Nothing, &result);
    result
}

async fn demote(store: &FsStore, world: &mut World, data: Bytes, lost: ChunkRanges) -> Result<()> {
    let hash = Hash::new(&data);
    let Some(present) = store.present_ranges(&hash).await? else { return Ok(()) };
    let Some(entry) = store.get(&hash).await? else { return Ok(()) };
    let result = store.demote(entry, Damage { lost: lost.clone(), mended: Vec::new() }).await;
    if !matches!(result, Ok(None)) {
        world.blob(&data, Has::Partial(present - lost), &result);
    }
    if matches!(result, Ok(Some(_))) {
        assert!(store.was_demoted(&hash).await?);
    }
    result.map(drop)
}

async fn export(store: &FsStore, data: &Bytes, user: &Path, mode: ExportMode) -> Result<()> {
    let n = fs::read_dir(user).unwrap().count();
    let target = user.join(format!("{n}.out"));
    let options = ExportOptions { mode, existing: ExistingTarget::Refuse };
    let result = store.export(Hash::new(data), target.clone(), options, Progress::none()).await;
    match fs::read(&target) {
        Ok(bytes) => assert!(bytes == *data, "half an export"),
        Err(_) => assert!(result.is_err(), "an export without a file"),
    }
    result
}

async fn list(store: &FsStore) -> Result<()> {
    for hash in collect(store.blobs().await?).await? {
        assert_eq!(store.entry_status(&hash).await?, EntryStatus::Complete);
    }
    collect(store.partial_blobs().await?).await?;
    collect(store.tags(TagRange::all()).await?).await?;
    Ok(())
}

async fn read(store: &FsStore, data: &Bytes) -> Result<()> {
    let hash = Hash::new(data);
    let (plain, verified) = (store.read_to_bytes(hash).await?, store.read_verified(hash, 0..u64::MAX).await?);
    assert!(plain == *data && verified == *data, "{hash} has other bytes");
    Ok(())
}
