//! What was put aside: damaged pieces, and files that nothing refers to. Nothing here is read again, and nothing is
//! removed unless somebody says so (E6).

use std::{
    io,
    path::{Path, PathBuf},
};

use blob_traits::{Error, Hash, Result, blocking::unblock};

use crate::{
    layout::{FileNo, Layout, parse_blob_file},
    store::FsStore,
    vfs::{Kind, Vfs},
};

/// A file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Where it is now.
    pub path: PathBuf,
    /// The name that it had.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// The blob that it belonged to, by its name.
    pub hash: Option<Hash>,
}

impl FsStore {
    /// Lists the files that were put aside, by name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`].
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>> {
        self.engine.state().check_readable()?;
        let engine = self.engine.clone();
        unblock(move || list(&*engine.vfs, &engine.layout)).await
    }

    /// Removes the files that were put aside, and says how many bytes they had. There is no way back.
    ///
    /// Durable when it returns. Dropping the future leaves some or all of them removed.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Closed`]. Some may be removed then.
    pub async fn purge_quarantine(&self) -> Result<u64> {
        self.engine.state().check_readable()?;
        let engine = self.engine.clone();
        unblock(move || purge(&*engine.vfs, &engine.layout)).await
    }
}

/// Lists what was put aside.
pub(crate) fn list(vfs: &dyn Vfs, layout: &Layout) -> Result<Vec<Quarantined>> {
    let dir = layout.quarantine_dir();
    let mut names = match vfs.read_dir(&dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(|e| Error::io("list", &dir, e))?,
    };
    names.sort_unstable();
    let mut found = Vec::new();
    for stored in names {
        let path = dir.join(&stored);
        let size = match vfs.stat(&path) {
            // A directory was put there by somebody else.
            Ok(stat) if stat.kind == Kind::Dir => continue,
            Ok(stat) => stat.size,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("look at", path, e)),
        };
        let name = original_name(&stored.to_string_lossy());
        let hash = parse_blob_file(name.as_ref()).map(|(hash, _, _)| hash);
        found.push(Quarantined { path, name, size, hash });
    }
    Ok(found)
}

/// How many bytes were put aside.
pub(crate) fn bytes(vfs: &dyn Vfs, layout: &Layout) -> Result<u64> {
    Ok(list(vfs, layout)?.iter().map(|file| file.size).sum())
}

fn purge(vfs: &dyn Vfs, layout: &Layout) -> Result<u64> {
    let mut freed = 0;
    for Quarantined { path, size, .. } in list(vfs, layout)? {
        match vfs.remove_file(&path) {
            Ok(()) => freed += size,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("remove", path, e)),
        }
    }
    if freed > 0 {
        let dir = layout.quarantine_dir();
        vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))?;
    }
    Ok(freed)
}

/// Gives a file another name, in `quarantine/`, durably; returns that name.
pub(crate) fn put_aside(vfs: &dyn Vfs, layout: &Layout, path: &Path) -> Result<PathBuf> {
    let dir = layout.quarantine_dir();
    ensure(vfs, layout)?;
    let to = dir.join(format!("{}-{}", path.file_name().unwrap_or_default().to_string_lossy(), new_no(vfs)));
    vfs.rename(path, &to).map_err(|e| Error::io("put aside", path, e))?;
    for dir in [dir.as_path(), path.parent().unwrap_or(&dir)] {
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))?;
    }
    Ok(to)
}

/// Sees to it that there is a `quarantine/`, durably.
pub(crate) fn ensure(vfs: &dyn Vfs, layout: &Layout) -> Result<()> {
    let dir = layout.quarantine_dir();
    match vfs.create_dir(&dir) {
        Ok(()) => vfs.sync_dir(layout.root()).map_err(|e| Error::io("sync", layout.root(), e)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(Error::io("create", dir, e)),
    }
}

fn new_no(vfs: &dyn Vfs) -> FileNo {
    let mut no = [0; 8];
    vfs.random(&mut no);
    FileNo(u64::from_le_bytes(no))
}

/// The name before [`put_aside`] made it unique.
fn original_name(stored: &str) -> String {
    let is_no = |no: &str| no.len() == 16 && no.bytes().all(|b| b.is_ascii_hexdigit());
    match stored.rsplit_once('-') {
        Some((name, no)) if is_no(no) => name.to_owned(),
        _ => stored.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_from_before_comes_back() {
        let before = format!("{}-00000000000000ff.data", Hash::EMPTY);
        assert_eq!(original_name(&format!("{before}-0123456789abcdef")), before);
        // Put there by hand.
        assert_eq!(original_name("a-b"), "a-b");
        assert_eq!(original_name("00ff.seg"), "00ff.seg");
    }
}
