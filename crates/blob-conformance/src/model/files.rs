//! The user's files: those that are imported, and those that blobs are exported to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use blob_traits::{ExistingTarget, ExportMode, ExportOptions, Progress, Store};
use bytes::Bytes;

use super::{
    Check, done, expect,
    op::Blob,
    refused,
    world::{State, World},
};

/// How many names there are to export to.
pub(super) const N_TARGETS: usize = 3;

#[derive(Debug)]
pub(super) struct Files {
    sources: PathBuf,
    targets: PathBuf,
    n_sources: usize,
    /// Files that a store may have in use: it must not touch them, and we must not.
    in_place: BTreeMap<PathBuf, Bytes>,
    exported: BTreeMap<usize, Bytes>,
    /// Exported files that the store may refer to.
    referred: BTreeSet<usize>,
}

/// What a store may do with a file after it was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Copied,
    InPlace,
}

impl Files {
    pub(super) fn new(home: &Path) -> Check<Self> {
        let home = home.canonicalize().map_err(text)?;
        let [sources, targets] = ["sources", "targets"].map(|name| home.join(name));
        fs::create_dir(&sources).and_then(|()| fs::create_dir(&targets)).map_err(text)?;
        Ok(Self {
            sources,
            targets,
            n_sources: 0,
            in_place: BTreeMap::new(),
            exported: BTreeMap::new(),
            referred: BTreeSet::new(),
        })
    }

    /// A new file to import.
    pub(super) fn source(&mut self, data: &Bytes) -> Check<PathBuf> {
        self.n_sources += 1;
        let path = self.sources.join(self.n_sources.to_string());
        fs::write(&path, data).map_err(text)?;
        Ok(path)
    }

    /// A file was imported. One that was copied changes and goes, which must change nothing.
    pub(super) fn used(&mut self, path: PathBuf, how: Use) -> Check {
        let data = fs::read(&path).map_err(text)?;
        match how {
            Use::InPlace => drop(self.in_place.insert(path, data.into())),
            Use::Copied => {
                fs::write(&path, b"edited later").and_then(|()| fs::remove_file(&path)).map_err(text)?;
            }
        }
        Ok(())
    }

    fn target(&self, number: usize) -> PathBuf {
        self.targets.join(number.to_string())
    }

    /// Changes a file that was exported, which must change nothing in the store; not one that it may refer to.
    pub(super) fn edit(&mut self, number: usize) -> Check {
        if self.referred.contains(&number) || !self.exported.contains_key(&number) {
            return Ok(());
        }
        let edited = Bytes::from_static(b"edited");
        fs::write(self.target(number), &edited).map_err(text)?;
        self.exported.insert(number, edited);
        Ok(())
    }

    /// Compares what is in the files, and that there are no others.
    pub(super) fn check(&self) -> Check {
        for (path, data) in &self.in_place {
            expect("a file of the user's is untouched", &(fs::read(path).map_err(text)? == *data), &true)?;
        }
        let mut names = BTreeSet::new();
        for file in fs::read_dir(&self.targets).map_err(text)? {
            names.insert(file.map_err(text)?.path());
        }
        let expected = self.exported.keys().map(|number| self.target(*number)).collect();
        expect("exported files", &names, &expected)?;
        for (number, data) in &self.exported {
            let found = fs::read(self.target(*number)).map_err(text)?;
            expect(&format!("exported file {number} is as it should be"), &(found == *data), &true)?;
        }
        Ok(())
    }
}

impl<S: Store> World<'_, S> {
    pub(super) async fn export(
        &mut self,
        blob: Blob,
        target: usize,
        mode: ExportMode,
        existing: ExistingTarget,
    ) -> Check {
        let known = self.known(blob);
        // A file that the store refers to is not for us to replace.
        let existing = if self.files.referred.contains(&target) { ExistingTarget::Refuse } else { existing };
        let taken = existing == ExistingTarget::Refuse && self.files.exported.contains_key(&target);
        let options = ExportOptions { mode, existing };
        let path = self.files.target(target);
        let exported = self.store()?.export(known.hash, path, options, Progress::none()).await;
        let complete = self.is_complete(blob);
        match self.state(blob) {
            _ if complete && taken => refused("export", exported, &["target-exists"])?,
            _ if complete => {
                done("export", exported)?;
                self.files.exported.insert(target, known.data);
                if mode == ExportMode::TryReference && self.setup.references {
                    self.files.referred.insert(target);
                }
            }
            State::Partial(_) => refused("export", exported, &["incomplete", "target-exists"])?,
            _ => refused("export", exported, &["not-found", "target-exists"])?,
        }
        self.files.check()?;
        self.look(blob).await
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` wants")]
fn text(error: io::Error) -> String {
    format!("a file of the test: {error}")
}
