//! Handles to blobs: what a look-up returns, and what opens readers.

use std::{fmt, io, path::PathBuf, sync::Arc};

use bao_tree::{BaoTree, io::outboard::PreOrderMemOutboard};
use blob_traits::{BLOCK_SIZE, BaoBlobSize, Error, Hash, MapEntry, MapEntryMut, Result, blocking::unblock};
use bytes::Bytes;

use crate::{
    engine::Engine,
    files::{FileKey, read_range},
    format::{
        RECORD_HEADER,
        header::SegmentHeader,
        record::{Body, FileIdentity, HEADER_LEN, Place as RecordPlace, decode_header, outboard_len},
    },
    handle::Guard,
    layout::{FileNo, Layout},
    outboard::{FsOutboard, PairsFile, Tree},
    partial::{FsBatchWriter, Partial},
    reader::{FsReader, Plain, Source},
    reference::ReferencedReader,
    row::{BlobRow, BlobState, Place},
    vfs::FileRef,
};

/// An outboard up to this length is read as a whole when it is opened: that of a blob of 256 MiB.
const OUTBOARD_IN_MEMORY: u64 = 1 << 20;

/// A handle to a blob. It opens nothing, and pins the files that it would open.
#[derive(Clone)]
pub struct Entry {
    pub(crate) engine: Arc<Engine>,
    pub(crate) hash: Hash,
    pub(crate) content: Content,
}

/// What a handle is to.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The empty blob, which every store has.
    Empty,
    /// In the log.
    Small { size: u32, seq: u64, place: Place, _segment: Arc<Guard> },
    /// In files of its own.
    Large { size: u64, seq: u64, no: FileNo, _guard: Arc<Guard> },
    /// In a file of the user's; its outboard is a file of its own.
    Referenced { size: u64, seq: u64, no: FileNo, place: Place, _guard: Arc<Guard>, _segment: Arc<Guard> },
    /// Not all there.
    Partial(Arc<Partial>),
}

impl Entry {
    /// Makes a handle to what a row of a complete blob says.
    pub(crate) fn complete(engine: &Arc<Engine>, hash: Hash, row: &BlobRow) -> Option<Self> {
        let guard = |no| engine.state().guard(no);
        let (place, seq) = (row.place, row.seq);
        let segment = || engine.state().handles.segment(place.segment);
        let content = match row.state {
            BlobState::Small { size } => Content::Small { size, seq, place, _segment: segment() },
            BlobState::Large { size, no } => Content::Large { size, seq, no, _guard: guard(no) },
            BlobState::Referenced { size, no } => {
                Content::Referenced { size, seq, no, place, _guard: guard(no), _segment: segment() }
            }
            BlobState::Partial { .. } => return None,
        };
        Some(Self { engine: engine.clone(), hash, content })
    }

    fn tree(&self) -> BaoTree {
        BaoTree::new(self.size().value(), BLOCK_SIZE)
    }

    /// An outboard whose pairs are all at hand.
    fn in_memory(&self, data: Bytes) -> FsOutboard {
        FsOutboard(Tree::Memory(PreOrderMemOutboard { root: self.hash.into(), tree: self.tree(), data }))
    }

    async fn outboard_file(&self, no: FileNo) -> io::Result<FsOutboard> {
        let len = outboard_len(self.size().value());
        if len == 0 {
            return Ok(self.in_memory(Bytes::new()));
        }
        let file = open_outboard(&self.engine, self.hash, no)?;
        if len <= OUTBOARD_IN_MEMORY {
            let len = usize::try_from(len).map_err(io::Error::other)?;
            if let Ok(bytes) = read_range(file.clone(), 0, len).await {
                return Ok(self.in_memory(bytes));
            }
            // Most of it may be there: each pair by itself says whether it can be read.
        }
        Ok(FsOutboard(Tree::File { root: self.hash, tree: self.tree(), pairs: PairsFile::new(file) }))
    }

    /// A file of ours that ends too early is damage of this blob.
    fn short(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Error::Damaged { hash: self.hash, what: "its outboard is too short".to_owned() }.into();
        }
        error
    }

    /// The files that a referenced blob may be read from, out of its record.
    pub(crate) fn identities(engine: &Engine, hash: Hash, place: Place) -> Result<Vec<FileIdentity>> {
        let damaged = || Error::Damaged { hash, what: "its record cannot be read".to_owned() };
        let file = segment(engine, place.segment)?;
        let header = SegmentHeader::load(&*file)?.map_err(|_| damaged())?;
        let offset = u64::from(place.offset);
        let mut bytes = [0; HEADER_LEN];
        file.read_exact_at(&mut bytes, offset)?;
        let record = decode_header(&bytes, RecordPlace { key: &header.key, segment: place.segment, offset })
            .map_err(|_| damaged())?;
        let mut payload = vec![0; record.payload_len as usize];
        file.read_exact_at(&mut payload, offset + RECORD_HEADER)?;
        if !record.payload_matches(&payload) || record.hash != hash {
            return Err(damaged());
        }
        match Body::decode(&record, &payload) {
            Ok(Body::Referenced { paths, .. }) => Ok(paths),
            _ => Err(damaged()),
        }
    }

    /// This, or what it has become since it was a partial blob.
    pub(crate) fn current(&self) -> Result<Self> {
        let Content::Partial(partial) = &self.content else { return Ok(self.clone()) };
        if !partial.is_complete() {
            return Ok(self.clone());
        }
        loop {
            let row = self.engine.blob(&self.hash)?;
            let entry = row.and_then(|row| Self::complete(&self.engine, self.hash, &row));
            // The files that a row names are pinned only now: it has to be the row still.
            if self.engine.blob(&self.hash)? == row {
                return entry.ok_or(Error::NotFound { hash: self.hash });
            }
        }
    }

    pub(crate) async fn open_source(&self) -> Result<Source> {
        let this = self.current()?;
        Ok(match &this.content {
            Content::Empty => Source::Memory(Bytes::new()),
            Content::Small { size, place, .. } => {
                let base = u64::from(place.offset) + RECORD_HEADER;
                let key = FileKey::Segment(place.segment);
                Source::Plain(Plain::new(this.clone(), key, base, u64::from(*size)))
            }
            Content::Large { size, no, .. } => {
                Source::Plain(Plain::new(this.clone(), FileKey::Data(*no), 0, *size))
            }
            Content::Referenced { size, place, .. } => {
                let (entry, size, place) = (this.clone(), *size, *place);
                let open = unblock(move || {
                    let identities = Self::identities(&entry.engine, entry.hash, place)?;
                    ReferencedReader::open(entry, size, &identities)
                });
                Source::Referenced(open.await?)
            }
            Content::Partial(partial) => Source::Partial { entry: this.clone(), partial: partial.clone() },
        })
    }

    /// Opens the hash tree, that of a partial blob in the shape that it has at this moment.
    pub(crate) async fn any_outboard(&self) -> io::Result<FsOutboard> {
        match &self.content {
            Content::Empty => Ok(self.in_memory(Bytes::new())),
            Content::Small { size, place, .. } => {
                let start = u64::from(place.offset) + RECORD_HEADER + u64::from(*size);
                let file = segment(&self.engine, place.segment)?;
                let len = usize::try_from(outboard_len(u64::from(*size))).map_err(io::Error::other)?;
                let bytes = read_range(file, start, len).await.map_err(|e| self.short(e))?;
                Ok(self.in_memory(bytes))
            }
            Content::Large { no, .. } | Content::Referenced { no, .. } => self.outboard_file(*no).await,
            Content::Partial(partial) => {
                let (entry, partial, tree) = (self.clone(), partial.clone(), self.tree());
                Ok(FsOutboard(Tree::Partial { entry, partial, tree }))
            }
        }
    }

    /// Where the file of a key is now.
    pub(crate) fn open(&self, key: FileKey) -> io::Result<FileRef> {
        match key {
            FileKey::Segment(id) => segment(&self.engine, id),
            FileKey::Data(no) => open_data(&self.engine, self.hash, no),
            FileKey::Outboard(no) => open_outboard(&self.engine, self.hash, no),
            FileKey::Pairs(no) => open_pairs(&self.engine, self.hash, no),
        }
    }
}

pub(crate) fn segment(engine: &Engine, id: u32) -> io::Result<FileRef> {
    engine.files.get(FileKey::Segment(id), || engine.layout.segment(id))
}

pub(crate) fn open_data(engine: &Engine, hash: Hash, no: FileNo) -> io::Result<FileRef> {
    open_moving(engine, hash, FileKey::Data(no), &data_places(&engine.layout, &hash, no))
}

/// Where the bytes of a large blob may lie, on their way to `data/` (E41).
pub(crate) fn data_places(layout: &Layout, hash: &Hash, no: FileNo) -> [PathBuf; 3] {
    [layout.data(hash, no), layout.temp_data(hash, no), layout.partial_data(hash, no)]
}

/// Where the outboard of a blob may lie.
pub(crate) fn outboard_places(layout: &Layout, hash: &Hash, no: FileNo) -> [PathBuf; 3] {
    [layout.data_outboard(hash, no), layout.temp_outboard(hash, no), layout.partial_outboard(hash, no)]
}

fn open_outboard(engine: &Engine, hash: Hash, no: FileNo) -> io::Result<FileRef> {
    open_moving(engine, hash, FileKey::Outboard(no), &outboard_places(&engine.layout, &hash, no))
}

/// Opens the pairs of a partial blob. They stay where they are until nobody can ask for them any more.
pub(crate) fn open_pairs(engine: &Engine, hash: Hash, no: FileNo) -> io::Result<FileRef> {
    engine.files.get(FileKey::Pairs(no), || engine.layout.partial_pairs(&hash, no))
}

/// Opens a file that may be on its way to `data/` (E41). Looked for there twice: it may arrive in between.
fn open_moving(engine: &Engine, hash: Hash, key: FileKey, places: &[PathBuf; 3]) -> io::Result<FileRef> {
    if let Some(file) = engine.files.cached(key) {
        return Ok(file);
    }
    let [in_data, ..] = places;
    for path in places.iter().chain([in_data]) {
        match engine.files.get(key, || path.clone()) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    Err(Error::Damaged { hash, what: format!("{} is missing", in_data.display()) }.into())
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("hash", &self.hash)
            .field("size", &self.size())
            .field("is_complete", &self.is_complete())
            .finish_non_exhaustive()
    }
}

impl MapEntry for Entry {
    type DataReader = FsReader;
    type Outboard = FsOutboard;

    fn hash(&self) -> Hash {
        self.hash
    }

    fn size(&self) -> BaoBlobSize {
        match &self.content {
            Content::Empty => BaoBlobSize::Verified(0),
            Content::Small { size, .. } => BaoBlobSize::Verified(u64::from(*size)),
            Content::Large { size, .. } | Content::Referenced { size, .. } => BaoBlobSize::Verified(*size),
            Content::Partial(partial) => partial.size(),
        }
    }

    fn is_complete(&self) -> bool {
        match &self.content {
            Content::Partial(partial) => partial.is_complete(),
            _ => true,
        }
    }

    async fn outboard(&self) -> io::Result<FsOutboard> {
        self.engine.state().check_readable()?;
        self.current()?.any_outboard().await
    }

    async fn data_reader(&self) -> io::Result<FsReader> {
        self.engine.state().check_readable()?;
        Ok(FsReader(self.open_source().await?))
    }
}

impl MapEntryMut for Entry {
    type BatchWriter = FsBatchWriter;

    async fn batch_writer(&self) -> io::Result<FsBatchWriter> {
        self.engine.state().check_readable()?;
        Ok(match &self.content {
            Content::Partial(partial) => FsBatchWriter::new(self.engine.clone(), partial.clone()),
            _ => FsBatchWriter::complete(),
        })
    }
}
