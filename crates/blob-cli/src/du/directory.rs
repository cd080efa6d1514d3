//! What the directory of a store takes on the disk.

use std::{io, os::unix::fs::MetadataExt, path::Path};

use blob_traits::{Error, Result};
use serde_json::{Map, Value};
use walkdir::WalkDir;

/// The kinds of files, by where they lie.
const KINDS: [(&str, &str); 7] = [
    ("log", "log"),
    ("data", "data"),
    ("partial", "partial"),
    ("index", "index.redb"),
    ("quarantine", "quarantine"),
    ("reserve", "reserve"),
    ("temp", "temp"),
];

/// Room on the disk, in bytes, for each kind of file. Holes take none.
#[derive(Debug, Default)]
pub(super) struct OnDisk {
    by_kind: [u64; KINDS.len()],
    /// With what is of no kind.
    total: u64,
}

impl OnDisk {
    /// Adds up what is below a directory.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        let mut on_disk = Self::default();
        for entry in WalkDir::new(dir).min_depth(1) {
            let found = entry.and_then(|entry| Ok((entry.metadata()?, entry)));
            match found {
                Ok((metadata, entry)) => {
                    let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
                    on_disk.count(below, metadata.blocks().saturating_mul(512));
                }
                // The store itself moves and removes files meanwhile.
                Err(e) if e.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound) => {}
                Err(e) => return Err(Error::io("look through", dir, e.into())),
            }
        }
        Ok(on_disk)
    }

    fn count(&mut self, below: &Path, n_bytes: u64) {
        self.total += n_bytes;
        let kinds = KINDS.iter().zip(&mut self.by_kind);
        for (_, sum) in kinds.filter(|((_, name), _)| below.starts_with(name)) {
            *sum += n_bytes;
        }
    }

    pub(super) fn lines(&self, line: impl Fn(&str, u64) -> String) -> String {
        let kinds = KINDS.iter().zip(self.by_kind).map(|((kind, _), sum)| line(&format!("  {kind}"), sum));
        [line("on disk", self.total)].into_iter().chain(kinds).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn fields(&self) -> Value {
        let kinds = KINDS.iter().zip(self.by_kind).map(|((kind, _), sum)| ((*kind).to_owned(), sum.into()));
        kinds.chain([("total".to_owned(), self.total.into())]).collect::<Map<_, _>>().into()
    }
}
