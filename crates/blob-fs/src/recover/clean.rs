//! Clears away what a crash left (E41, E47, E62 step 7).

use std::{io, path::Path};

use blob_traits::{Error, Result};

use super::Recovery;
use crate::{
    index::Index,
    layout::{Layout, parse_blob_file},
    quarantine,
    vfs::{Kind, Vfs},
};

/// Whether a name is taken.
pub(super) fn exists(vfs: &dyn Vfs, path: &Path) -> Result<bool> {
    match vfs.stat(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::io("look at", path, e)),
    }
}

/// A name for a store that no store has.
pub(super) fn new_store_id(vfs: &dyn Vfs) -> [u8; 16] {
    let mut id = [0; 16];
    vfs.random(&mut id);
    id
}

/// Empties `temp/`, out of which replay has moved what records name, and removes files of partial blobs that were
/// never begun (E47).
pub(super) fn temporaries(
    vfs: &dyn Vfs,
    layout: &Layout,
    index: &Index,
    recovery: &mut Recovery,
) -> Result<()> {
    let reader = index.reader()?;
    for dir in [layout.temp_dir(), layout.partial_dir()] {
        let names = vfs.read_dir(&dir).map_err(|e| Error::io("list", &dir, e))?;
        for name in names {
            let path = dir.join(&name);
            if dir == layout.partial_dir() {
                // Names that are none of ours are left alone.
                let Some((hash, no, _)) = parse_blob_file(&name) else { continue };
                if reader.blob(&hash)?.is_some_and(|row| row.state.is_partial_in(no)) {
                    continue;
                }
            }
            let is_file = vfs.stat(&path).is_ok_and(|stat| stat.kind != Kind::Dir);
            if !is_file {
                continue;
            }
            let is_sound = recovery.damaged.is_empty() && !recovery.holds_collection;
            let cleared = if is_sound {
                vfs.remove_file(&path).map_err(|e| Error::io("remove", path, e))
            } else {
                // The record that names it may be what is damaged: nothing that might be data is removed (E6).
                put_aside(vfs, layout, &path, recovery)
            };
            match cleared {
                Ok(()) if is_sound => recovery.removed_files += 1,
                // An import of a store that was dropped in this process may have removed it just now.
                Ok(()) | Err(Error::FileNotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// Removes what packed segments have replaced, and makes that durable (E59).
pub(super) fn replaced(vfs: &dyn Vfs, layout: &Layout, ids: &[u32], recovery: &mut Recovery) -> Result<()> {
    for id in ids {
        let path = layout.segment(*id);
        vfs.remove_file(&path).map_err(|e| Error::io("remove", path, e))?;
        recovery.removed_files += 1;
    }
    if ids.is_empty() {
        return Ok(());
    }
    vfs.sync_dir(&layout.log_dir()).map_err(|e| Error::io("sync", layout.log_dir(), e))
}

/// Gives a file another name, in `quarantine/`.
pub(super) fn put_aside(vfs: &dyn Vfs, layout: &Layout, path: &Path, recovery: &mut Recovery) -> Result<()> {
    recovery.quarantined.push(quarantine::put_aside(vfs, layout, path)?);
    Ok(())
}
