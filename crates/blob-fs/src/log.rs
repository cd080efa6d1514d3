//! The end of the log: where groups are appended and synced (E8-E14, E24, E25). One leader at a time uses it.

use std::{io::ErrorKind, path::PathBuf, sync::Arc};

use smallvec::SmallVec;

use crate::{
    failure::Failure,
    format::{
        header::{SegmentHeader, SegmentRole},
        record::{self, Flags, HEADER_LEN, Place as RecordPlace, Stamp},
    },
    layout::Layout,
    op::Txn,
    row::{Checkpoint, Place},
    vfs::{FileRef, Vfs, VfsFile},
};

/// Where the log ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tail {
    /// The last log segment, 0 for none.
    pub(crate) segment: u32,
    /// Where it ends.
    pub(crate) end: u64,
    /// The last seq in it.
    pub(crate) last_seq: u64,
}

/// The log, as its writer sees it.
#[derive(Debug)]
pub(crate) struct Log {
    vfs: Arc<dyn Vfs>,
    layout: Layout,
    store_id: [u8; 16],
    segment_size: u64,
    /// The highest segment id there ever was (E8).
    highest: u32,
    /// What a new segment names as the one before it. Kept up with `active` while there is one.
    tail: Tail,
    active: Option<Active>,
    /// What was acknowledged may be lost, and nothing may follow it (E80).
    failed: Option<Failure>,
    /// A group failed after it had been written in part or whole, and no segment that follows leaves it out yet.
    in_doubt: bool,
    /// A segment whose creation failed and that may be there all the same; no record was in it.
    leftover: Option<PathBuf>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Active {
    id: u32,
    key: [u8; 32],
    file: FileRef,
    /// What the header names as the end of the log before it.
    prev: Tail,
    /// Where the first record is.
    start: u64,
    synced_end: u64,
    synced_seq: u64,
    /// A group failed: the next one has a gap in its seqs and needs a new segment (E14).
    sealed: bool,
}

/// Where the operations of a group went.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) places: Vec<Place>,
    pub(crate) last: Checkpoint,
    /// How many bytes it took.
    pub(crate) bytes: u64,
}

/// What has to be synced, to be done without holding the log.
#[derive(Debug)]
pub(crate) struct SyncPoint {
    file: FileRef,
    path: PathBuf,
    segment: u32,
    end: u64,
    pub(crate) seq: u64,
}

impl Log {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        layout: Layout,
        store_id: [u8; 16],
        segment_size: u64,
        highest: u32,
        tail: Tail,
    ) -> Self {
        Self {
            vfs,
            layout,
            store_id,
            segment_size,
            highest,
            tail,
            active: None,
            failed: None,
            in_doubt: false,
            leftover: None,
            buffer: Vec::new(),
        }
    }

    /// Goes on in the last segment, which must end, durably, where the tail says (E62 step 8).
    pub(crate) fn resume(&mut self, header: &SegmentHeader, file: FileRef) {
        self.active = Some(Active {
            id: header.segment,
            key: header.key,
            file,
            prev: Tail::default(), // needed for an empty segment alone
            start: header.len(),
            synced_end: self.tail.end,
            synced_seq: self.tail.last_seq,
            sealed: false,
        });
    }

    /// Appends a group; nothing of it is durable yet. `kills` has, for each operation, the segments of the records
    /// that it makes dead, `None` standing for this very segment.
    ///
    /// After an error nothing of the group is in the log (E24).
    pub(crate) fn append(
        &mut self,
        group: &[Txn],
        kills: &[SmallVec<[Option<u32>; 1]>],
        durable_seq: u64,
    ) -> Result<Appended, Failure> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let weight: u64 = group.iter().map(|txn| txn.weight).sum();
        let first_seq = group.iter().flat_map(|txn| &txn.ops).map(|op| op.seq).next().unwrap_or(0);
        self.make_room(weight, first_seq)?;
        let Some(active) = &mut self.active else { unreachable_active() };
        let end = self.tail.end;
        let (places, last) = encode_group(&mut self.buffer, active, end, group, kills, durable_seq)?;
        let path = self.layout.segment(active.id);
        if let Err(e) = active.file.write_all_at(&self.buffer, end) {
            active.sealed = true;
            self.in_doubt = true;
            // What cannot be cut off is left out by the next segment's `prev_end` all the same.
            let _ = active.file.set_len(end);
            return Err(Failure::new("append to", &path, &e));
        }
        let bytes = self.buffer.len() as u64;
        self.tail = Tail { segment: active.id, end: end + bytes, last_seq: last.seq };
        if self.buffer.capacity() > (1 << 20) {
            self.buffer = Vec::new();
        }
        Ok(Appended { places, last, bytes })
    }

    /// Makes what was appended durable.
    ///
    /// After an error the log ends, for this process and all later ones, where it was last synced (E25).
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        match self.sync_point() {
            None => Ok(()),
            Some(point) => {
                let synced = point.run();
                self.synced(&point, synced.is_ok());
                synced
            }
        }
    }

    /// What has to be synced so that everything appended so far is durable; `None` if it is.
    pub(crate) fn sync_point(&self) -> Option<SyncPoint> {
        let active = self.active.as_ref()?;
        (active.synced_end < self.tail.end).then(|| SyncPoint {
            file: active.file.clone(),
            path: self.layout.segment(active.id),
            segment: active.id,
            end: self.tail.end,
            seq: self.tail.last_seq,
        })
    }

    /// Takes no more: what was acknowledged and not synced may be lost.
    pub(crate) fn fail(&mut self, failure: Failure) -> Failure {
        let failure = failure.fatal();
        self.failed = Some(failure.clone());
        failure
    }

    /// Whether a group that failed may be found in the log nonetheless.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// The last seq that is durable. Above it there is nothing that was published before the log was locked, if there
    /// is nothing to be synced.
    pub(crate) fn durable_seq(&self) -> u64 {
        self.active.as_ref().map_or(self.tail.last_seq, |active| active.synced_seq)
    }

    /// Takes note of how a sync ended.
    pub(crate) fn synced(&mut self, point: &SyncPoint, worked: bool) {
        let Some(active) = self.active.as_mut().filter(|active| active.id == point.segment) else { return };
        if worked {
            active.synced_end = active.synced_end.max(point.end);
            active.synced_seq = active.synced_seq.max(point.seq);
        } else {
            self.in_doubt = true;
            self.tail = Tail { segment: active.id, end: active.synced_end, last_seq: active.synced_seq };
            self.active = None;
        }
    }

    /// Sees to it that the active segment takes `weight` more bytes, the first record having `first_seq`.
    fn make_room(&mut self, weight: u64, first_seq: u64) -> Result<(), Failure> {
        if let Some(active) = &self.active {
            let fits = self.tail.end + weight <= self.segment_size || self.tail.end == active.start;
            if !active.sealed && fits && self.tail.last_seq + 1 == first_seq {
                return Ok(());
            }
        }
        // What is there and not synced has been acknowledged (Relaxed).
        self.sync().map_err(|failure| self.fail(failure))?;
        match self.active.take() {
            // Nothing is in it: it is begun again, with another key and base, so that a full disk does not gather
            // empty segments. Only the newest may be found with half a header (E10).
            Some(active)
                if active.id == self.highest
                    && self.tail.segment == active.id
                    && self.tail.end == active.start =>
            {
                self.restart(active, first_seq)
            }
            _ => self.roll(first_seq),
        }
    }

    /// Ends the active segment: the next group begins another one.
    pub(crate) fn seal(&mut self) {
        if let Some(active) = &mut self.active {
            active.sealed = true;
        }
    }

    /// Where the log ends.
    pub(crate) fn tail(&self) -> Tail {
        self.tail
    }

    /// Gives out the id of a packed segment. It is not given again, whether or not there will be such a segment.
    pub(crate) fn take_packed_id(&mut self) -> Result<u32, Failure> {
        if let Some(leftover) = self.leftover.take() {
            // Nobody may find a segment that was never begun before one that was.
            let dir = self.layout.log_dir();
            let removed = self.remove_leftover(leftover);
            removed.and_then(|()| self.vfs.sync_dir(&dir).map_err(|e| Failure::new("sync", &dir, &e)))?;
        }
        self.highest = self.next_id();
        Ok(self.highest)
    }

    fn next_id(&self) -> u32 {
        self.highest.checked_add(1).unwrap_or_else(|| unreachable_active())
    }

    fn remove_leftover(&mut self, path: PathBuf) -> Result<(), Failure> {
        match self.vfs.remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                let failure = Failure::new("remove", &path, &e);
                self.leftover = Some(path);
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    /// Closes the files. Nothing is appended any more.
    pub(crate) fn close(&mut self) {
        self.active = None;
    }

    fn header(&self, id: u32, base_seq: u64, prev: Tail) -> SegmentHeader {
        let mut key = [0; 32];
        self.vfs.random(&mut key);
        let role =
            SegmentRole::Log { prev_id: prev.segment, prev_end: prev.end, prev_last_seq: prev.last_seq };
        SegmentHeader { store_id: self.store_id, segment: id, key, base_seq, role }
    }

    fn restart(&mut self, active: Active, base_seq: u64) -> Result<(), Failure> {
        let path = self.layout.segment(active.id);
        let header = self.header(active.id, base_seq, active.prev);
        let begun = write_header(&*active.file, &header);
        match begun {
            Ok(()) => {
                self.begin(&header, active.file, active.prev, base_seq);
                Ok(())
            }
            Err(e) => {
                self.active = Some(Active { sealed: true, ..active });
                Err(Failure::new("begin segment", &path, &e))
            }
        }
    }

    /// Begins a new segment; the one before is durable (E11).
    fn roll(&mut self, base_seq: u64) -> Result<(), Failure> {
        if let Some(leftover) = self.leftover.take() {
            self.remove_leftover(leftover)?;
        }
        let id = self.next_id();
        let path = self.layout.segment(id);
        let header = self.header(id, base_seq, self.tail);
        let file = self.vfs.create_new(&path).map_err(|e| {
            self.leftover = Some(path.clone());
            Failure::new("create", &path, &e)
        })?;
        let begun = write_header(&*file, &header).and_then(|()| self.vfs.sync_dir(&self.layout.log_dir()));
        if let Err(e) = begun {
            // No record was in it, so its id may be taken again.
            if self.vfs.remove_file(&path).is_err() {
                self.leftover = Some(path.clone());
            }
            return Err(Failure::new("begin segment", &path, &e));
        }
        self.highest = id;
        self.begin(&header, file, self.tail, base_seq);
        Ok(())
    }

    fn begin(&mut self, header: &SegmentHeader, file: FileRef, prev: Tail, base_seq: u64) {
        self.in_doubt = false;
        let start = header.len();
        self.tail = Tail { segment: header.segment, end: start, last_seq: base_seq - 1 };
        self.active = Some(Active {
            id: header.segment,
            key: header.key,
            file,
            prev,
            start,
            synced_end: start,
            synced_seq: base_seq - 1,
            sealed: false,
        });
    }
}

impl SyncPoint {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        self.file.sync_data().map_err(|e| Failure::new("sync", &self.path, &e))
    }
}

fn write_header(file: &dyn VfsFile, header: &SegmentHeader) -> std::io::Result<()> {
    let bytes = header.encode().map_err(std::io::Error::other)?;
    file.set_len(bytes.len() as u64)?;
    file.write_all_at(&bytes, 0)?;
    file.sync_data()
}

fn encode_group(
    buffer: &mut Vec<u8>,
    active: &Active,
    end: u64,
    group: &[Txn],
    kills: &[SmallVec<[Option<u32>; 1]>],
    durable_seq: u64,
) -> Result<(Vec<Place>, Checkpoint), Failure> {
    buffer.clear();
    let mut places = Vec::with_capacity(kills.len());
    let mut last = Checkpoint::default();
    let mut kills = kills.iter();
    for txn in group {
        for (i, queued) in txn.ops.iter().enumerate() {
            let killed: SmallVec<[u32; 1]> =
                kills.next().into_iter().flatten().map(|k| k.unwrap_or(active.id)).collect();
            let start = buffer.len();
            let offset = end + start as u64;
            let more = i + 1 < txn.ops.len();
            let place = RecordPlace { key: &active.key, segment: active.id, offset };
            let stamp =
                |kills| Stamp { seq: queued.seq, durable_seq, kills, flags: Flags { more, unsynced: false } };
            queued
                .op
                .with_record(&killed, |record, kills| record::encode(buffer, place, record, stamp(kills)))
                .map_err(|e| Failure::new("encode", "".as_ref(), &std::io::Error::other(e)))?;
            let check = buffer.get(start..).and_then(|r| r.get(HEADER_LEN - 8..HEADER_LEN));
            last = Checkpoint {
                segment: active.id,
                start: offset,
                end: end + buffer.len() as u64,
                seq: queued.seq,
                check: check.and_then(|c| c.try_into().ok()).unwrap_or_default(),
            };
            places.push(Place { segment: active.id, offset: u32::try_from(offset).unwrap_or(u32::MAX) });
        }
    }
    Ok((places, last))
}

fn unreachable_active() -> ! {
    unreachable!(
        "a segment was begun just before, and four billion of them take longer than the machine lasts"
    )
}
