//! Putting the files of a partial blob in order when some are missing or bad (E46, E65).

use std::{io, sync::Arc};

use bao_tree::{ChunkNum, ChunkRanges};
use blob_traits::{Error, Hash, Result};

use super::disk::{read_all, sync_partial_dir};
use crate::{
    engine::Engine,
    format::bits::{Bits, SizeState},
    layout::FileNo,
    vfs::Access,
};

/// The bytes of a chunk group, a part of which proves nothing.
const GROUP: u64 = 16 << 10;

/// What is known about the `.bits` of a partial blob.
#[derive(Clone, Debug)]
pub(crate) enum BitsFile {
    Missing,
    /// It says nothing that could be read.
    Bad,
    Good(Bits),
}

impl Bits {
    /// How many bytes the data file has at least, by the ranges that are valid.
    pub(crate) fn claimed_end(&self) -> Option<u64> {
        let end = match self.ranges.boundaries() {
            [] => return None,
            // Without an end, to the end of the blob.
            boundaries if boundaries.len() % 2 == 1 => self.size,
            boundaries => boundaries.last().map_or(0, ChunkNum::to_bytes),
        };
        Some(end.min(self.size))
    }
}

impl Engine {
    /// Reads the `.bits` of a partial blob.
    pub(crate) fn bits_of(&self, hash: Hash, no: FileNo) -> Result<BitsFile> {
        let path = self.layout.partial_bits(&hash, no);
        let file = match self.vfs.open(&path, Access::Read) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BitsFile::Missing),
            file => file.map_err(|e| Error::io("open", &path, e))?,
        };
        let bytes = match read_all(&*file) {
            // Cut off while it was read.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
            bytes => bytes.map_err(|e| Error::io("read", &path, e))?,
        };
        let bits = bytes.and_then(|bytes| Bits::decode(&bytes).ok());
        Ok(match bits.filter(|bits| (bits.hash, bits.no) == (hash, no)) {
            Some(bits) => BitsFile::Good(bits),
            None => BitsFile::Bad,
        })
    }

    /// Sees to it that all files of a partial blob are there, and that `.bits` claims no more than the chunks that are
    /// whole in the first `len` bytes. Who works with the blob has to ask for it again.
    pub(crate) fn mend_partial(self: &Arc<Self>, hash: Hash, no: FileNo, len: u64) -> Result<()> {
        let partial = self.state().partials.get(&hash);
        // Nobody writes to it, or says what is in it, meanwhile.
        let _io = partial.as_ref().map(|partial| partial.io());
        for path in [self.layout.partial_data(&hash, no), self.layout.partial_pairs(&hash, no)] {
            if path == self.layout.partial_data(&hash, no)
                && self.vfs.stat(&self.layout.data(&hash, no)).is_ok()
            {
                continue;
            }
            match self.vfs.create_new(&path) {
                Ok(file) => file.sync_data().map_err(|e| Error::io("sync", path, e))?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::io("create", path, e)),
            }
        }
        let bits = match self.bits_of(hash, no)? {
            BitsFile::Good(bits) => bits.within(len),
            BitsFile::Missing | BitsFile::Bad => {
                Bits { hash, no, size: 0, size_state: SizeState::Claimed, ranges: ChunkRanges::empty() }
            }
        };
        self.replace_bits(&bits)?;
        if let Some(partial) = &partial {
            self.state().partials.forget(partial);
        }
        Ok(())
    }

    fn replace_bits(&self, bits: &Bits) -> Result<()> {
        let path = self.layout.partial_bits(&bits.hash, bits.no);
        let bytes = bits.encode().map_err(|e| Error::io("encode", &path, io::Error::other(e)))?;
        let temp = self.layout.temp(self.new_file_no(), "bits");
        let file = self.vfs.create_new(&temp).map_err(|e| Error::io("create", &temp, e))?;
        let placed = file
            .write_all_at(&bytes, 0)
            .and_then(|()| file.sync_data())
            .and_then(|()| self.vfs.replace(&temp, &path));
        if let Err(e) = placed {
            let _ = self.vfs.remove_file(&temp);
            return Err(Error::io("write", &path, e));
        }
        sync_partial_dir(self)
    }
}

impl Bits {
    /// Only the groups that are whole in the first `len` bytes. A size is verified by the last chunk alone (E43).
    fn within(mut self, len: u64) -> Self {
        if len < self.size {
            self.ranges &= ChunkRanges::from(..ChunkNum::full_chunks(len - len % GROUP));
            self.size_state = SizeState::Claimed;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(ranges: ChunkRanges) -> Bits {
        Bits { hash: Hash::EMPTY, no: FileNo(1), size: 5000, size_state: SizeState::Verified, ranges }
    }

    #[test]
    fn claimed_end_is_that_of_the_last_range_and_not_beyond_the_blob() {
        let chunks =
            |range: std::ops::Range<u64>| ChunkRanges::from(ChunkNum(range.start)..ChunkNum(range.end));
        assert_eq!(bits(ChunkRanges::empty()).claimed_end(), None);
        assert_eq!(bits(chunks(0..1) | chunks(2..4)).claimed_end(), Some(4096));
        assert_eq!(bits(chunks(2..5)).claimed_end(), Some(5000));
        assert_eq!(bits(ChunkRanges::all()).claimed_end(), Some(5000));
    }

    #[test]
    fn group_that_was_cut_does_not_count_and_neither_does_the_size() {
        let large = Bits { size: 50_000, ..bits(ChunkRanges::all()) };
        let cut = large.within(49_000);
        assert_eq!((cut.ranges, cut.size_state), (ChunkRanges::from(..ChunkNum(32)), SizeState::Claimed));
        assert_eq!(bits(ChunkRanges::all()).within(5000), bits(ChunkRanges::all()));
    }
}
