//! Which store is meant, and opening it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use blob_fs::{Compaction, Create, Durability, FsStore, Options, Rebuild};
use blob_traits::{
    BlobFormat, Collection, Error, Hash, HashAndFormat, MapEntry, Result, Tag, blocking::unblock, prelude::*,
};
use directories::ProjectDirs;

use crate::{
    exit::Failure,
    target::{Name, meant_as_hash},
};

/// What a verb wants of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// It must be there.
    Existing,
    /// The same, also where parts of it are lost.
    Rebuild,
    /// It is created where it is missing.
    Create,
    /// The same, for much work that is synced once, at the end.
    Bulk,
}

/// Returns the directory of the store, as an absolute path.
pub(crate) fn directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let given = given.filter(|dir| !dir.as_os_str().is_empty());
    let default = || ProjectDirs::from("", "", "blob").map(|dirs| dirs.data_dir().to_owned());
    absolute(&given.or_else(default).ok_or(Failure::NoDirectory)?)
}

/// Completes a relative path.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path).map_err(|e| Error::io("find the current directory for", path, e))?)
}

/// Opens a store.
pub(crate) async fn open(dir: PathBuf, access: Access) -> Result<FsStore, Failure> {
    let mut options = Options::new(dir.clone());
    if access == Access::Bulk {
        options.durability = Durability::Relaxed;
    }
    if access == Access::Rebuild {
        options.rebuild = Rebuild::AcceptLoss;
    }
    if matches!(access, Access::Existing | Access::Rebuild) {
        options.create = Create::Never;
    } else if let Some(parent) = dir.parent().map(Path::to_owned) {
        unblock(move || {
            fs::create_dir_all(&parent).map_err(|e| Error::io("create the directory", parent, e))
        })
        .await?;
    }
    match FsStore::open(options).await {
        Err(Error::FileNotFound { path }) if path == dir => Err(Failure::NoStore { dir }),
        other => Ok(other?),
    }
}

/// Opens another store to read from it: nothing in it is changed but what opening a store always does.
pub(crate) async fn open_source(dir: PathBuf, own: &Path) -> Result<FsStore, Failure> {
    let (source, own) = (dir.clone(), own.to_owned());
    let is_own = unblock(move || {
        let own = fs::canonicalize(&own);
        Ok(fs::canonicalize(source).is_ok_and(|source| own.is_ok_and(|own| own == source)))
    });
    if is_own.await? {
        return Err(Failure::SourceIsStore { path: dir });
    }
    let mut options = Options::new(dir.clone());
    (options.create, options.compaction) = (Create::Never, Compaction::Manual);
    match FsStore::open(options).await {
        Err(Error::FileNotFound { path }) if path == dir => Err(Failure::NoSource { path }),
        other => Ok(other?),
    }
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) hash: Hash,
    /// Unknown for a bare hash.
    pub(crate) format: Option<BlobFormat>,
    pub(crate) tag: Option<Tag>,
}

/// Looks a name up.
pub(crate) async fn resolve(store: &FsStore, name: &Name) -> Result<Resolved, Failure> {
    let tag = match name {
        Name::Hash(hash, format) => return Ok(Resolved { hash: *hash, format: *format, tag: None }),
        Name::Tag(tag) => tag,
    };
    match (store.get_tag(tag).await?, meant_as_hash(tag)) {
        (Some(content), _) => {
            Ok(Resolved { hash: content.hash, format: Some(content.format), tag: Some(tag.clone()) })
        }
        (None, Some(reason)) => Err(Failure::MalformedHash { text: tag.to_string(), reason }),
        (None, None) => Err(Error::TagNotFound { tag: tag.clone() }.into()),
    }
}

/// Tells what a blob is kept or exported as where nobody said: a hash sequence where it is a collection.
pub(crate) async fn detect(store: &FsStore, hash: Hash) -> Result<HashAndFormat, Failure> {
    let looks_like_one = match store.get(&hash).await? {
        Some(entry) => entry.is_complete() && entry.size().value() >= 32 && entry.size().value() % 32 == 0,
        None => false,
    };
    let is_one = looks_like_one
        && match Collection::load(hash, store).await {
            Ok(_) => true,
            Err(Error::NotACollection { .. } | Error::NotFound { .. } | Error::Incomplete { .. }) => false,
            Err(e) => return Err(e.into()),
        };
    let format = if is_one { BlobFormat::HashSeq } else { BlobFormat::Raw };
    Ok(HashAndFormat::new(hash, format))
}
