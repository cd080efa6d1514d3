//! Taking whole blobs out: copied, sharing blocks, or moved out and referred to (E50).

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use blob_traits::{
    Error, ExistingTarget, Export, ExportMode, ExportOptions, ExportProgress, Hash, Map, MapEntry, Progress,
    ReadBlob, Result,
    blocking::{Alive, Watch, unblock},
};
use smallvec::{SmallVec, smallvec};

use crate::{
    engine::{Decision, Engine, Keys},
    entry::{Content, Entry, data_places, outboard_places},
    files::FileKey,
    format::record::MAX_PATH,
    layout::FileNo,
    op::Op,
    reference::identity,
    row::BlobState,
    store::FsStore,
    vfs::{Access, Kind, Vfs, Whose},
};

/// How much is copied between two reports.
const PIECE: usize = 1 << 20;

impl Export for FsStore {
    async fn export(
        &self,
        hash: Hash,
        target: PathBuf,
        options: impl Into<ExportOptions> + Send,
        progress: Progress<ExportProgress>,
    ) -> Result<()> {
        let options = options.into();
        if !target.is_absolute() {
            return Err(Error::RelativePath { path: target });
        }
        let entry = self.get(&hash).await?.ok_or(Error::NotFound { hash })?;
        if let Content::Partial(partial) = &entry.content
            && !partial.is_complete()
        {
            return Err(partial.not_complete());
        }
        let alive = Alive::default();
        let id = progress.new_id();
        let job =
            Job { engine: self.engine.clone(), entry, target, options, progress, id, watch: alive.watch() };
        unblock(move || job.run()).await
    }
}

struct Job {
    engine: Arc<Engine>,
    entry: Entry,
    target: PathBuf,
    options: ExportOptions,
    progress: Progress<ExportProgress>,
    id: u64,
    watch: Watch,
}

impl Job {
    fn run(self) -> Result<()> {
        let vfs = &*self.engine.vfs;
        check_target(vfs, &self.target, self.options.existing)?;
        let linked = self.link()?;
        let (hash, path, stable) = (self.entry.hash, self.target.clone(), linked.is_some());
        let start = ExportProgress::Start { id: self.id, hash, path, stable };
        self.watch.send(&self.progress, start)?;
        match linked {
            Some(linked) => self.move_out(linked)?,
            None => self.copy()?,
        }
        // The file is there: nobody who listens no longer can change that.
        let _ = self.watch.send(&self.progress, ExportProgress::Done { id: self.id });
        Ok(())
    }

    /// The file of a large blob.
    fn owned_file(&self) -> Option<FileNo> {
        match &self.entry.content {
            Content::Large { no, .. } => Some(*no),
            _ => None,
        }
    }

    /// Writes a copy beside the target and gives it the target's name when it is whole.
    fn copy(&self) -> Result<()> {
        let vfs = &*self.engine.vfs;
        let temporary = Temporary::beside(&self.engine, &self.target);
        if !self.share_blocks(&temporary.path)? {
            self.copy_bytes(&temporary.path)?;
        }
        self.watch.check()?;
        temporary.publish(vfs, &self.target, self.options.existing)
    }

    /// Lets the file system share the blocks of a large blob, where it can.
    fn share_blocks(&self, to: &Path) -> Result<bool> {
        let Some(no) = self.owned_file() else { return Ok(false) };
        let vfs = &*self.engine.vfs;
        if self.engine.exported.target(no).is_some() {
            // The user may have changed it.
            return Ok(false);
        }
        let from = self.engine.layout.data(&self.entry.hash, no);
        match vfs.reflink(&from, to, Whose::User) {
            Ok(()) => {
                let file = vfs.open(to, Access::ReadWrite).map_err(|e| Error::io("open", to, e))?;
                file.sync_data().map_err(|e| Error::io("sync", to, e))?;
                Ok(true)
            }
            // Not there yet (E41), or the file system cannot.
            Err(e) if matches!(e.kind(), io::ErrorKind::Unsupported | io::ErrorKind::NotFound) => Ok(false),
            Err(e) => Err(Error::io("copy to", &self.target, e)),
        }
    }

    fn copy_bytes(&self, to: &Path) -> Result<()> {
        let (hash, size) = (self.entry.hash, self.entry.size().value());
        let file = self.engine.vfs.create_user(to).map_err(|e| Error::io("create", &self.target, e))?;
        let mut reader = futures_lite::future::block_on(self.entry.data_reader())?;
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < size {
            self.watch.check()?;
            let piece = futures_lite::future::block_on(reader.read_range(offset, PIECE))?;
            hasher.update(&piece);
            file.write_all_at(&piece, offset).map_err(|e| Error::io("write", &self.target, e))?;
            offset += piece.len() as u64;
            if offset < size {
                self.progress.try_send(ExportProgress::Progress { id: self.id, offset })?;
            }
        }
        if Hash::from(hasher.finalize()) != hash {
            return Err(Error::Mismatch { hash, offset: 0 });
        }
        self.watch.send(&self.progress, ExportProgress::Progress { id: self.id, offset: size })?;
        file.sync_data().map_err(|e| Error::io("sync", &self.target, e))
    }

    /// Gives the files of a large blob second names, from which it can be moved out. `None`: it has to be copied.
    fn link(&self) -> Result<Option<Linked>> {
        let Content::Large { no, size, .. } = &self.entry.content else { return Ok(None) };
        if self.options.mode != ExportMode::TryReference || self.target.as_os_str().len() > MAX_PATH {
            return Ok(None);
        }
        let (engine, hash) = (&self.engine, self.entry.hash);
        let (vfs, layout) = (&*engine.vfs, &engine.layout);
        let new_no = if *size > 16 << 10 { engine.new_file_no() } else { FileNo::NONE };
        let data = Temporary::beside(engine, &self.target);
        let outboard = Temporary { vfs: engine.vfs.clone(), path: layout.temp_outboard(&hash, new_no) };
        // Each of them may have been moved to `data/` (E41) without the other.
        let _not_moving = engine.moving.read().unwrap_or_else(PoisonError::into_inner);
        if !link_first(vfs, &data_places(layout, &hash, *no), &data.path) {
            return Ok(None);
        }
        if new_no != FileNo::NONE {
            if !link_first(vfs, &outboard_places(layout, &hash, *no), &outboard.path) {
                return Ok(None);
            }
            vfs.sync_dir(&layout.temp_dir()).map_err(|e| Error::io("sync", layout.temp_dir(), e))?;
        }
        Ok(Some(Linked { no: *no, size: *size, data, new_no, outboard }))
    }

    /// Gives the file of a large blob the target's name, refers to it there and then gives up ours (E50).
    fn move_out(&self, linked: Linked) -> Result<()> {
        let Linked { no, size, data, new_no, outboard } = linked;
        self.watch.check()?;
        // Known before the user can find the file: handles that have it open read it with proof from now on.
        if !self.engine.exported.add(no, &self.target) {
            drop(data);
            return self.copy();
        }
        data.publish(&*self.engine.vfs, &self.target, self.options.existing)?;
        let referred = self.refer(no, new_no, size);
        if !matches!(referred, Ok(false)) {
            // It belongs to the record, which may be on the disk even if it failed.
            outboard.keep();
        }
        if !matches!(referred, Ok(true))
            && let Err(e) = self.sever()
        {
            tracing::warn!(error = %e, target = %self.target.display(), "an exported file shares its bytes with the store");
        }
        referred.map(drop)
    }

    /// Gives the target bytes of its own when our file stays: who writes to the target must not change the blob.
    fn sever(&self) -> Result<()> {
        let temporary = Temporary::beside(&self.engine, &self.target);
        if !self.share_blocks(&temporary.path)? {
            self.copy_bytes(&temporary.path)?;
        }
        temporary.publish(&*self.engine.vfs, &self.target, ExistingTarget::Replace)
    }

    /// Has it recorded that the blob is the target now; `false`: it was deleted or moved by somebody else meanwhile.
    fn refer(&self, old_no: FileNo, no: FileNo, size: u64) -> Result<bool> {
        let (engine, hash) = (&self.engine, self.entry.hash);
        let file = engine.vfs.open_user(&self.target).map_err(|e| Error::io("open", &self.target, e))?;
        let stat = file.stat().map_err(|e| Error::io("look at", &self.target, e))?;
        let paths = vec![identity(&self.target, &stat, engine.vfs.now())];
        engine.files.forget(FileKey::Data(old_no));
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        engine.transact_blocking(&keys, 0, |state, looked| {
            let ours = state.pending_blob(&hash, looked).map(|(state, _)| state);
            Ok(if ours == Some(BlobState::Large { size, no: old_no }) {
                Decision::Write(vec![Op::Referenced { hash, size, no, paths }], SmallVec::new(), true)
            } else {
                Decision::Nothing(false)
            })
        })
    }
}

/// A large blob whose files have second names: its bytes beside the target, its outboard in `temp/`.
struct Linked {
    no: FileNo,
    size: u64,
    data: Temporary,
    new_no: FileNo,
    outboard: Temporary,
}

/// Gives the first of these files that is there a second name.
fn link_first(vfs: &dyn Vfs, places: &[PathBuf], to: &Path) -> bool {
    places.iter().any(|from| vfs.hard_link(from, to).is_ok())
}

/// Files of ours that got a name among the user's, and may still be open: their bytes may change.
#[derive(Debug, Default)]
pub(crate) struct Exported(RwLock<HashMap<FileNo, Given>>);

/// To whom a file belongs, once and for all.
#[derive(Debug)]
enum Given {
    /// To the user, under this name.
    Away(PathBuf),
    /// To the store, which is going to write to it.
    Kept,
}

impl Exported {
    /// Gives the file to the user; `false`: it is kept.
    fn add(&self, no: FileNo, target: &Path) -> bool {
        let mut given = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(given.get(&no), Some(Given::Kept)) {
            return false;
        }
        given.insert(no, Given::Away(target.to_owned()));
        true
    }

    /// Never gives the file away; `false`: the user has it.
    pub(crate) fn keep(&self, no: FileNo) -> bool {
        let mut given = self.0.write().unwrap_or_else(PoisonError::into_inner);
        matches!(given.entry(no).or_insert(Given::Kept), Given::Kept)
    }

    /// Under which name the user has the file, if he has.
    pub(crate) fn target(&self, no: FileNo) -> Option<PathBuf> {
        match self.0.read().unwrap_or_else(PoisonError::into_inner).get(&no) {
            Some(Given::Away(target)) => Some(target.clone()),
            Some(Given::Kept) | None => None,
        }
    }

    /// The file is gone.
    pub(crate) fn forget(&self, no: FileNo) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&no);
    }
}

/// Checks what can be known before anything is written.
fn check_target(vfs: &dyn Vfs, target: &Path, existing: ExistingTarget) -> Result<()> {
    let path = target.to_owned();
    match vfs.stat(target) {
        Ok(stat) if stat.kind == Kind::Dir => return Err(Error::IsADirectory { path }),
        Ok(_) if existing == ExistingTarget::Refuse => return Err(Error::TargetExists { path }),
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("look at", path, e)),
        _ => {}
    }
    let parent = target.parent().unwrap_or(target);
    vfs.stat(parent).map(drop).map_err(|e| Error::io("look at", parent, e))
}

/// A name beside the target that is removed unless it becomes the target.
struct Temporary {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
}

impl Temporary {
    fn beside(engine: &Engine, target: &Path) -> Self {
        let name = format!(".blob-export-{}.tmp", engine.new_file_no());
        Self { vfs: engine.vfs.clone(), path: target.with_file_name(name) }
    }

    fn keep(mut self) {
        self.path.clear();
    }

    fn publish(self, vfs: &dyn Vfs, target: &Path, existing: ExistingTarget) -> Result<()> {
        let named = match existing {
            ExistingTarget::Refuse => vfs.rename(&self.path, target),
            ExistingTarget::Replace => vfs.replace(&self.path, target),
        };
        named.map_err(|e| Error::io("name", target, e))?;
        let dir = target.parent().unwrap_or(target);
        vfs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After it was published there is no such name.
        if !self.path.as_os_str().is_empty() {
            let _ = self.vfs.remove_file(&self.path);
        }
    }
}
