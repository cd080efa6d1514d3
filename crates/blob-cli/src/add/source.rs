//! What `blob add` is given, looked at before anything is stored.

use std::{fs, path::PathBuf};

use blob_traits::{Error, ExportNameError, ImportMode, ImportSource, check_export_names};
use tokio_util::io::ReaderStream;

use super::walk::{Found, Special, walk};
use crate::{exit::Failure, open::absolute};

/// One argument.
#[derive(Debug)]
pub(super) struct Source {
    /// As it was given.
    pub(super) path: PathBuf,
    pub(super) content: Content,
    /// What was left out.
    pub(super) skipped: Vec<Failure>,
}

#[derive(Debug)]
pub(super) enum Content {
    Stdin,
    File { path: PathBuf, n_bytes: u64 },
    Directory(Vec<Found>),
}

/// Where the bytes of one file come from.
#[derive(Debug)]
pub(super) enum Input {
    Stdin,
    File(PathBuf),
}

/// How arguments are looked at.
pub(super) struct Wanted {
    /// The directory of the store, which is left out.
    pub(super) store: PathBuf,
    /// Whether directories are taken.
    pub(super) recursive: bool,
    pub(super) special: Special,
    /// Called for every file that is found below a directory.
    pub(super) on_file: Box<dyn Fn(&Found) + Send + Sync>,
}

/// Looks at an argument. A link that is named here is followed; one below a directory is not.
pub(super) fn scan(path: PathBuf, wanted: &Wanted) -> Result<Source, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Source { path, content: Content::Stdin, skipped: Vec::new() });
    }
    let place = absolute(&path)?;
    let found = fs::metadata(&place).map_err(|e| Error::io("look at", &path, e))?;
    let (content, skipped) = match (found.is_dir(), wanted.recursive) {
        (true, true) => {
            let scan = walk(&place, &wanted.store, wanted.special, &*wanted.on_file)?;
            (Content::Directory(scan.files), scan.skipped)
        }
        (true, false) => return Err(Failure::Directory { path }),
        (false, _) if !found.is_file() => return Err(Error::NotAFile { path }.into()),
        (false, _) => (Content::File { path: place, n_bytes: found.len() }, Vec::new()),
    };
    Ok(Source { path, content, skipped })
}

impl Source {
    pub(super) fn n_files(&self) -> u64 {
        match &self.content {
            Content::Directory(files) => files.len() as u64,
            _ => 1,
        }
    }

    /// As far as it is known.
    pub(super) fn n_bytes(&self) -> u64 {
        match &self.content {
            Content::Stdin => 0,
            Content::File { n_bytes, .. } => *n_bytes,
            Content::Directory(files) => files.iter().map(|file| file.n_bytes).sum(),
        }
    }

    /// Takes the files out, with their names in a collection.
    pub(super) fn take_files(&mut self) -> Vec<(String, Input)> {
        match &mut self.content {
            Content::Stdin => vec![(String::new(), Input::Stdin)],
            Content::File { path, .. } => vec![(String::new(), Input::File(path.clone()))],
            Content::Directory(files) => {
                let files = std::mem::take(files).into_iter();
                files.map(|file| (file.name, Input::File(file.path))).collect()
            }
        }
    }

    /// Says why the collection could not be written out again.
    pub(super) fn not_exportable(&self) -> Option<ExportNameError> {
        match &self.content {
            Content::Directory(files) => {
                check_export_names(files.iter().map(|file| file.name.as_str())).err()
            }
            _ => None,
        }
    }
}

impl Input {
    pub(super) fn open(self, mode: ImportMode) -> ImportSource {
        match self {
            Self::Stdin => {
                ImportSource::Stream(Box::pin(ReaderStream::with_capacity(tokio::io::stdin(), 64 << 10)))
            }
            Self::File(path) => ImportSource::File { path, mode },
        }
    }
}
