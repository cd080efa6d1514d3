//! The files against the rows: what nothing refers to, and what is not the store's.

use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Path, PathBuf},
    sync::PoisonError,
};

use blob_traits::{Error, Hash, Result};
use smallvec::{SmallVec, smallvec};

use super::Check;
use crate::{
    engine::Keys,
    layout::{FileNo, Part, parse_blob_file, parse_segment, parse_temp_file},
    quarantine,
    vfs::Kind,
};

/// What is in the directory of a store.
const KNOWN: [&str; 8] = ["LOCK", "data", "index.redb", "log", "partial", "quarantine", "reserve", "temp"];

impl Check {
    pub(super) fn walk(&self) -> Result<()> {
        let layout = self.engine().layout.clone();
        for (path, name, kind) in self.names(layout.root())? {
            let is_known = name.to_str().is_some_and(|name| KNOWN.contains(&name));
            if !is_known || !matches!(kind, Kind::File | Kind::Dir) {
                self.report_strange(&path)?;
            }
        }
        for (path, name, kind) in self.names(&layout.log_dir())? {
            if kind != Kind::File || parse_segment(&name).is_none() {
                self.report_strange(&path)?;
            }
        }
        for (path, name, kind) in self.names(&layout.data_dir())? {
            if kind == Kind::Dir && is_first_byte(&name) {
                self.walk_data(&path, &name)?;
            } else {
                self.report_strange(&path)?;
            }
        }
        self.walk_partial(&layout.partial_dir())?;
        self.walk_temp(&layout.temp_dir())
    }

    fn walk_data(&self, dir: &Path, first_byte: &OsStr) -> Result<()> {
        for (path, name, kind) in self.names(dir)? {
            match parse_blob_file(&name) {
                Some((hash, no, Part::Data | Part::Outboard))
                    if kind == Kind::File && first_byte == hash.to_string().get(..2).unwrap_or_default() =>
                {
                    self.check_owner(&path, hash, no)?;
                }
                _ => self.report_strange(&path)?,
            }
        }
        Ok(())
    }

    fn walk_partial(&self, dir: &Path) -> Result<()> {
        for (path, name, kind) in self.names(dir)? {
            match parse_blob_file(&name) {
                Some((hash, no, _)) if kind == Kind::File => self.check_owner(&path, hash, no)?,
                _ => self.report_strange(&path)?,
            }
        }
        Ok(())
    }

    fn walk_temp(&self, dir: &Path) -> Result<()> {
        for (path, name, kind) in self.names(dir)? {
            match (parse_blob_file(&name), parse_temp_file(&name)) {
                (Some((hash, no, _)), _) if kind == Kind::File => self.check_owner(&path, hash, no)?,
                (_, Some(no)) if kind == Kind::File => self.check_temporary(&path, no)?,
                _ => self.report_strange(&path)?,
            }
        }
        Ok(())
    }

    /// A file that no record names, and that nobody is just making or removing, is put aside: it may be the last copy.
    fn check_owner(&self, path: &Path, hash: Hash, no: FileNo) -> Result<()> {
        if self.is_wanted(hash, no)? || !self.is_taken(path)? {
            return Ok(());
        }
        let shown = self.shown(path);
        if !self.repairs() {
            let what = format!("{shown} belongs to no record; a repair puts it aside");
            return self.report.warn(what, Some(hash));
        }
        if self.put_aside(path)? {
            self.report.warn(format!("{shown} belongs to no record; it was put aside"), Some(hash))?;
        }
        Ok(())
    }

    /// What was being written when something failed, and that never had a name of its own.
    fn check_temporary(&self, path: &Path, no: FileNo) -> Result<()> {
        if self.engine().issued.contains(no) || !self.is_taken(path)? {
            return Ok(());
        }
        let shown = self.shown(path);
        if !self.repairs() {
            return self.report.warn(format!("{shown} is left over; a repair removes it"), None);
        }
        match self.engine().vfs.remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            _ => self.report.warn(format!("{shown} was left over; it was removed"), None),
        }
    }

    /// Whether a record names the files of a number, or somebody is dealing with them.
    fn is_wanted(&self, hash: Hash, no: FileNo) -> Result<bool> {
        if self.engine().issued.contains(no) {
            return Ok(true);
        }
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        self.engine().decide_unrecorded(&keys, |state, looked| state.is_file_wanted(&hash, no, looked))
    }

    fn report_strange(&self, path: &Path) -> Result<()> {
        let what = format!("{} is not the store's; it is left alone", self.shown(path));
        self.report.warn(what, None)
    }

    /// What is in a directory, in order. What goes meanwhile is left out.
    fn names(&self, dir: &Path) -> Result<Vec<(PathBuf, OsString, Kind)>> {
        self.go_on()?;
        let vfs = &*self.engine().vfs;
        let mut names = vfs.read_dir(dir).map_err(|e| Error::io("list", dir, e))?;
        names.sort_unstable();
        let mut found = Vec::new();
        for name in names {
            let path = dir.join(&name);
            match vfs.stat(&path) {
                Ok(stat) => found.push((path, name, stat.kind)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", path, e)),
            }
        }
        Ok(found)
    }

    pub(super) fn is_taken(&self, path: &Path) -> Result<bool> {
        match self.engine().vfs.stat(path) {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(Error::io("look at", path, e)),
        }
    }

    /// Puts a file aside; `false`: it has gone.
    pub(super) fn put_aside(&self, path: &Path) -> Result<bool> {
        let engine = self.engine();
        // The directory that it leaves is synced (E41).
        let _not_moving = engine.moving.read().unwrap_or_else(PoisonError::into_inner);
        match quarantine::put_aside(&*engine.vfs, &engine.layout, path) {
            Ok(_) => Ok(true),
            Err(Error::FileNotFound { .. }) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A path as a person finds it in the directory of the store.
    pub(super) fn shown(&self, path: &Path) -> String {
        path.strip_prefix(self.engine().layout.root()).unwrap_or(path).display().to_string()
    }
}

fn is_first_byte(name: &OsStr) -> bool {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    name.to_str().is_some_and(|name| name.len() == 2 && name.bytes().all(is_digit))
}
