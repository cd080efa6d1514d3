//! Where lost ranges may be found.

use std::{
    fmt, fs, io,
    io::{Read as _, Seek as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use bao_tree::ChunkRanges;
use blob_traits::{Error, Hash, Map, MapEntry, Result};
use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::pieces::{Opened, Pair, Pieces, ReadAhead};

/// A verified stream, as [`export_bao`](blob_traits::MapExt::export_bao) writes it.
pub type BaoStream = Box<dyn AsyncRead + Send + Unpin>;

type Answer<T> = Pin<Box<dyn Future<Output = Result<Option<T>>> + Send>>;
type FindPieces = dyn Fn(Hash) -> Answer<(u64, OpenPieces)> + Send + Sync;
type OpenPieces = Box<dyn FnOnce() -> Result<Box<dyn Pieces>> + Send>;
type FindStream = dyn Fn(Hash, u64, ChunkRanges) -> Answer<BaoStream> + Send + Sync;

/// Where lost ranges may be found. Nothing that comes from it is trusted: only what is proved by the hash of the blob is
/// written.
#[derive(Clone)]
pub struct Source {
    name: String,
    pub(crate) kind: Kind,
    /// All that it has, where that is known.
    only: Option<(Hash, ChunkRanges)>,
}

#[derive(Clone)]
pub(crate) enum Kind {
    /// Another store.
    Store(Arc<FindPieces>),
    /// The bytes of one blob.
    File { hash: Hash, path: PathBuf },
    /// Whoever sends verified streams.
    Stream(Arc<FindStream>),
}

impl Source {
    /// Another store. Only the lost groups are read from it, and the pairs above them; it may be damaged itself.
    pub fn store<S: Map>(name: impl Into<String>, store: S) -> Self {
        let find = move |hash| -> Answer<(u64, OpenPieces)> {
            let store = store.clone();
            Box::pin(async move {
                let Some(entry) = store.get(&hash).await? else { return Ok(None) };
                let size = entry.size().value();
                let open: OpenPieces =
                    Box::new(move || Ok(Box::new(Opened::new(&entry, ReadAhead::None)?) as Box<dyn Pieces>));
                Ok(Some((size, open)))
            })
        };
        Self { name: name.into(), kind: Kind::Store(Arc::new(find)), only: None }
    }

    /// A file that may have bytes of a blob, at the places that they have in it: an older copy, say, or what is left of one. The
    /// file is only read.
    pub fn file(hash: Hash, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), kind: Kind::File { hash, path }, only: None }
    }

    /// Asks for verified streams: of this blob, of this size, these ranges. `None` where there is none.
    pub fn stream<F>(
        name: impl Into<String>,
        find: impl Fn(Hash, u64, ChunkRanges) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Option<BaoStream>>> + Send + 'static,
    {
        let find = move |hash, size, ranges| -> Answer<BaoStream> { Box::pin(find(hash, size, ranges)) };
        Self { name: name.into(), kind: Kind::Stream(Arc::new(find)), only: None }
    }

    /// The same, for a source that has nothing but these chunks of one blob: it is not asked for others.
    #[must_use]
    pub fn only(self, hash: Hash, ranges: ChunkRanges) -> Self {
        Self { only: Some((hash, ranges)), ..self }
    }

    /// What of the wanted chunks of a blob it may have.
    pub(crate) fn may_have(&self, hash: &Hash, wanted: &ChunkRanges) -> ChunkRanges {
        match &self.only {
            None => wanted.clone(),
            Some((its, ranges)) if its == hash => wanted & ranges,
            Some(_) => ChunkRanges::empty(),
        }
    }

    /// The same, also asked whether it has the blob at all.
    pub(crate) async fn has(&self, hash: &Hash, size: u64, wanted: &ChunkRanges) -> ChunkRanges {
        let has_it = match &self.kind {
            Kind::Store(find) => matches!(find(*hash).await, Ok(Some((its_size, _))) if its_size == size),
            Kind::File { hash: its, .. } => its == hash,
            Kind::Stream(_) => true,
        };
        if has_it { self.may_have(hash, wanted) } else { ChunkRanges::empty() }
    }

    /// What it is called in reports.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The bytes of a file under the pairs of a store.
pub(crate) struct FilePieces<P> {
    file: fs::File,
    path: PathBuf,
    pairs: P,
}

impl<P: Pieces> FilePieces<P> {
    /// Opens a file. Blocks.
    pub(crate) fn open(path: &Path, pairs: P) -> Result<Self> {
        let failed = |e| Error::io("open", path, e);
        // Not before it is known to be a file: opening a fifo waits for a writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        Ok(Self { file: fs::File::open(path).map_err(failed)?, path: path.to_owned(), pairs })
    }

    fn read(&mut self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.file.seek(io::SeekFrom::Start(offset))?;
        // Not more than a chunk group.
        let mut bytes = vec![0; len];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

impl<P: Pieces> Pieces for FilePieces<P> {
    fn pair(&mut self, parent: bao_tree::TreeNode) -> Result<Option<Pair>> {
        self.pairs.pair(parent)
    }

    fn group(&mut self, offset: u64, len: usize) -> Result<Bytes> {
        self.read(offset, len).map_err(|e| Error::io("read", &self.path, e))
    }

    fn stored_len(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }
}
