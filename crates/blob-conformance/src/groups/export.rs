//! Taking blobs and collections out.

pub mod children;
pub mod collection;
pub mod copy;
pub mod events;
pub mod faults;
pub mod names;
pub mod obstacles;
pub mod reference;
pub mod target;

use std::{fs, path::Path};

use blob_traits::{ExistingTarget, Export, ExportMode, ExportOptions, Hash, Progress, Result, Store};

use crate::{Group, Sample};

/// The cases of this group.
pub fn group<S: Store>() -> Group<S> {
    copy::group()
        .and(target::group())
        .and(events::group())
        .and(faults::group())
        .and(reference::group())
        .and(collection::group())
        .and(children::group())
        .and(names::group())
        .and(obstacles::group())
}

const MODES: [ExportMode; 2] = [ExportMode::Copy, ExportMode::TryReference];

/// Replaces what is there.
fn replacing(mode: ExportMode) -> ExportOptions {
    ExportOptions { mode, existing: ExistingTarget::Replace }
}

/// Exports and reports to nobody.
async fn export<S: Export>(
    store: &S,
    hash: Hash,
    target: &Path,
    options: impl Into<ExportOptions> + Send,
) -> Result<()> {
    store.export(hash, target.to_owned(), options, Progress::none()).await
}

/// Fails unless the file has the bytes of the sample; says so without printing them.
#[track_caller]
fn assert_holds(path: &Path, sample: &Sample) {
    let found = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(found == sample.data, "{} has {} bytes of {}", path.display(), found.len(), sample.size());
}

/// Whether the file system of a directory lets files share their blocks.
fn shares_blocks(dir: &Path) -> std::io::Result<bool> {
    let (from, to) = (dir.join("shared from"), dir.join("shared to"));
    fs::write(&from, [7; 8192])?;
    let shared = share(&fs::File::open(&from)?, &fs::File::create(&to)?);
    fs::remove_file(from)?;
    fs::remove_file(to)?;
    Ok(shared)
}

#[cfg(target_os = "linux")]
fn share(from: &fs::File, to: &fs::File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share(_: &fs::File, _: &fs::File) -> bool {
    false
}
