//! What a directory takes.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Blocks given to files, in bytes.
    pub(crate) allocated: u64,
    /// Sum of the files' lengths.
    pub(crate) length: u64,
}

/// Adds up all files below `dir`.
pub(crate) fn usage(dir: &Path) -> Result<Usage> {
    let mut total = Usage::default();
    let mut pending = vec![dir.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("listing {}", dir.display()))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                pending.push(entry.path());
            } else {
                total.allocated += metadata.blocks() * 512;
                total.length += metadata.len();
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_count_in_the_length_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::File::create(dir.path().join("sub/hole")).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(usage(dir.path()).unwrap(), Usage { allocated: 0, length: 1 << 20 });
    }
}
