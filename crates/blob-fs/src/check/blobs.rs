//! The rows against the files: each file that a row needs is there, and as long as it has to be (E65).

use std::io;

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::{Damage, Demote, Error, Hash, Result};

use super::Check;
use crate::{
    entry::{Entry, data_places, outboard_places},
    files::FileKey,
    format::record::{FileIdentity, outboard_len},
    hasher::{Outboard, TreeHasher},
    layout::FileNo,
    list, quarantine,
    reference::same,
    row::{BlobRow, BlobState},
    vfs::{Access, Kind},
};

/// How much is read at a time.
const PIECE: usize = 1 << 20;

/// The bytes of a chunk group.
const GROUP: u64 = 16 << 10;

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    /// Of this length.
    File(u64),
}

impl Check {
    pub(super) fn check_blobs(&self) -> Result<()> {
        for item in list::rows(self.engine())?.into_blocking() {
            let (hash, row) = item?;
            self.go_on()?;
            match row.state {
                BlobState::Small { .. } => {}
                BlobState::Large { size, no } => {
                    self.check_data(hash, &row, size, no)?;
                    self.check_outboard(hash, &row, size, no)?;
                }
                BlobState::Referenced { size, no } => {
                    self.check_references(hash, &row, size)?;
                    if no != FileNo::NONE {
                        self.check_outboard(hash, &row, size, no)?;
                    }
                }
                BlobState::Partial { no, .. } => self.check_partial(hash, &row, no)?,
            }
        }
        Ok(())
    }

    fn check_data(&self, hash: Hash, row: &BlobRow, size: u64, no: FileNo) -> Result<()> {
        let places = data_places(&self.engine().layout, &hash, no);
        let found = self.find(&places)?;
        if found == Found::File(size) || !self.is_row(hash, row)? {
            return Ok(());
        }
        let path = self.shown(&places[0]);
        let (what, lost) = match found {
            Found::Missing => (format!("{path} is missing"), ChunkRanges::all()),
            Found::File(len) if len > size => {
                self.report
                    .error(format!("{path} has {len} bytes, {size} belong to the blob"), Some(hash))?;
                return if self.repairs() { self.cut(&places, size) } else { Ok(()) };
            }
            Found::File(len) => (format!("{path} has {len} of {size} bytes"), from_cut(len)),
        };
        self.report.error(what, Some(hash))?;
        self.demote(hash, row, lost)
    }

    /// Cuts off what does not belong to a blob, which is put aside.
    fn cut(&self, places: &[std::path::PathBuf; 3], size: u64) -> Result<()> {
        let vfs = &*self.engine().vfs;
        let Some(path) = places.iter().find(|path| vfs.stat(path).is_ok()) else { return Ok(()) };
        let file = vfs.open(path, Access::ReadWrite).map_err(|e| Error::io("open", path, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let len = file.stat().map_err(|e| Error::io("look at", path, e))?.size;
        self.copy_aside(&*file, &name, size..len)?;
        file.set_len(size).and_then(|()| file.sync_data()).map_err(|e| Error::io("cut", path, e))?;
        self.report.info(format!("{}: what was too much was put aside", self.shown(path)), None)
    }

    fn check_outboard(&self, hash: Hash, row: &BlobRow, size: u64, no: FileNo) -> Result<()> {
        let expected = outboard_len(size);
        let places = outboard_places(&self.engine().layout, &hash, no);
        let found = self.find(&places)?;
        // The blob may have been demoted by now, for its data.
        if expected == 0 || found == Found::File(expected) || !self.is_row(hash, row)? {
            return Ok(());
        }
        let path = self.shown(&places[0]);
        let what = match found {
            Found::Missing => format!("{path} is missing"),
            Found::File(len) => format!("{path} has {len} bytes, it should have {expected}"),
        };
        self.report.error(what, Some(hash))?;
        if !self.repairs() {
            return Ok(());
        }
        if self.rebuild_outboard(hash, row, no)? {
            return self.report.info(format!("{path} was computed anew"), Some(hash));
        }
        let Some(entry) = Entry::complete(self.engine(), hash, row) else { return Ok(()) };
        // What the pairs that are left prove stays.
        self.demote(hash, row, ChunkRanges::all() - entry.sound_ranges()?)
    }

    /// Computes the hash tree from the bytes of the blob; `false`: they are not those of its hash.
    fn rebuild_outboard(&self, hash: Hash, row: &BlobRow, no: FileNo) -> Result<bool> {
        let engine = self.engine();
        let Some(entry) = Entry::complete(engine, hash, row) else { return Ok(false) };
        let temp = engine.layout.temp(engine.new_file_no(), "obao4");
        let create = || engine.vfs.create_new(&temp);
        let hashed = self.hash_blob(&entry, TreeHasher::new(create));
        let result = hashed.and_then(|outboard| match outboard {
            None => Ok(false),
            Some(Outboard::File(file)) => {
                file.sync_data().map_err(|e| Error::io("sync", &temp, e))?;
                self.place_outboard(hash, no, &temp).map(|()| true)
            }
            Some(Outboard::Memory(bytes)) => {
                let file = engine.vfs.create_new(&temp).map_err(|e| Error::io("create", &temp, e))?;
                let written = file.write_all_at(&bytes, 0).and_then(|()| file.sync_data());
                written.map_err(|e| Error::io("write", &temp, e))?;
                self.place_outboard(hash, no, &temp).map(|()| true)
            }
        });
        // Where it has got its name, there is nothing here any more.
        let _ = engine.vfs.remove_file(&temp);
        result
    }

    /// `None`: the bytes are not those of the blob, or cannot be read.
    fn hash_blob(&self, entry: &Entry, mut hasher: TreeHasher<'_>) -> Result<Option<Outboard>> {
        let Some(file) = self.raw(entry)? else { return Ok(None) };
        let (mut buffer, mut offset) = (vec![0; PIECE], 0);
        loop {
            self.go_on()?;
            let n = file.read_at(&mut buffer, offset).map_err(|e| Error::io("read a blob", "", e))?;
            let piece = buffer.get(..n).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            hasher.push(piece).map_err(|e| Error::io("hash a blob", "", e))?;
            offset += n as u64;
        }
        let found = hasher.finish().map_err(|e| Error::io("hash a blob", "", e))?;
        Ok((found.hash == entry.hash).then_some(found.outboard))
    }

    /// The file with the bytes of a blob, to be read without proof.
    fn raw(&self, entry: &Entry) -> Result<Option<crate::vfs::FileRef>> {
        let engine = self.engine();
        match &entry.content {
            crate::entry::Content::Large { no, .. } => match entry.open(FileKey::Data(*no)) {
                Ok(file) => Ok(Some(file)),
                Err(e) => match Error::from(e) {
                    Error::Damaged { .. } => Ok(None),
                    e => Err(e),
                },
            },
            crate::entry::Content::Referenced { place, size, .. } => {
                let identities = match Entry::identities(engine, entry.hash, *place) {
                    Err(Error::Damaged { .. }) => return Ok(None),
                    identities => identities?,
                };
                let open = |identity: &FileIdentity| engine.vfs.open_user(&identity.path).ok();
                let fits = |file: &crate::vfs::FileRef| file.stat().is_ok_and(|stat| stat.size == *size);
                Ok(identities.iter().filter_map(open).find(fits))
            }
            _ => Ok(None),
        }
    }

    /// Gives an outboard its name. What has that name is put aside.
    fn place_outboard(&self, hash: Hash, no: FileNo, temp: &std::path::Path) -> Result<()> {
        let engine = self.engine();
        let (vfs, layout) = (&*engine.vfs, &engine.layout);
        for path in outboard_places(layout, &hash, no) {
            if self.is_taken(&path)? {
                self.put_aside(&path)?;
            }
        }
        let (to, dir) = (layout.data_outboard(&hash, no), layout.data_subdir(&hash));
        match vfs.create_dir(&dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(Error::io("create", dir, e)),
            _ => {}
        }
        vfs.rename(temp, &to).map_err(|e| Error::io("rename", temp, e))?;
        engine.files.forget(FileKey::Outboard(no));
        for dir in [dir, layout.data_dir()] {
            vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))?;
        }
        Ok(())
    }

    /// Whether each of a user's files is what it was. None of them is touched.
    fn check_references(&self, hash: Hash, row: &BlobRow, size: u64) -> Result<()> {
        let identities = match Entry::identities(self.engine(), hash, row.place) {
            Ok(identities) => identities,
            // Reported with the log, or gone meanwhile.
            Err(Error::Damaged { .. } | Error::Io { .. } | Error::FileNotFound { .. }) => return Ok(()),
            Err(e) => return Err(e),
        };
        for identity in identities {
            let path = identity.path.display();
            let stat = self.engine().vfs.open_user(&identity.path).and_then(|file| file.stat());
            let what = match stat {
                Ok(stat) if same(&identity, &stat) => continue,
                Ok(stat) if stat.size == size => {
                    let what = format!(
                        "{path} has been touched since it was imported; it is proved when it is read"
                    );
                    self.report.info(what, Some(hash))?;
                    continue;
                }
                Ok(stat) => format!("{path} has {} bytes, it had {size} when it was imported", stat.size),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    format!("{path}, which is referred to, is missing")
                }
                Err(e) => format!("{path}, which is referred to, cannot be read: {e}"),
            };
            if self.is_row(hash, row)? {
                self.report.warn(format!("{what}; import it again"), Some(hash))?;
            }
        }
        Ok(())
    }

    /// Makes a blob partial where that is asked for. What is lost is named before.
    fn demote(&self, hash: Hash, row: &BlobRow, lost: ChunkRanges) -> Result<()> {
        if !self.repairs() || self.try_demote(hash, row, lost)? {
            return Ok(());
        }
        self.report.error("it could not be made partial: its files are in the way".to_owned(), Some(hash))
    }

    /// `false`: not even that nothing is left of the blob could be recorded.
    pub(super) fn try_demote(&self, hash: Hash, row: &BlobRow, lost: ChunkRanges) -> Result<bool> {
        for attempt in [Attempt::As(lost), Attempt::WithoutUnproved, Attempt::Empty] {
            let Some(entry) = Entry::complete(self.engine(), hash, row) else { return Ok(true) };
            if !self.is_row(hash, row)? {
                return Ok(true);
            }
            let lost = match attempt {
                Attempt::As(lost) => lost,
                Attempt::WithoutUnproved => ChunkRanges::all() - entry.sound_ranges()?,
                Attempt::Empty => ChunkRanges::all(),
            };
            let damage = Damage { lost, mended: Vec::new() };
            match futures_lite::future::block_on(self.store.demote(entry, damage)) {
                Ok(Some(_)) => {
                    let what = "it is partial now; what is missing can be imported or downloaded".to_owned();
                    self.report.info(what, Some(hash))?;
                    return Ok(true);
                }
                Ok(None) => return Ok(true),
                Err(e) if is_damage(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    /// Whether a row is as it was. Files may have moved or gone for good reasons otherwise.
    pub(super) fn is_row(&self, hash: Hash, row: &BlobRow) -> Result<bool> {
        // Compaction does not run, so that the place is the same too.
        Ok(self.engine().blob(&hash)?.is_some_and(|now| now == *row))
    }

    /// The first of some names that a file has; the first name is asked twice, because that is where files arrive.
    pub(super) fn find(&self, places: &[std::path::PathBuf]) -> Result<Found> {
        for path in places.iter().chain(places.first()) {
            match self.engine().vfs.stat(path) {
                Ok(stat) if stat.kind == Kind::File => return Ok(Found::File(stat.size)),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("look at", path, e)),
            }
        }
        Ok(Found::Missing)
    }

    /// Copies a part of a file into `quarantine/`, durably.
    pub(super) fn copy_aside(
        &self,
        file: &dyn crate::vfs::VfsFile,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> Result<()> {
        let engine = self.engine();
        let (vfs, layout) = (&*engine.vfs, &engine.layout);
        quarantine::ensure(vfs, layout)?;
        let no = engine.new_file_no();
        let path = layout.quarantine_dir().join(format!("{name}-{}-{}-{no}", range.start, range.end));
        if let Err(e) = self.copy_to(file, &path, range) {
            // What was copied is still where it was.
            let _ = vfs.remove_file(&path);
            return Err(e);
        }
        let dir = layout.quarantine_dir();
        vfs.sync_dir(&dir).map_err(|e| Error::io("sync", dir, e))
    }

    fn copy_to(
        &self,
        file: &dyn crate::vfs::VfsFile,
        path: &std::path::Path,
        range: std::ops::Range<u64>,
    ) -> Result<()> {
        let copy = self.engine().vfs.create_new(path).map_err(|e| Error::io("create", path, e))?;
        let (mut buffer, mut at) = (vec![0; PIECE], range.start);
        while at < range.end {
            self.go_on()?;
            let len = usize::try_from(range.end - at).unwrap_or(PIECE).min(PIECE);
            let buffer = buffer.get_mut(..len).unwrap_or_default();
            let n = file.read_at(buffer, at).map_err(|e| Error::io("read what is put aside", "", e))?;
            let piece = buffer.get(..n).filter(|piece| !piece.is_empty());
            // The file ends here.
            let Some(piece) = piece else { break };
            copy.write_all_at(piece, at - range.start).map_err(|e| Error::io("write", path, e))?;
            at += n as u64;
        }
        copy.sync_data().map_err(|e| Error::io("sync", path, e))
    }
}

/// What is left of a blob that becomes partial.
enum Attempt {
    /// All but these chunks, where the pairs above them are there.
    As(ChunkRanges),
    /// What the pairs that are there prove.
    WithoutUnproved,
    /// Nothing, so that nothing has to be read.
    Empty,
}

/// Whether an error is about what is kept of one blob.
pub(super) fn is_damage(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged { .. } | Error::Mismatch { .. } | Error::FileNotFound { .. } | Error::Changed { .. }
    )
}

/// The chunks of the groups that are not whole in a file of this length: a part of a group proves nothing.
pub(super) fn from_cut(len: u64) -> ChunkRanges {
    ChunkRanges::from(ChunkNum::full_chunks(len - len % GROUP)..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_that_was_cut_is_lost() {
        for (len, first) in [(0, 0), (1, 0), (16_383, 0), (16_384, 16), (50_000, 48)] {
            assert_eq!(from_cut(len), ChunkRanges::from(ChunkNum(first)..), "{len}");
        }
    }
}
