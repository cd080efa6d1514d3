//! Writes a packed segment (E57 steps 2 to 4): in `temp/`, and into `log/` once it is whole and durable.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    path::PathBuf,
};

use blob_traits::{Error, Hash, Result};

use super::{
    Pace, Stop, Stopped,
    plan::{Item, Keep, Remains, Victim, remains},
    victims::Standing,
};
use crate::{
    engine::Engine,
    format::{
        RECORD_HEADER,
        header::{SegmentHeader, SegmentRole},
        record::{
            self, Body, Flags, HEADER_LEN, Header, Place, Record, Stamp, Unfit, decode_header, encode_copy,
            kind,
        },
        scan::ScannedRecord,
    },
    segments,
    vfs::FileRef,
};

/// So much is read, and written, at once.
const BUFFER: usize = 256 << 10;

/// What a new segment is made of.
#[derive(Debug)]
pub(super) struct Recipe<'a> {
    pub(super) id: u32,
    pub(super) store_id: [u8; 16],
    pub(super) victims: &'a [Victim],
    pub(super) history: Vec<RangeInclusive<u32>>,
    /// In the order of their seqs.
    pub(super) items: Vec<Item>,
    /// The highest seq in the victims, kept or not.
    pub(super) last_seq: u64,
    pub(super) standing: &'a Standing,
}

/// A packed segment that is whole, and durable under its temporary name.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) temp: PathBuf,
    pub(super) size: u64,
    /// The bytes of removals in it, and the segments they are kept for.
    pub(super) held: u64,
    pub(super) held_for: BTreeSet<u32>,
}

/// Copies what is kept. After an error nothing is left of the new segment, if it can be removed.
pub(super) fn copy(
    engine: &Engine,
    recipe: &Recipe<'_>,
    stop: &Stop<'_>,
    pace: &mut Pace,
) -> Result<Output, Stopped> {
    let temp = engine.layout.temp(engine.new_file_no(), "seg");
    let file = engine.vfs.create_new(&temp).map_err(|e| Error::io("create", &temp, e))?;
    let copied = Copying::new(engine, recipe, &temp, file).and_then(|copying| copying.run(stop, pace));
    if copied.is_err() {
        let _ = engine.vfs.remove_file(&temp);
    }
    copied
}

struct Copying<'a> {
    engine: &'a Engine,
    recipe: &'a Recipe<'a>,
    temp: &'a PathBuf,
    file: FileRef,
    key: [u8; 32],
    sources: HashMap<u32, Source>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    offset: u64,
    count: u64,
    headers_crc: u32,
    held: u64,
    held_for: BTreeSet<u32>,
}

impl<'a> Copying<'a> {
    fn new(
        engine: &'a Engine,
        recipe: &'a Recipe<'a>,
        temp: &'a PathBuf,
        file: FileRef,
    ) -> Result<Self, Stopped> {
        let mut key = [0; 32];
        engine.vfs.random(&mut key);
        let header = SegmentHeader {
            store_id: recipe.store_id,
            segment: recipe.id,
            key,
            base_seq: recipe.items.first().map_or(recipe.last_seq + 1, |item| item.seq),
            role: SegmentRole::Packed {
                built_at: recipe.standing.built_at,
                replaces: recipe.standing.victims.iter().copied().collect(),
                history: recipe.history.clone(),
            },
        };
        let mut sources = HashMap::new();
        for victim in recipe.victims {
            let file = segments::open(&*engine.vfs, &engine.layout, victim.id())?;
            sources.insert(
                victim.id(),
                Source { file, header: victim.header.clone(), start: 0, bytes: Vec::new() },
            );
        }
        let buffer = header.encode().map_err(unfit)?;
        let (count, headers_crc, held, held_for) = (0, 0, 0, BTreeSet::new());
        Ok(Self {
            engine,
            recipe,
            temp,
            file,
            key,
            sources,
            buffer,
            offset: 0,
            count,
            headers_crc,
            held,
            held_for,
        })
    }

    fn run(mut self, stop: &Stop<'_>, pace: &mut Pace) -> Result<Output, Stopped> {
        for item in &self.recipe.items {
            self.copy_one(item)?;
            if self.buffer.len() >= BUFFER {
                stop.check()?;
                self.flush(stop, pace)?;
            }
        }
        let (count, crc) = (self.count, self.headers_crc);
        let last = Stamp { seq: self.recipe.last_seq + 1, ..Stamp::default() };
        let end = self.offset + self.buffer.len() as u64;
        let at = Place { key: &self.key, segment: self.recipe.id, offset: end };
        record::encode(&mut self.buffer, at, &Record::PackEnd { count, crc }, last).map_err(unfit)?;
        self.flush(stop, pace)?;
        self.file.sync_data().map_err(|e| Error::io("sync", self.temp, e))?;
        let Self { temp, offset: size, held, held_for, .. } = self;
        Ok(Output { temp: temp.clone(), size, held, held_for })
    }

    fn copy_one(&mut self, item: &Item) -> Result<(), Stopped> {
        let Self { engine, recipe, sources, buffer, .. } = self;
        let source = sources.get_mut(&item.segment).ok_or(Stopped::Damaged(item.segment))?;
        let read = source.record(item.offset);
        let (header, payload) = read
            .map_err(|e| Error::io("read", engine.layout.segment(item.segment), e))?
            .ok_or(Stopped::Damaged(item.segment))?;
        let damaged = || Stopped::Damaged(item.segment);
        let start = buffer.len();
        let place = Place { key: &self.key, segment: recipe.id, offset: self.offset + start as u64 };
        match item.keep {
            Keep::Live => {
                if header.kind == kind::SMALL
                    && payload.get(..header.data_len as usize).map(Hash::new) != Some(header.hash)
                {
                    return Err(damaged());
                }
                let needed = recipe.standing.needs(header.seq, header.kills);
                let kills = if needed { header.kills } else { 0 };
                let copy = Header { kills, flags: Flags::default(), ..header };
                encode_copy(buffer, place, &copy, payload).map_err(unfit)?;
            }
            Keep::Remains => {
                let body = Body::decode(&header, payload).map_err(|_| damaged())?;
                let record = ScannedRecord { offset: item.offset, header, body, payload: Vec::new() };
                let Some(remains) = remains(&record, recipe.standing) else { return Err(damaged()) };
                let stamp = Stamp { seq: header.seq, durable_seq: header.durable_seq, ..Stamp::default() };
                self.held += encode_remains(buffer, place, &remains, stamp).map_err(unfit)?;
                remains.held_for(&mut self.held_for);
            }
        }
        let head = buffer.get(start..start + HEADER_LEN).unwrap_or_default();
        self.headers_crc = crc32c::crc32c_append(self.headers_crc, head);
        self.count += 1;
        Ok(())
    }

    fn flush(&mut self, stop: &Stop<'_>, pace: &mut Pace) -> Result<(), Stopped> {
        self.file.write_all_at(&self.buffer, self.offset).map_err(|e| Error::io("write", self.temp, e))?;
        let n = self.buffer.len() as u64;
        self.offset += n;
        self.buffer.clear();
        if self.offset > u64::from(u32::MAX) {
            return Err(unfit(Unfit("what is kept")));
        }
        pace.spent(n, stop)
    }
}

fn encode_remains(
    buffer: &mut Vec<u8>,
    place: Place<'_>,
    remains: &Remains,
    stamp: Stamp,
) -> Result<u64, Unfit> {
    match remains {
        Remains::Delete(entries) => record::encode(buffer, place, &Record::Delete(entries), stamp),
        Remains::TagDelete(entries) => {
            let entries: Vec<_> = entries.iter().map(|(kills, name)| (*kills, name.as_slice())).collect();
            record::encode(buffer, place, &Record::TagDelete(&entries), stamp)
        }
    }
}

/// A victim, read ahead.
struct Source {
    file: FileRef,
    header: SegmentHeader,
    start: u64,
    bytes: Vec<u8>,
}

impl Source {
    /// The record at an offset; `None`: it is damaged.
    fn record(&mut self, offset: u64) -> std::io::Result<Option<(Header, &[u8])>> {
        let place = Place { key: &self.header.key.clone(), segment: self.header.segment, offset };
        let head = self.get(offset, HEADER_LEN)?;
        let Some(header) = head.first_chunk().and_then(|head| decode_header(head, place).ok()) else {
            return Ok(None);
        };
        let payload = self.get(offset + RECORD_HEADER, header.payload_len as usize)?;
        Ok(header.payload_matches(payload).then_some((header, payload)))
    }

    /// Some bytes, or fewer at the end of the file.
    fn get(&mut self, offset: u64, len: usize) -> std::io::Result<&[u8]> {
        let held = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        if held.is_none_or(|at| at.saturating_add(len) > self.bytes.len()) {
            self.bytes.resize(len.max(BUFFER), 0);
            self.start = offset;
            let mut done = 0;
            while let Some(rest) = self.bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
                match self.file.read_at(rest, offset + done as u64) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => {
                        self.bytes.clear();
                        return Err(e);
                    }
                }
            }
            self.bytes.truncate(done);
        }
        let at = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let end = at.saturating_add(len).min(self.bytes.len());
        Ok(self.bytes.get(at..end).unwrap_or_default())
    }
}

fn unfit(unfit: Unfit) -> Stopped {
    Error::Io { doing: "compact", path: None, source: std::io::Error::other(unfit) }.into()
}
