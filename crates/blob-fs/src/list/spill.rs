//! The items of a listing, kept until somebody asks for them.

use std::{fmt, io, marker::PhantomData, sync::Arc, task::Poll};

use blob_traits::{BoxStream, Error, Hash, Result, Tag, blocking::unblock};
use futures_lite::{Stream, StreamExt};

use crate::{
    engine::Engine,
    format::record::Fields,
    row::{BlobRow, TagRow},
    vfs::FileRef,
};

/// Listings up to this many bytes stay in memory, and longer ones on a full disk: what is to be deleted is listed first.
const IN_MEMORY: usize = 4 << 20;
/// How much of a file is read at a time; no item is longer.
const PAGE: usize = 256 << 10;

/// What can be listed.
pub(crate) trait Item: Sized + Send + 'static {
    fn write(&self, out: &mut Vec<u8>);
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

impl Item for Hash {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        fields.array().map(Self::from_bytes)
    }
}

impl Item for (Hash, BlobRow) {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
        out.extend_from_slice(&self.1.encode());
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some((fields.array().map(Hash::from_bytes)?, BlobRow::decode(fields.take(BlobRow::LEN)?)?))
    }
}

impl Item for (Tag, TagRow) {
    fn write(&self, out: &mut Vec<u8>) {
        let row = self.1.encode();
        let len = u32::try_from(self.0.as_ref().len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&len.to_le_bytes());
        out.extend_from_slice(self.0.as_ref());
        out.extend_from_slice(&row);
    }

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let len = fields.u32()?;
        let tag = Tag::from(fields.take(len as usize)?);
        Some((tag, TagRow::decode(fields.take(TagRow::LEN)?)?))
    }
}

/// Gathers items.
pub(crate) struct Spill<T> {
    engine: Arc<Engine>,
    buffer: Vec<u8>,
    file: Option<(FileRef, u64)>,
    /// So many bytes are gathered before they are written.
    in_memory: usize,
    items: PhantomData<T>,
}

impl<T: Item> Spill<T> {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, buffer: Vec::new(), file: None, in_memory: IN_MEMORY, items: PhantomData }
    }

    pub(crate) fn push(&mut self, item: &T) -> Result<()> {
        item.write(&mut self.buffer);
        if self.buffer.len() < self.in_memory { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        match self.write() {
            Err(Error::NoSpace { .. }) => {
                self.in_memory = usize::MAX;
                Ok(())
            }
            written => written,
        }
    }

    fn write(&mut self) -> Result<()> {
        let (file, end) = match self.file.take() {
            Some(open) => open,
            None => (self.create()?, 0),
        };
        let written = file.write_all_at(&self.buffer, end);
        let is_written = written.is_ok();
        // What was written in part does not count.
        self.file = Some((file, if is_written { end + self.buffer.len() as u64 } else { end }));
        if is_written {
            self.buffer.clear();
        }
        written.map_err(|e| Error::io("write", self.engine.layout.temp_dir(), e))
    }

    /// A file without a name: nobody can find it, and nothing is left of it.
    fn create(&self) -> Result<FileRef> {
        let path = self.engine.layout.temp(self.engine.new_file_no(), "list");
        let file = self.engine.vfs.create_new(&path).map_err(|e| Error::io("create", &path, e))?;
        self.engine.vfs.remove_file(&path).map_err(|e| Error::io("remove", &path, e))?;
        Ok(file)
    }

    pub(crate) fn finish_listing(mut self) -> Result<Listing<T>> {
        if self.file.is_some() && self.in_memory == IN_MEMORY {
            self.flush()?;
        }
        let Self { buffer, file, .. } = self;
        // Its room is not kept where all is in the file.
        let last = if buffer.is_empty() { Vec::new() } else { buffer };
        Ok(Listing { page: Vec::new(), at: 0, file, offset: 0, last, items: PhantomData })
    }
}

impl Spill<Hash> {
    pub(crate) fn finish(self) -> Result<BoxStream<Hash>> {
        Ok(self.finish_listing()?.boxed())
    }
}

/// Items that were gathered.
pub(crate) struct Listing<T> {
    /// What was read and not handed out.
    page: Vec<u8>,
    at: usize,
    /// Where more is, and how long that is.
    file: Option<(FileRef, u64)>,
    offset: u64,
    /// What comes at the end.
    last: Vec<u8>,
    items: PhantomData<fn() -> T>,
}

impl<T> fmt::Debug for Listing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl<T: Item> Listing<T> {
    /// Takes the next item out of the page.
    fn next_in_page(&mut self) -> Option<T> {
        let mut fields = Fields(self.page.get(self.at..)?);
        let before = fields.0.len();
        let item = T::read(&mut fields)?;
        self.at += before - fields.0.len();
        Some(item)
    }

    fn is_in_file(&self) -> bool {
        self.file.as_ref().is_some_and(|(_, end)| self.offset < *end)
    }

    /// Goes on with what was never written; `false`: that is over, too.
    fn turn_to_last(&mut self) -> bool {
        (self.at, self.page) = (0, std::mem::take(&mut self.last));
        !self.page.is_empty()
    }

    /// Reads the next page of the file, behind what is left of this one. May block.
    fn turn(mut self) -> (Self, io::Result<()>) {
        let Some((file, end)) = &self.file else { return (self, Ok(())) };
        self.page.drain(..self.at);
        self.at = 0;
        let kept = self.page.len();
        let len = usize::try_from(end - self.offset).unwrap_or(PAGE).min(PAGE);
        self.page.resize(kept + len, 0);
        let read = file.read_exact_at(self.page.get_mut(kept..).unwrap_or_default(), self.offset);
        self.offset += len as u64;
        (self, read)
    }

    /// Hands out the items on a thread that may block.
    pub(crate) fn into_blocking(self) -> impl Iterator<Item = Result<T>> {
        let mut stream = Box::pin(self.into_stream());
        std::iter::from_fn(move || futures_lite::future::block_on(stream.next()))
    }

    fn into_stream(self) -> impl Stream<Item = Result<T>> + Send {
        futures_lite::stream::unfold(Some(self), |listing| async move {
            let mut listing = listing?;
            loop {
                if let Some(item) = listing.next_in_page() {
                    return Some((Ok(item), Some(listing)));
                }
                if !listing.is_in_file() {
                    if listing.turn_to_last() {
                        continue;
                    }
                    return None;
                }
                let turned = unblock(move || Ok(listing.turn())).await;
                match turned {
                    Ok((next, Ok(()))) => listing = next,
                    Ok((_, Err(e))) => return Some((Err(e.into()), None)),
                    Err(e) => return Some((Err(e), None)),
                }
            }
        })
    }

    /// Hands out the items, reading pages on the blocking pool.
    pub(crate) fn boxed(self) -> BoxStream<T> {
        if self.file.is_some() {
            return Box::pin(self.into_stream());
        }
        let mut listing = Self { page: self.last, last: Vec::new(), ..self };
        Box::pin(futures_lite::stream::poll_fn(move |_| Poll::Ready(listing.next_in_page().map(Ok))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        options::Options,
        store::FsStore,
        vfs::{FaultVfs, RealVfs, Vfs},
    };

    /// The disk gets full before, while and after a listing goes to a file.
    #[tokio::test]
    async fn listing_that_has_no_room_on_the_disk_is_whole_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let vfs = FaultVfs::on_a_disk_of(64 << 20, Arc::new(RealVfs::default()));
        let options = Options { vfs: Arc::new(vfs.clone()), ..Options::new(dir.path()) };
        let store = FsStore::open(options).await.unwrap();
        let other = vfs.create_new(&dir.path().join("other")).unwrap();
        let hashes = || (0..400_000_u32).map(|number| Hash::new(number.to_le_bytes()));
        for n_free in [0, 5 << 20, 9 << 20, 20 << 20] {
            other.set_len(0).unwrap();
            other.allocate(vfs.available(dir.path()).unwrap() - n_free).unwrap();
            let mut listing = Spill::new(store.engine.clone());
            hashes().for_each(|hash| listing.push(&hash).unwrap());
            assert_eq!(listing.in_memory == usize::MAX, n_free < 10 << 20);
            let listed = listing.finish_listing().unwrap().into_blocking();
            assert!(listed.map(Result::unwrap).eq(hashes()), "{n_free}");
        }
    }
}
