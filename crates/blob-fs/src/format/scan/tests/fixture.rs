//! Logs made in memory.

use std::sync::Mutex;

use blob_traits::Hash;

use super::super::*;
use crate::{
    format::{
        header::SegmentRole,
        record::{Flags, Record, Stamp, encode},
    },
    vfs::Stat,
};

/// A file in memory. It can be read, and nothing else.
#[derive(Debug, Default)]
pub(super) struct MemFile(pub(super) Mutex<Vec<u8>>);

impl VfsFile for MemFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let from = bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let n = from.len().min(buf.len());
        buf[..n].copy_from_slice(&from[..n]);
        Ok(n)
    }

    fn stat(&self) -> io::Result<Stat> {
        let size = self.0.lock().unwrap().len() as u64;
        let kind = crate::vfs::Kind::File;
        Ok(Stat { kind, dev: 0, ino: 0, size, mtime_ns: 0, ctime_ns: 0, uid: 0, mode: 0, n_links: 1 })
    }

    fn read_at_nowait(&self, _: &mut [u8], _: u64) -> io::Result<Option<usize>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn drop_cached(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn unlock(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A segment under construction.
pub(super) struct Log {
    pub(super) header: SegmentHeader,
    pub(super) bytes: Vec<u8>,
    pub(super) seq: u64,
    pub(super) durable_seq: u64,
    /// Where transactions end.
    pub(super) ends: Vec<u64>,
}

pub(super) const FIRST: u64 = 4096;

impl Log {
    pub(super) fn new() -> Self {
        let role = SegmentRole::Log { prev_id: 0, prev_end: 0, prev_last_seq: 0 };
        let header = SegmentHeader { store_id: [1; 16], segment: 1, key: [2; 32], base_seq: 1, role };
        let bytes = header.encode().unwrap();
        Self { header, bytes, seq: 1, durable_seq: 0, ends: Vec::new() }
    }

    pub(super) fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(super) fn put(&mut self, record: &Record<'_>, more: bool) -> u64 {
        let offset = self.end();
        let place = Place { key: &self.header.key, segment: 1, offset };
        let flags = Flags { more, unsynced: false };
        let stamp = Stamp { seq: self.seq, durable_seq: self.durable_seq, kills: 0, flags };
        encode(&mut self.bytes, place, record, stamp).unwrap();
        self.seq += 1;
        if !more {
            self.ends.push(self.end());
        }
        offset
    }

    pub(super) fn header_at(&self, offset: u64) -> Header {
        let bytes = &self.bytes[usize::try_from(offset).unwrap()..];
        decode_header(bytes.first_chunk().unwrap(), place(&self.header, offset)).unwrap()
    }

    pub(super) fn small(&mut self, len: usize) -> u64 {
        let data = vec![b'd'; len];
        self.put(&Record::Small { hash: Hash::new(&data), data: &data, outboard: &[] }, false)
    }

    /// A transaction of so many records.
    pub(super) fn transaction(&mut self, n: usize) -> u64 {
        let offset = self.end();
        for left in (0..n).rev() {
            self.put(&Record::TagSet { target: Hash::EMPTY, format: 0, name: b"tag" }, left > 0);
        }
        offset
    }

    /// A sync: what is written from now on says that all before is durable.
    pub(super) fn sync(&mut self) {
        self.durable_seq = self.seq - 1;
    }

    pub(super) fn scan(&self, limits: ScanLimits) -> (Vec<Scanned>, ScanEnd) {
        self.scan_from(ScanFrom { offset: FIRST, next_seq: 1 }, limits).unwrap()
    }

    pub(super) fn scan_from(
        &self,
        from: ScanFrom,
        limits: ScanLimits,
    ) -> Result<(Vec<Scanned>, ScanEnd), ScanError> {
        let mut all = Vec::new();
        let end =
            scan(&MemFile(Mutex::new(self.bytes.clone())), &self.header, from, limits, &mut |scanned| {
                all.push(scanned);
                Ok::<_, ScanError>(())
            })?;
        assert_eq!(end.n_damaged, all.iter().filter(|s| matches!(s, Scanned::Damage(_))).count() as u64);
        Ok((all, end))
    }
}

pub(super) const NEWEST: ScanLimits =
    ScanLimits { known_end: None, checkpoint_seq: 0, seqs: SeqRule::Consecutive, small: SmallPayloads::Read };

/// What was met, in short: the seqs of a transaction, or where there was damage.
#[derive(Debug, PartialEq)]
pub(super) enum Met {
    Seqs(Vec<u64>),
    Damage(Range<u64>),
}

pub(super) fn met(scanned: &[Scanned]) -> Vec<Met> {
    let short = |scanned: &Scanned| match scanned {
        Scanned::Transaction(t) => Met::Seqs(t.records.iter().map(|r| r.header.seq).collect()),
        Scanned::Damage(damage) => Met::Damage(damage.range.clone()),
    };
    scanned.iter().map(short).collect()
}
