//! Writing collections out as directories.
//!
//! This is the one place in this crate that touches the file system. What a collection may do to a directory does not
//! depend on the backend, and getting it wrong lets whoever made the collection write outside of the target; so it is
//! written once, here, over any store. Backends write the single files.

mod below;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::Arc,
};

use bao_tree::{BaoTree, ChunkNum, ChunkRanges};
use futures_buffered::FuturesUnorderedBounded;
use futures_lite::StreamExt;

use crate::{
    BLOCK_SIZE, BlobStatus, Collection, EntryStatus, Error, ExistingTarget, Export, ExportFormat, ExportMode,
    ExportOptions, ExportProgress, Hash, HashSeq, Map, MapEntry, MapExt, Progress, Result, blocking::unblock,
    check_export_names,
};

use below::{Directory, Target};

/// How many files are written at the same time, each with a directory held open.
const CONCURRENCY: usize = 16;

/// Conveniences for [`Export`].
pub trait ExportExt: Map + BlobStatus + Export {
    /// Writes every child of a collection to a file of its name below `target`, an absolute path.
    ///
    /// The target directory is created where it is missing (its parent must be there), and so are directories below
    /// it. Everything is checked before the first write: the names, that no file is in the way, that every child is
    /// complete. Then each file appears whole or not at all; files that were written before an error stay.
    ///
    /// Below the target no symbolic link that was there before is followed: one in place of a directory is refused,
    /// one in place of a file is refused or, with [`ExistingTarget::Replace`], replaced itself. On Linux that holds
    /// against somebody who swaps directories meanwhile too, except with [`ExportMode::TryReference`], where the store
    /// must know the files by their paths.
    ///
    /// Dropping the future ends it at the files that are being written.
    ///
    /// # Errors
    /// [`Error::NotACollection`], [`Error::UnsafeName`]; [`Error::NotFound`] and [`Error::Incomplete`] with the hash of
    /// the child; [`Error::TargetExists`] for a file that is not to be replaced, and for anything else in place of a
    /// directory; [`Error::IsADirectory`], [`Error::NotAFile`] for what is never replaced; those of [`Export::export`].
    fn export_collection(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> impl Future<Output = Result<()>> + Send {
        let options = options.into();
        async move {
            if !target.is_absolute() {
                return Err(Error::RelativePath { path: target });
            }
            let collection = Arc::new(load(self, hash).await?);
            check_names(&collection)?;
            check_children(self, &collection).await?;
            let names = collection.clone();
            let target = unblock(move || prepare(target, &names, options.existing)).await?;
            write_files(self, &collection, &Arc::new(target), options, &progress).await
        }
    }

    /// Writes a blob to a file, or a collection to a directory.
    ///
    /// # Errors
    /// Those of [`Export::export`] and of [`export_collection`](Self::export_collection).
    fn export_as(
        &self,
        hash: Hash,
        format: ExportFormat,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> impl Future<Output = Result<()>> + Send {
        let options = options.into();
        async move {
            match format {
                ExportFormat::Blob => self.export(hash, target, options, progress).await,
                ExportFormat::Collection => self.export_collection(hash, target, options, progress).await,
            }
        }
    }
}

impl<T: Map + BlobStatus + Export> ExportExt for T {}

/// Loads a collection, which limits what is read, and proves what was loaded.
async fn load(store: &impl Map, hash: Hash) -> Result<Collection> {
    let collection = Collection::load(hash, store).await?;
    let root = HashSeq::try_from(store.read_verified(hash, 0..u64::MAX).await?);
    if let Some(names) = root.ok().and_then(|root| root.get(0)) {
        store.read_verified(names, 0..u64::MAX).await?;
    }
    Ok(collection)
}

fn check_names(collection: &Collection) -> Result<()> {
    check_export_names(collection.iter().map(|(name, _)| name.as_str())).map_err(|e| Error::UnsafeName {
        name: e.name.escape_debug().to_string(),
        reason: e.reason.to_string(),
    })?;
    Ok(())
}

async fn check_children(store: &(impl Map + BlobStatus), collection: &Collection) -> Result<()> {
    for (_, child) in collection.iter() {
        match store.entry_status(child).await? {
            EntryStatus::Complete => {}
            EntryStatus::NotFound => return Err(Error::NotFound { hash: *child }),
            EntryStatus::Partial => {
                let size = store.existing(*child).await?.size();
                let present = store.present_ranges(child).await?.ok_or(Error::NotFound { hash: *child })?;
                return Err(incomplete(*child, size.value(), present));
            }
        }
    }
    Ok(())
}

fn incomplete(hash: Hash, size: u64, present: ChunkRanges) -> Error {
    let n_chunks = BaoTree::new(size, BLOCK_SIZE).chunks();
    let missing = ChunkRanges::from(..n_chunks) - present;
    match missing.boundaries() {
        [first, ..] => Error::Incomplete {
            hash,
            first_missing: first.to_bytes(),
            n_missing: missing.boundaries().chunks_exact(2).map(width).sum(),
            n_chunks: n_chunks.0,
        },
        [] => Error::SizeUnverified { hash },
    }
}

fn width(range: &[ChunkNum]) -> u64 {
    match range {
        [start, end] => end.0 - start.0,
        _ => 0,
    }
}

/// Refuses what is in the way, then creates the directories.
fn prepare(target: PathBuf, collection: &Collection, existing: ExistingTarget) -> Result<Target> {
    if let Some(target) = Target::open(&target)? {
        for (name, _) in collection.iter() {
            let (parent, file) = split(name);
            if let Some(directory) = target.find(parent)? {
                directory.check_vacant(file, existing)?;
            }
        }
    }
    let target = Target::create(target)?;
    target.create_directories(collection.iter().map(|(name, _)| split(name).0))?;
    Ok(target)
}

async fn write_files(
    store: &(impl Map + Export),
    collection: &Collection,
    target: &Arc<Target>,
    options: ExportOptions,
    progress: &Progress<ExportProgress>,
) -> Result<()> {
    let mut writing = FuturesUnorderedBounded::new(CONCURRENCY);
    let mut files = collection.iter();
    let mut outcome = Ok(());
    loop {
        while outcome.is_ok()
            && writing.len() < CONCURRENCY
            && let Some((name, hash)) = files.next()
        {
            let (target, name, progress) = (target.clone(), name.clone(), progress.clone());
            writing.push(write_file(store.clone(), *hash, target, name, options, progress));
        }
        // After a failure, those that have begun come to their end, so that nothing goes on behind the caller's back.
        let Some(written) = writing.next().await else { return outcome };
        outcome = outcome.and(written);
    }
}

async fn write_file(
    store: impl Map + Export,
    hash: Hash,
    target: Arc<Target>,
    name: String,
    options: ExportOptions,
    progress: Progress<ExportProgress>,
) -> Result<()> {
    let path = target.path().join(&name);
    if options.mode == ExportMode::TryReference {
        return store.export(hash, path, options, progress).await;
    }
    let directory = unblock(move || target.existing(split(&name).0)).await?;
    let Some(handle) = directory.handle() else {
        return store.export(hash, path, options, progress).await;
    };
    let place = handle.join(path.file_name().unwrap_or_default());
    let progress = holding(directory, path.clone(), &progress);
    store.export(hash, place, options, progress).await.map_err(|e| renamed(e, &handle, &path))
}

/// Reports to `progress`, with the file's own path, and holds the directory open.
///
/// The backend's work may go on for a moment after the export's future has been dropped, but no longer than the handle
/// that it reports to lives: until then the number of the descriptor must not come to stand for another directory.
fn holding(
    directory: Directory,
    path: PathBuf,
    progress: &Progress<ExportProgress>,
) -> Progress<ExportProgress> {
    let directory = Arc::new(directory);
    let held = directory.clone();
    let reporting = progress.map(move |event| {
        let _held = &held;
        match event {
            ExportProgress::Start { id, hash, stable, .. } => {
                ExportProgress::Start { id, hash, path: path.clone(), stable }
            }
            other => other,
        }
    });
    if Arc::strong_count(&directory) > 1 {
        return reporting;
    }
    // Where nobody listens, the closure above is gone already.
    Progress::from_fn(move |_| {
        let _held = &directory;
        Ok(())
    })
}

/// Puts the file's own path into an error that speaks of the handle of its directory.
fn renamed(error: Error, handle: &Path, path: &Path) -> Error {
    let own = |found: PathBuf| match (found.strip_prefix(handle), path.parent()) {
        (Ok(name), Some(parent)) => parent.join(name),
        _ => found,
    };
    match error {
        Error::FileNotFound { path } => Error::FileNotFound { path: own(path) },
        Error::IsADirectory { path } => Error::IsADirectory { path: own(path) },
        Error::NotAFile { path } => Error::NotAFile { path: own(path) },
        Error::PermissionDenied { path } => Error::PermissionDenied { path: own(path) },
        Error::TargetExists { path } => Error::TargetExists { path: own(path) },
        Error::Io { doing, path: Some(path), source } => Error::Io { doing, path: Some(own(path)), source },
        other => other,
    }
}

/// Splits a name into the directory, empty for the target itself, and the file.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn errors_speak_of_the_file_and_not_of_the_handle() {
        let (handle, path) = (Path::new("/proc/self/fd/7"), Path::new("/target/a/b"));
        let exists = renamed(Error::TargetExists { path: handle.join("b") }, handle, path);
        assert!(matches!(exists, Error::TargetExists { path: found } if found == path));
        let failed = renamed(Error::io("write", handle.join(".tmp-b"), io::Error::other("x")), handle, path);
        assert!(
            matches!(failed, Error::Io { path: Some(found), .. } if found == Path::new("/target/a/.tmp-b"))
        );
        let elsewhere = renamed(Error::io("read", "/store/x", io::Error::other("x")), handle, path);
        assert!(matches!(elsewhere, Error::Io { path: Some(found), .. } if found == Path::new("/store/x")));
    }

    #[test]
    fn what_is_missing_is_counted() {
        let hash = Hash::EMPTY;
        let present = ChunkRanges::from(ChunkNum(1)..ChunkNum(3)) | ChunkRanges::from(ChunkNum(4)..);
        let error = incomplete(hash, 4500, present);
        assert!(
            matches!(error, Error::Incomplete { first_missing: 0, n_missing: 2, n_chunks: 5, .. }),
            "{error:?}"
        );
        assert!(matches!(incomplete(hash, 4500, ChunkRanges::all()), Error::SizeUnverified { .. }));
    }

    #[test]
    fn directory_is_held_as_long_as_the_handle_of_the_progress() {
        let place = tempfile::tempdir().unwrap();
        let open = || Target::open(place.path()).unwrap().unwrap().existing("").unwrap();
        let (reporting, _events) = Progress::channel(1);
        for progress in [Progress::none(), reporting] {
            let directory = open();
            let Some(handle) = directory.handle() else { return };
            let held = holding(directory, "/target/file".into(), &progress);
            let leads_there = || std::fs::read_link(&handle).is_ok_and(|to| to == place.path());
            assert!(leads_there());
            drop(held.clone());
            assert!(leads_there());
            drop(held);
            assert!(!leads_there());
        }
    }

    #[tokio::test]
    async fn events_speak_of_the_file() {
        let place = tempfile::tempdir().unwrap();
        let directory = Target::open(place.path()).unwrap().unwrap().existing("").unwrap();
        let (progress, mut events) = Progress::channel(1);
        let progress = holding(directory, "/target/file".into(), &progress);
        let path = PathBuf::from("/proc/self/fd/7/file");
        progress.send(ExportProgress::Start { id: 0, hash: Hash::EMPTY, path, stable: false }).await.unwrap();
        let event = events.recv().await;
        assert!(
            matches!(event, Some(ExportProgress::Start { path, .. }) if path == Path::new("/target/file"))
        );
    }
}
