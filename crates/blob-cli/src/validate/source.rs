//! Where lost bytes may be found, as it is written on the command line.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
};

use blob_traits::{Error, Hash, ReadOnly, blocking::unblock};
use blob_validate::Source;

use super::slice;
use crate::{
    exit::Failure,
    open::absolute,
    output::shown_path,
    range::{ByteRange, RangeError, Ranges},
    run::Context,
};

/// A source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// The directory of a store.
    Store(PathBuf),
    /// A file with bytes of a blob, at the places that they have in it.
    File { hash: Hash, path: PathBuf },
    /// A file with a verified stream.
    Slice { hash: Hash, ranges: Ranges, path: PathBuf },
}

/// Says what is wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FromError {
    #[error("behind bao: comes HASH=FILE, or HASH:RANGES=FILE")]
    NoHash,
    #[error(transparent)]
    Range(#[from] RangeError),
}

impl From {
    /// Parses `DIR`, `HASH=FILE` or `bao:HASH[:RANGES]=FILE`. What has no hash before its `=` is a directory.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, FromError> {
        let bytes = text.as_encoded_bytes();
        let Some(slice) = bytes.strip_prefix(b"bao:") else {
            let file = split(bytes).and_then(|(hash, path)| Some((hash.parse().ok()?, path)));
            return Ok(match file {
                Some((hash, path)) => Self::File { hash, path },
                None => Self::Store(text.into()),
            });
        };
        let (name, path) = split(slice).ok_or(FromError::NoHash)?;
        let (hash, ranges) = match name.split_once(':') {
            Some((hash, ranges)) => (hash, ByteRange::parse_list(ranges)?),
            None => (name, vec![ByteRange::ALL]),
        };
        let hash = hash.parse().map_err(|_| FromError::NoHash)?;
        Ok(Self::Slice { hash, ranges, path })
    }

    /// Opens what was named. What is not there is noticed now, not after hours of looking.
    pub(super) async fn open(&self, context: &Context) -> Result<Source, Failure> {
        match self {
            Self::Store(dir) => {
                let store = context.open_source(absolute(dir)?).await?;
                Ok(Source::store(shown_path(dir), ReadOnly::new(store)))
            }
            Self::File { hash, path } => {
                let file = path.clone();
                unblock(move || expect_file(file)).await?;
                Ok(Source::file(*hash, path))
            }
            Self::Slice { hash, ranges, path } => {
                let file = path.clone();
                unblock(move || expect_file(file)).await?;
                slice::open(*hash, ranges, path).await
            }
        }
    }
}

/// What is before the first `=`, where that is plain text, and what is behind it.
fn split(bytes: &[u8]) -> Option<(&str, PathBuf)> {
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let name = str::from_utf8(bytes.get(..at)?).ok()?;
    let path = path_of(bytes.get(at + 1..)?);
    (!path.as_os_str().is_empty()).then_some((name, path))
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    OsString::from_vec(bytes.to_owned()).into()
}

fn expect_file(path: PathBuf) -> Result<(), Error> {
    let found = fs::metadata(&path).map_err(|e| Error::io("look at", &path, e))?;
    match () {
        () if found.is_dir() => Err(Error::IsADirectory { path }),
        () if !found.is_file() => Err(Error::NotAFile { path }),
        () => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_store_unless_a_hash_says_otherwise() {
        let hash = Hash::new(b"x");
        let parse = |text: &str| From::parse(OsStr::new(text));
        assert_eq!(parse("/a/copy"), Ok(From::Store("/a/copy".into())));
        assert_eq!(parse("a=b"), Ok(From::Store("a=b".into())));
        assert_eq!(parse(&format!("{hash}=")), Ok(From::Store(format!("{hash}=").into())));
        assert_eq!(parse(&format!("{hash}=a=b")), Ok(From::File { hash, path: "a=b".into() }));
        let slice = |ranges: &str| {
            Ok(From::Slice { hash, ranges: ByteRange::parse_list(ranges).unwrap(), path: "f".into() })
        };
        assert_eq!(parse(&format!("bao:{hash}=f")), slice(".."));
        assert_eq!(parse(&format!("bao:{hash}:0..5,7+1=f")), slice("0..5,7+1"));
        assert_eq!(parse("bao:x=f"), Err(FromError::NoHash));
        assert_eq!(parse("bao:f"), Err(FromError::NoHash));
        assert!(matches!(parse(&format!("bao:{hash}:9..1=f")), Err(FromError::Range(_))));
    }
}
