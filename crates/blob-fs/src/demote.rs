//! Taking back that something is there (E48): a complete blob becomes partial, a partial one has less.

mod pairs;
mod sound;

use std::{io, sync::Arc};

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::{Damage, Demote, Error, Hash, MapEntry, MapMut, PartialTree, Result, blocking::unblock};

pub(crate) use self::{pairs::Pairs, sound::copy_all};
use self::{
    pairs::PreOrder,
    sound::{copy_raw, copy_sound, find_sound},
};
use crate::{
    engine::Engine,
    entry::{Content, Entry, data_places, open_data, segment},
    files::FileKey,
    format::RECORD_HEADER,
    layout::FileNo,
    op::{Key, Killed},
    partial::{Draft, Linked},
    row::Place,
    state::{Looked, State},
    store::FsStore,
    vfs::FileRef,
};

/// A chunk group, in bytes.
const GROUP: u64 = 16 << 10;

impl Demote for FsStore {
    async fn demote(&self, entry: Entry, damage: Damage) -> Result<Option<Entry>> {
        let hash = entry.hash;
        if !Arc::ptr_eq(&entry.engine, &self.engine) {
            return Err(Error::ForeignEntry { hash });
        }
        self.engine.state().check_writable()?;
        let demoted = unblock({
            let entry = entry.clone();
            move || entry.demote(&damage)
        });
        match (demoted.await?, &entry.content) {
            (false, _) => Ok(None),
            (true, Content::Partial(_)) => Ok(Some(entry)),
            (true, _) => self.get_mut(&hash).await,
        }
    }
}

impl Entry {
    /// `false`: the blob is no longer what this shows.
    fn demote(&self, damage: &Damage) -> Result<bool> {
        let (engine, size) = (&*self.engine, self.size().value());
        let seq = match &self.content {
            Content::Partial(partial) => return partial.demote(engine, damage),
            // It has nothing that could be lost.
            Content::Empty => return Ok(false),
            Content::Small { seq, .. } | Content::Large { seq, .. } | Content::Referenced { seq, .. } => *seq,
        };
        if engine.blob(&self.hash)?.is_none_or(|row| row.seq != seq) {
            return Ok(false);
        }
        let wanted = PartialTree::all_ranges(size) - damage.lost.clone();
        let mut pairs = self.pairs(damage)?;
        let mut draft = Draft::new(engine, self.hash);
        let present = match &self.content {
            Content::Small { place, .. } => self.take_small(&draft, *place, &wanted)?,
            Content::Large { no, .. } => self.take_large(&draft, *no, &mut pairs, &wanted)?,
            Content::Referenced { place, .. } => {
                let file = users_file(engine, self.hash, *place, size)?;
                self.take_file(&draft, file.as_ref(), &mut pairs, &wanted)?
            }
            Content::Partial(_) | Content::Empty => return Ok(false),
        };
        let tree = PartialTree::restore(size, true, &present);
        draft.write_pairs(&tree, |parent| pairs.get(parent))?;
        draft.write_bits(&tree)?;
        let recorded = draft.record(|state, looked| state.is_still(self.hash, seq, looked))?;
        if recorded {
            engine.sync_log().map_err(|failure| failure.to_error())?;
        }
        Ok(recorded)
    }

    /// The chunks of a complete blob that has files which verify by the pairs that are there, whatever else is not.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn sound_ranges(&self) -> Result<ChunkRanges> {
        let (engine, size) = (&*self.engine, self.size().value());
        let file = match &self.content {
            Content::Large { no, .. } => found(open_data(engine, self.hash, *no))?,
            Content::Referenced { place, .. } => users_file(engine, self.hash, *place, size)?,
            Content::Small { .. } | Content::Partial(_) | Content::Empty => None,
        };
        let Some(file) = file else { return Ok(ChunkRanges::empty()) };
        find_sound(&file, &mut self.pairs(&Damage::default())?, size)
    }

    /// The pairs of a complete blob.
    fn pairs(&self, damage: &Damage) -> Result<Pairs<'static>> {
        let size = self.size().value();
        let (file, base) = match &self.content {
            Content::Small { place, .. } => {
                (found(segment(&self.engine, place.segment))?, u64::from(place.offset) + RECORD_HEADER + size)
            }
            Content::Large { no, .. } | Content::Referenced { no, .. } if size > GROUP => {
                (found(self.open(FileKey::Outboard(*no)))?, 0)
            }
            _ => (None, 0),
        };
        let mut stored = PreOrder::new(file, base, size);
        Ok(Pairs::new(self.hash, damage, move |parent| stored.get(parent)))
    }

    /// Copies a record, group by group: also what is lost stays where it was in the blob, if it can be read.
    fn take_small(&self, draft: &Draft<'_>, place: Place, wanted: &ChunkRanges) -> Result<ChunkRanges> {
        let (data, size) = (draft.create_data()?, self.size().value());
        let mut read = ChunkRanges::empty();
        let base = u64::from(place.offset) + RECORD_HEADER;
        if let Some(file) = found(segment(&self.engine, place.segment))? {
            let mut group = Vec::new();
            for start in (0..size).step_by(16 << 10) {
                let end = (start + GROUP).min(size);
                group.resize(usize::try_from(end - start).unwrap_or(0), 0);
                let chunks =
                    wanted.clone() & ChunkRanges::from(ChunkNum::chunks(start)..ChunkNum::chunks(end));
                match file.read_exact_at(&mut group, base + start) {
                    Ok(()) => {}
                    Err(e) if e.kind() == io::ErrorKind::UnexpectedEof || chunks.is_empty() => continue,
                    Err(e) => return Err(Error::io("read a blob", "", e)),
                }
                data.write_all_at(&group, start).map_err(|e| Error::io("write a partial blob", "", e))?;
                read |= chunks;
            }
        }
        data.sync_data().map_err(|e| Error::io("sync a partial blob", "", e))?;
        Ok(read)
    }

    /// Takes over the file of a large blob. Where somebody else has a name for it, or may get one (E50), it is not to be
    /// written to: it is copied.
    fn take_large(
        &self,
        draft: &Draft<'_>,
        no: FileNo,
        pairs: &mut Pairs<'_>,
        wanted: &ChunkRanges,
    ) -> Result<ChunkRanges> {
        let engine = &*self.engine;
        if engine.exported.keep(no) {
            match draft.link_data(&data_places(&engine.layout, &self.hash, no))? {
                Linked::Done { n_names: ..=2 } => {
                    // What is not even there is lost, whatever the caller says.
                    let len = draft.data_len()?;
                    let n_there = if len < self.size().value() { len / 1024 } else { u64::MAX };
                    return Ok(wanted.clone() & ChunkRanges::from(..ChunkNum(n_there)));
                }
                Linked::Done { .. } => draft.unlink_data()?,
                Linked::Missing => return self.take_file(draft, None, pairs, wanted),
                Linked::Unsupported => {}
            }
        }
        let file = found(open_data(engine, self.hash, no))?;
        self.take_file(draft, file.as_ref(), pairs, wanted)
    }

    /// Copies what is sound of a file that others may write to, and of one of ours also what is lost.
    fn take_file(
        &self,
        draft: &Draft<'_>,
        file: Option<&FileRef>,
        pairs: &mut Pairs<'_>,
        wanted: &ChunkRanges,
    ) -> Result<ChunkRanges> {
        let (data, size) = (draft.create_data()?, self.size().value());
        let mut sound = ChunkRanges::empty();
        if let Some(file) = file {
            sound = copy_sound(file, &data, pairs, size, wanted)?;
            if matches!(self.content, Content::Large { .. }) {
                copy_raw(file, &data, size, &(PartialTree::all_ranges(size) - sound.clone()))?;
            }
        }
        data.sync_data().map_err(|e| Error::io("sync a partial blob", "", e))?;
        Ok(sound)
    }
}

impl State {
    /// Whether nothing has happened to a blob, nor is going to, since its record with this number.
    fn is_still(&self, hash: Hash, seq: u64, looked: &Looked) -> bool {
        matches!(self.pending_blob(&hash, looked), Some((_, Killed::Segment(_))))
            && self.row_seq(&Key::Blob(hash), looked) == Some(seq)
    }
}

/// A file of ours, if it is there.
fn found(opened: io::Result<FileRef>) -> Result<Option<FileRef>> {
    match opened.map_err(Error::from) {
        Ok(file) => Ok(Some(file)),
        Err(Error::Damaged { .. }) => Ok(None),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// The file of the user's that a referenced blob is read from: of those that are there the first of the right size, or else
/// the first.
fn users_file(engine: &Engine, hash: Hash, place: Place, size: u64) -> Result<Option<FileRef>> {
    let identities = match Entry::identities(engine, hash, place) {
        Err(Error::Damaged { .. }) => return Ok(None),
        other => other?,
    };
    let mut first = None;
    for identity in identities {
        match engine.vfs.open_user(&identity.path) {
            Ok(file) if file.stat().is_ok_and(|stat| stat.size == size) => return Ok(Some(file)),
            Ok(file) => drop(first.get_or_insert(file)),
            // It is not there, or is something else by now.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory
                ) => {}
            Err(e) => return Err(Error::io("open", identity.path, e)),
        }
    }
    Ok(first)
}
