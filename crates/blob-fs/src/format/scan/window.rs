//! A window onto a file that is read from front to back, in large pieces.

use std::io;

use crate::{
    format::record::{HEADER_LEN, MAGIC},
    vfs::VfsFile,
};

/// What is read at once, unless more is asked for.
const READ: usize = 1 << 20;
/// Records start at multiples of this, which is [`ALIGN`](crate::format::ALIGN).
const STEP: usize = 8;

/// Part of a file, in memory. Nothing beyond `end` is read.
#[derive(Debug)]
pub(super) struct Window<'a> {
    file: &'a dyn VfsFile,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a dyn VfsFile, end: u64) -> Self {
        Self { file, end, start: 0, bytes: Vec::new() }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Returns `len` bytes at `offset`; `None`: they reach beyond the end.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<Option<&[u8]>> {
        if offset.checked_add(len as u64).is_none_or(|after| after > self.end) {
            return Ok(None);
        }
        if self.held(offset).is_none_or(|held| held.len() < len) {
            self.fill(offset, len.max(READ))?;
        }
        Ok(self.held(offset).and_then(|held| held.get(..len)))
    }

    /// Finds the first place from `offset` on, in steps of 8 bytes, where the header of a record may start.
    pub(super) fn find_magic(&mut self, mut offset: u64) -> io::Result<Option<u64>> {
        while self.get(offset, HEADER_LEN)?.is_some() {
            let held = self.held(offset).unwrap_or_default();
            let places = held.len().saturating_sub(HEADER_LEN - 1);
            let steps = held.chunks(STEP).take(places.div_ceil(STEP));
            let passed = (steps.len() * STEP) as u64;
            for (step, bytes) in steps.enumerate() {
                if bytes.starts_with(&MAGIC) {
                    return Ok(Some(offset + (step * STEP) as u64));
                }
            }
            offset += passed;
        }
        Ok(None)
    }

    /// What is in memory from `offset` on.
    fn held(&self, offset: u64) -> Option<&[u8]> {
        let skip = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..)
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let len = usize::try_from(self.end.saturating_sub(offset)).map_or(len, |rest| rest.min(len));
        self.bytes.clear();
        self.bytes.resize(len, 0);
        self.start = offset;
        self.file.read_exact_at(&mut self.bytes, offset).inspect_err(|_| self.bytes.clear())
    }
}
