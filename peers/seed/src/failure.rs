//! Which of our errors says what one of the seed's says.

use std::{
    io,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Hash, Tag};

/// What a call was about: an `io::Error` does not say.
#[derive(Debug)]
pub(crate) enum About {
    Store,
    Blob(Hash),
    Tag(Tag),
    /// A file that is imported.
    Source(PathBuf),
    /// A blob that is exported to a file.
    Target(Hash, PathBuf),
}

/// Translates by kind; what the seed tells in words only stays [`Error::Io`].
pub(crate) fn translate(error: io::Error, about: About) -> Error {
    let by_system = error.raw_os_error().is_some();
    match (Error::from(error), about) {
        (Error::Io { source, .. }, about) => match (source.kind(), about) {
            (io::ErrorKind::NotFound, About::Blob(hash)) => Error::NotFound { hash },
            (io::ErrorKind::NotFound, About::Target(hash, _)) if !by_system => Error::NotFound { hash },
            (io::ErrorKind::NotFound, About::Tag(tag)) => Error::TagNotFound { tag },
            (io::ErrorKind::InvalidInput, About::Source(path) | About::Target(_, path))
                if path.is_relative() =>
            {
                Error::RelativePath { path }
            }
            (io::ErrorKind::InvalidInput, About::Source(path)) => Error::NotAFile { path },
            (_, About::Source(path)) => Error::io("import", path, source),
            (_, About::Target(_, path)) => Error::io("export", path, source),
            (_, _) => source.into(),
        },
        (other, _) => other,
    }
}

/// Translates why a file store could not be opened; that it is open already its database says with a type.
pub(crate) fn translate_open(error: io::Error, dir: &Path) -> Error {
    let database = error.get_ref().and_then(|e| e.source()).and_then(|e| e.downcast_ref());
    match database {
        Some(redb::DatabaseError::DatabaseAlreadyOpen) => Error::Locked { path: dir.into(), holder: None },
        _ => Error::io("open", dir, error),
    }
}
