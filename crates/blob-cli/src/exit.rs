//! How the command ends: exit codes, and failures with what to do about them.

use std::{io, path::PathBuf, process::ExitCode};

use blob_gc::GcError;
use blob_traits::{Error, ErrorInfo, Hash, ParseHashError, Tag};

use crate::range::BeyondEnd;

/// The exit codes, as `--help` and the manual list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Ok = 0,
    Error = 1,
    Usage = 2,
    Partly = 3,
    Refused = 4,
    Damage = 5,
    NoStore = 10,
    Busy = 11,
    Interrupted = 130,
}

impl Exit {
    /// The name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Usage => "usage",
            Self::Partly => "partly",
            Self::Refused => "refused",
            Self::Damage => "damage",
            Self::NoStore => "no-store",
            Self::Busy => "busy",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a verb, or its work on one of its arguments, failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] Error),
    /// What is kept could not be found out, or nothing is.
    #[error("{0}")]
    Collection(#[source] GcError),
    #[error("{message}")]
    Usage { message: String, hint: &'static str },
    #[error("\"{text}\" is no hash: {reason}")]
    MalformedHash { text: String, reason: ParseHashError },
    #[error("there is no store in {}", dir.display())]
    NoStore { dir: PathBuf },
    #[error(
        "no directory for the store: neither --store nor BLOB_STORE is given, and the user has no home directory"
    )]
    NoDirectory,
    #[error("{} is a directory", path.display())]
    Directory { path: PathBuf },
    #[error("{} has a name that is not UTF-8; a collection cannot name it", path.display())]
    NonUtf8Name { path: PathBuf },
    #[error("{} is {what}; a collection holds regular files only", path.display())]
    Special { path: PathBuf, what: &'static str },
    #[error("{} is the store; it is not added to itself", path.display())]
    StoreInside { path: PathBuf },
    #[error("there is no store in {} to repair from", path.display())]
    NoSource { path: PathBuf },
    #[error("{} is the store itself; it cannot be repaired from there", path.display())]
    SourceIsStore { path: PathBuf },
    #[error("{} is in the way: it is no directory", path.display())]
    InTheWay { path: PathBuf },
    #[error("{hash}: {source}")]
    BeyondEnd { hash: Hash, source: BeyondEnd },
    #[error("tag \"{tag}\" keeps blob {hash}; it is not removed")]
    Kept { hash: Hash, tag: Tag },
    #[error("tag \"{tag}\" exists already")]
    TagExists { tag: Tag },
    #[error("the stream does not end where the ranges end")]
    TrailingBytes,
    #[error("the stream is cut off")]
    CutOff,
    #[error("the stream does not belong to blob {hash}, as seen at byte {offset}")]
    WrongStream { hash: Hash, offset: u64 },
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Whoever read standard output has seen enough.
    #[error("standard output was closed")]
    Closed,
    #[error("a bug in this program ended the work: {0}")]
    Bug(String),
    #[error("interrupted")]
    Interrupted,
}

impl Failure {
    /// The exit code of a command that ends with this.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => exit_of(error),
            Self::Collection(GcError::UnreadableSequence { source, .. })
                if exit_of(source) == Exit::Damage =>
            {
                Exit::Damage
            }
            Self::Usage { .. } | Self::MalformedHash { .. } | Self::SourceIsStore { .. } => Exit::Usage,
            Self::NoStore { .. } => Exit::NoStore,
            Self::Collection(_) | Self::Kept { .. } | Self::TagExists { .. } | Self::InTheWay { .. } => {
                Exit::Refused
            }
            Self::TrailingBytes | Self::CutOff | Self::WrongStream { .. } => Exit::Damage,
            Self::Closed => Exit::Ok,
            Self::Interrupted => Exit::Interrupted,
            Self::NoDirectory
            | Self::Directory { .. }
            | Self::NonUtf8Name { .. }
            | Self::Special { .. }
            | Self::StoreInside { .. }
            | Self::NoSource { .. }
            | Self::BeyondEnd { .. }
            | Self::Output(_)
            | Self::Bug(_) => Exit::Error,
        }
    }

    /// The name of the failure, the same in every release.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Collection(error) => error.code(),
            Self::Usage { .. } => "usage",
            Self::MalformedHash { .. } => "malformed-hash",
            Self::NoStore { .. } => "no-store",
            Self::NoDirectory => "no-directory",
            Self::Directory { .. } => "is-a-directory",
            Self::NonUtf8Name { .. } => "non-utf8-name",
            Self::Special { .. } => "special-file",
            Self::StoreInside { .. } => "store-inside",
            Self::NoSource { .. } => "no-source",
            Self::SourceIsStore { .. } => "source-is-store",
            Self::BeyondEnd { .. } => "beyond-end",
            Self::Kept { .. } => "kept-by-tag",
            Self::TagExists { .. } => "tag-exists",
            Self::InTheWay { .. } => "in-the-way",
            Self::TrailingBytes => "trailing-bytes",
            Self::CutOff => "cut-off",
            Self::WrongStream { .. } => "mismatch",
            Self::Output(_) | Self::Closed => "output",
            Self::Bug(_) => "bug",
            Self::Interrupted => "interrupted",
        }
    }

    /// What the user can do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => hint_for(error),
            Self::Collection(error) => hint_for_collection(error),
            Self::Usage { hint, .. } => (!hint.is_empty()).then_some(hint),
            Self::MalformedHash { .. } => Some("`blob ls` lists the hashes, `blob tag ls` the tags"),
            Self::NoStore { .. } => Some("`blob add` creates one; --store or BLOB_STORE says where it is"),
            Self::NoDirectory => Some("give --store DIR"),
            Self::Directory { .. } => Some("add -r to store it as a collection"),
            Self::NonUtf8Name { .. } => Some("rename it, or leave it out with --skip-special"),
            Self::Special { .. } => Some("add --skip-special to leave such entries out"),
            Self::StoreInside { .. } => Some("use another --store"),
            Self::NoSource { .. } => {
                Some("--from takes the directory of a store, HASH=FILE, or bao:HASH[:RANGES]=FILE")
            }
            Self::SourceIsStore { .. } => Some("give --from a copy"),
            Self::BeyondEnd { .. } => Some("`blob stat` shows the size"),
            Self::Kept { .. } => Some("remove the tag with `blob tag rm`, or add --force"),
            Self::TagExists { .. } => Some("add --force to replace it"),
            Self::InTheWay { .. } => Some("move it away, or export somewhere else; links are not followed"),
            Self::TrailingBytes | Self::CutOff | Self::WrongStream { .. } => {
                Some("give the hash and the ranges (-r) that it was encoded with; otherwise get it again")
            }
            Self::Bug(_) => Some("please report it"),
            Self::Output(_) | Self::Closed | Self::Interrupted => None,
        }
    }

    /// The whole message, with those of the sources.
    pub(crate) fn info(&self) -> ErrorInfo {
        let mut info = match self {
            Self::Store(error) => return ErrorInfo::from(error),
            Self::Collection(GcError::UnreadableSequence { source, .. }) => {
                self.plain(format!("{self}: {}", ErrorInfo::from(source).message))
            }
            Self::Output(source) => self.plain(format!("{self}: {source}")),
            other => self.plain(other.to_string()),
        };
        match self {
            Self::Collection(error) => info.hash = error.hash(),
            Self::BeyondEnd { hash, .. } | Self::Kept { hash, .. } | Self::WrongStream { hash, .. } => {
                info.hash = Some(*hash);
            }
            Self::NoStore { dir: path }
            | Self::Directory { path }
            | Self::NonUtf8Name { path }
            | Self::Special { path, .. }
            | Self::StoreInside { path }
            | Self::NoSource { path }
            | Self::SourceIsStore { path }
            | Self::InTheWay { path } => {
                info.path = Some(path.to_string_lossy().into_owned());
            }
            _ => {}
        }
        info
    }

    fn plain(&self, message: String) -> ErrorInfo {
        ErrorInfo { code: self.code().to_owned(), message, hash: None, path: None }
    }

    /// A failure to write to standard output.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Closed } else { Self::Output(error) }
    }
}

impl From<GcError> for Failure {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Store(error) => Self::Store(error),
            other => Self::Collection(other),
        }
    }
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::TargetExists { .. } | Error::UnsafeName { .. } => Exit::Refused,
        Error::Mismatch { .. }
        | Error::Changed { .. }
        | Error::Damaged { .. }
        | Error::DamagedStore { .. } => Exit::Damage,
        Error::Locked { .. } => Exit::Busy,
        Error::Cancelled => Exit::Interrupted,
        _ => Exit::Error,
    }
}

fn hint_for(error: &Error) -> Option<&'static str> {
    Some(match error {
        Error::NotFound { .. } => "`blob ls` lists what is there",
        Error::Incomplete { .. } | Error::SizeUnverified { .. } => {
            "`blob stat` shows what is there; `blob bao decode --import` adds the rest"
        }
        Error::SizeConflict { .. } => {
            "the stream states another size than the store knows; get the stream again"
        }
        Error::TooLarge { .. } => "split the file, or use a store with a higher limit",
        Error::Mismatch { .. } => {
            "the stored bytes are damaged; `blob validate --repair` keeps what is sound, with --from COPY it gets back the rest"
        }
        Error::Changed { .. } => "add the file again; without --reference the store keeps a copy of its own",
        Error::Damaged { .. } => {
            "`blob validate --repair` keeps what is sound of it, with --from COPY it gets back the rest"
        }
        Error::NotACollection { .. } => "`blob get` reads it as it is",
        Error::TagNotFound { .. } => "`blob tag ls` lists the tags",
        Error::FileNotFound { .. } => "check the spelling of the path",
        Error::IsADirectory { .. } => "name a file in it",
        Error::NotAFile { .. } => {
            "only regular files can be stored and written; pipe others in: `... | blob add -`"
        }
        Error::PermissionDenied { .. } => "check the permissions of the file and of the directories above it",
        Error::TargetExists { .. } => "add --force to replace it",
        Error::UnsafeName { .. } => {
            "nothing was written; `blob ls` with the collection lists its blobs, `blob get` reads each of them"
        }
        Error::NoSpace { .. } => "make room on the disk and try again; nothing in the store was lost",
        Error::Locked { .. } => "wait for the other process, or end it",
        Error::UnsupportedFormat { .. } => "use a newer release of this program; nothing was changed",
        Error::DamagedStore { .. } => {
            "keep a copy of the directory before anything else; nothing was changed"
        }
        Error::Closed | Error::Failed { .. } => "run the command again",
        _ => return None,
    })
}

fn hint_for_collection(error: &GcError) -> Option<&'static str> {
    Some(match error {
        GcError::UnreadableSequence { .. } => {
            "nothing was deleted; mend it with `blob validate --repair --from COPY`, or remove the tag that names it \
             (`blob tag ls`)"
        }
        GcError::MalformedSequence { .. } => {
            "nothing was deleted; keep it as it is with `blob tag set TAG HASH --format raw`, or remove its tag"
        }
        GcError::NoRoots => {
            "nothing was deleted; `blob tag set` keeps a blob, --allow-empty deletes all of them"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_names_the_source_once() {
        let error = Error::io("write", "/x", io::Error::other("broken"));
        assert_eq!(Failure::from(error).info().message, "write /x: broken");
        let source = BeyondEnd { start: 5, size: 1 };
        let failure = Failure::BeyondEnd { hash: Hash::EMPTY, source };
        assert_eq!(failure.info().message, format!("{}: {source}", Hash::EMPTY));
        assert_eq!(failure.info().hash, Some(Hash::EMPTY));
    }

    #[test]
    fn a_closed_pipe_is_no_error() {
        assert_eq!(Failure::output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Ok);
        assert_eq!(Failure::output(io::ErrorKind::StorageFull.into()).exit(), Exit::Error);
    }

    #[test]
    fn exit_codes_are_those_of_the_manual() {
        let damaged = Error::Damaged { hash: Hash::EMPTY, what: String::new() };
        let busy = Error::Locked { path: "/x".into(), holder: None };
        for (failure, code) in [
            (Failure::Usage { message: String::new(), hint: "" }, 2),
            (Error::TargetExists { path: "/x".into() }.into(), 4),
            (damaged.into(), 5),
            (Failure::NoStore { dir: "/x".into() }, 10),
            (busy.into(), 11),
            (Error::Cancelled.into(), 130),
            (Error::FileNotFound { path: "/x".into() }.into(), 1),
        ] {
            assert_eq!(failure.exit() as u8, code, "{failure}");
        }
    }
}
