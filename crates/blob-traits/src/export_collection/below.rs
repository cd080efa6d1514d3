//! Directories below a target, reached from its descriptor and never through a symbolic link.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, fsync, mkdirat, openat, statat},
    io::Errno,
};

use crate::{Error, ExistingTarget, Result};

/// The directory that a collection is written to. The way to it may lead through links: the caller chose it.
#[derive(Debug)]
pub(super) struct Target {
    root: OwnedFd,
    path: PathBuf,
}

/// A directory at or below the target, held open.
#[derive(Debug)]
pub(super) struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
}

impl Target {
    /// Opens the target, if it is there.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        match openat(CWD, path, DIRECTORY, Mode::empty()) {
            Ok(root) => Ok(Some(Self { root, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR) => Err(Error::TargetExists { path: path.to_owned() }),
            Err(e) => Err(Error::io("open", path, e.into())),
        }
    }

    /// Opens the target, or creates it in a directory that is there.
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let parent = path.parent().unwrap_or(&path);
        match mkdirat(CWD, &path, NEW_DIRECTORY) {
            Ok(()) => sync_directory(parent)?,
            Err(Errno::EXIST) => {}
            Err(e) => return Err(Error::io("create a directory in", parent, e.into())),
        }
        Self::open(&path)?.ok_or(Error::FileNotFound { path })
    }

    /// The path of the target.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a directory below the target, named by components with slashes between them, or the target itself by an
    /// empty name; `None` where it is missing.
    pub(super) fn find(&self, name: &str) -> Result<Option<Directory>> {
        let path = self.path.join(name);
        if let Some(descriptor) = open_below(&self.root, name) {
            return Ok(Some(Directory { descriptor, path }));
        }
        let components = name.split('/').filter(|component| !component.is_empty());
        Ok(self.walk(components)?.map(|descriptor| Directory { descriptor, path }))
    }

    /// The same for a directory that must be there.
    pub(super) fn existing(&self, name: &str) -> Result<Directory> {
        self.find(name)?.ok_or_else(|| Error::FileNotFound { path: self.path.join(name) })
    }

    /// Creates the directories that are missing, and makes them durable.
    pub(super) fn create_directories<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<()> {
        let mut changed = BTreeSet::new();
        for name in names.flat_map(with_ancestors).collect::<BTreeSet<_>>() {
            let (parent, last) = super::split(name);
            let directory = self.existing(parent)?;
            match mkdirat(&directory.descriptor, last, NEW_DIRECTORY) {
                Ok(()) => {
                    changed.insert(parent);
                }
                Err(Errno::EXIST) => drop(self.existing(name)?),
                Err(e) => return Err(Error::io("create the directory", directory.path.join(last), e.into())),
            }
        }
        for name in changed {
            self.existing(name)?.sync()?;
        }
        Ok(())
    }

    /// Goes down one component at a time: where the system cannot do it in one call, and to find out what is in the
    /// way.
    fn walk<'a>(&self, components: impl Iterator<Item = &'a str>) -> Result<Option<OwnedFd>> {
        let mut path = self.path.clone();
        let open =
            |parent: &OwnedFd, name: &str| openat(parent, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        let mut here = open(&self.root, ".").map_err(|e| Error::io("open", &path, e.into()))?;
        for component in components {
            path.push(component);
            here = match open(&here, component) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => return Err(Error::TargetExists { path }),
                Err(e) => return Err(Error::io("open", path, e.into())),
            };
        }
        Ok(Some(here))
    }
}

impl Directory {
    /// Refuses to go on where something that stays has the name of a file.
    pub(super) fn check_vacant(&self, name: &str, existing: ExistingTarget) -> Result<()> {
        let path = || self.path.join(name);
        let found = match statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(Error::io("look at", path(), e.into())),
        };
        match (existing, found) {
            (ExistingTarget::Refuse, _) => Err(Error::TargetExists { path: path() }),
            (ExistingTarget::Replace, FileType::RegularFile | FileType::Symlink) => Ok(()),
            (ExistingTarget::Replace, FileType::Directory) => Err(Error::IsADirectory { path: path() }),
            (ExistingTarget::Replace, _) => Err(Error::NotAFile { path: path() }),
        }
    }

    /// A path that stands for this very directory while it is open, whatever becomes of its names. `None` where the
    /// system has no such thing.
    pub(super) fn handle(&self) -> Option<PathBuf> {
        let handle = PathBuf::from(format!("/proc/self/fd/{}", self.descriptor.as_raw_fd()));
        let (by_handle, own) = (statat(CWD, &handle, AtFlags::empty()).ok()?, fstat(&self.descriptor).ok()?);
        ((by_handle.st_dev, by_handle.st_ino) == (own.st_dev, own.st_ino)).then_some(handle)
    }

    fn sync(&self) -> Result<()> {
        fsync(&self.descriptor).map_err(|e| Error::io("sync", &self.path, e.into()))
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Less the user's mask.
const NEW_DIRECTORY: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);

/// Opens a directory in one call that refuses links anywhere on the way; `None` for whatever reason it could not.
#[cfg(target_os = "linux")]
fn open_below(root: &OwnedFd, name: &str) -> Option<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    let name = if name.is_empty() { "." } else { name };
    openat2(root, name, DIRECTORY, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_below(_: &OwnedFd, _: &str) -> Option<OwnedFd> {
    None
}

fn sync_directory(path: &Path) -> Result<()> {
    let sync = || -> io::Result<()> { Ok(fsync(openat(CWD, path, DIRECTORY, Mode::empty())?)?) };
    sync().map_err(|e| Error::io("sync", path, e))
}

/// `a/b/c` with `a` and `a/b` before it; nothing for the empty name.
fn with_ancestors(name: &str) -> impl Iterator<Item = &str> {
    let ends = name.match_indices('/').map(|(end, _)| end).chain((!name.is_empty()).then_some(name.len()));
    ends.filter_map(|end| name.get(..end))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// A target with a directory, a file, and links to both and to what lies outside.
    fn target() -> (tempfile::TempDir, Target) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("target");
        fs::create_dir_all(root.join("real/deep")).unwrap();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(root.join("file"), "kept").unwrap();
        symlink("real", root.join("inner")).unwrap();
        symlink(temp.path().join("outside"), root.join("outer")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("..", root.join("real/up")).unwrap();
        let target = Target::open(&root).unwrap().unwrap();
        (temp, target)
    }

    #[test]
    fn a_link_is_never_a_directory() {
        let (_temp, target) = target();
        for (name, link) in [
            ("inner", "inner"),
            ("outer", "outer"),
            ("outer/x", "outer"),
            ("inner/deep", "inner"),
            ("dangling/x", "dangling"),
            ("real/up", "real/up"),
            ("real/up/real", "real/up"),
            ("file/x", "file"),
        ] {
            let error = target.find(name).unwrap_err();
            assert!(
                matches!(&error, Error::TargetExists { path } if *path == target.path().join(link)),
                "{error:?}"
            );
            assert!(target.create_directories([name].into_iter()).is_err());
        }
        assert!(fs::read_dir(target.path().join("../outside")).unwrap().next().is_none());
    }

    #[test]
    fn walking_finds_what_one_call_finds() {
        let (_temp, target) = target();
        for name in ["", "real", "real/deep", "missing", "real/missing", "inner", "real/up/real", ".."] {
            let in_one_call = open_below(&target.root, name).is_some();
            let components = name.split('/').filter(|component| !component.is_empty());
            // A name like the last never comes this far; one call refuses it even so.
            let walked = name != ".." && matches!(target.walk(components), Ok(Some(_)));
            assert_eq!(
                in_one_call && cfg!(target_os = "linux"),
                walked && cfg!(target_os = "linux"),
                "{name}"
            );
        }
    }

    #[test]
    fn missing_directories_are_created_with_their_ancestors() {
        let (_temp, target) = target();
        assert!(target.find("a/b").unwrap().is_none());
        target.create_directories(["a/b/c", "a/d", "", "real/deep/e"].into_iter()).unwrap();
        for name in ["a/b/c", "a/d", "real/deep/e"] {
            assert!(target.path().join(name).is_dir());
        }
    }

    #[test]
    fn what_is_in_the_way_is_told_apart() {
        let (_temp, target) = target();
        let top = target.existing("").unwrap();
        rustix::fs::mknodat(CWD, target.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        for name in ["file", "outer", "dangling", "real", "fifo"] {
            let refused = top.check_vacant(name, ExistingTarget::Refuse);
            assert!(matches!(refused, Err(Error::TargetExists { .. })), "{name}");
        }
        for name in ["file", "outer", "dangling", "missing"] {
            top.check_vacant(name, ExistingTarget::Replace).unwrap();
        }
        assert!(matches!(top.check_vacant("real", ExistingTarget::Replace), Err(Error::IsADirectory { .. })));
        assert!(matches!(top.check_vacant("fifo", ExistingTarget::Replace), Err(Error::NotAFile { .. })));
        top.check_vacant("missing", ExistingTarget::Refuse).unwrap();
    }

    #[test]
    fn the_target_itself_may_be_a_link_and_is_created_in_what_is_there() {
        let (temp, _target) = target();
        symlink("outside", temp.path().join("link")).unwrap();
        assert!(Target::open(&temp.path().join("link")).unwrap().is_some());
        assert!(Target::open(&temp.path().join("new")).unwrap().is_none());
        Target::create(temp.path().join("new")).unwrap();
        let orphan = Target::create(temp.path().join("missing/new"));
        assert!(matches!(orphan, Err(Error::FileNotFound { path }) if path == temp.path().join("missing")));
        let file = Target::open(&temp.path().join("target/file"));
        assert!(matches!(file, Err(Error::TargetExists { .. })));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_handle_leads_to_the_directory_under_any_name() {
        let (_temp, target) = target();
        let directory = target.existing("real/deep").unwrap();
        let Some(handle) = directory.handle() else { return };
        fs::rename(target.path().join("real/deep"), target.path().join("moved")).unwrap();
        symlink("/", target.path().join("real/deep")).unwrap();
        fs::write(handle.join("new"), "here").unwrap();
        assert_eq!(fs::read(target.path().join("moved/new")).unwrap(), b"here");
    }
}
