//! The files of a store that is closed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// All that is no directory below one, relative to it, in order.
pub(crate) fn paths_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(dir.join(&at))? {
            let entry = entry?;
            let path = at.join(entry.file_name());
            if entry.file_type()?.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// The files of a store that is closed, to be put back after they were tampered with.
#[derive(PartialEq, Eq)]
pub(crate) struct Copied(pub(crate) Vec<(PathBuf, Vec<u8>)>);

impl Copied {
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let copy = paths_below(dir)?.into_iter().map(|path| Ok((path.clone(), fs::read(dir.join(path))?)));
        Ok(Self(copy.collect::<io::Result<_>>()?))
    }

    /// At most so many of the files, evenly chosen: those next to each other are much alike.
    pub(crate) fn some(&self, n: usize) -> impl Iterator<Item = &Path> {
        self.0.iter().step_by(self.0.len().div_ceil(n).max(1)).map(|(path, _)| path.as_path())
    }

    /// Makes the directory what it was.
    pub(crate) fn put_back(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)?;
        for (path, bytes) in &self.0 {
            let place = dir.join(path);
            fs::create_dir_all(place.parent().unwrap_or(dir))?;
            fs::write(place, bytes)?;
        }
        Ok(())
    }
}
