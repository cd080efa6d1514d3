//! Scanning, on segments that are made in memory.

mod fixture;

use std::sync::Mutex;

use blob_traits::Hash;
use proptest::prelude::*;

use self::fixture::*;
use super::*;
use crate::{
    format::record::{CameFrom, Record, encode_header},
    layout::FileNo,
};

#[test]
fn whole_log_comes_back_in_transactions() {
    let mut log = Log::new();
    let small = log.small(5);
    log.transaction(3);
    let (all, end) = log.scan(NEWEST);
    assert_eq!(met(&all), [Met::Seqs(vec![1]), Met::Seqs(vec![2, 3, 4])]);
    assert_eq!(end, ScanEnd { end: log.end(), last_seq: 4, reason: EndReason::Clean, n_damaged: 0 });
    let Scanned::Transaction(first) = &all[0] else { panic!() };
    assert_eq!((first.records[0].offset, first.end), (small, log.ends[0]));
    assert_eq!(
        (&first.records[0].payload[..], &first.records[0].body),
        (&b"ddddd"[..], &Body::Small { data_len: 5 })
    );
}

#[test]
fn scan_goes_on_where_it_is_told() {
    let mut log = Log::new();
    log.small(5);
    let offset = log.transaction(2);
    let (all, _) = log.scan_from(ScanFrom { offset, next_seq: 2 }, NEWEST).unwrap();
    assert_eq!(met(&all), [Met::Seqs(vec![2, 3])]);
    let (all, end) = log.scan_from(ScanFrom { offset: log.end(), next_seq: 4 }, NEWEST).unwrap();
    assert_eq!((all.len(), end.end, end.last_seq, end.reason), (0, log.end(), 3, EndReason::Clean));
}

#[test]
fn log_cut_anywhere_keeps_the_whole_transactions_before() {
    let mut log = Log::new();
    for n in [1, 3, 1, 2] {
        log.transaction(n);
    }
    let whole = log.bytes.clone();
    for len in FIRST..=whole.len() as u64 {
        log.bytes.truncate(0);
        log.bytes.extend_from_slice(&whole[..usize::try_from(len).unwrap()]);
        let (all, end) = log.scan(NEWEST);
        let kept: Vec<_> = log.ends.iter().copied().filter(|end| *end <= len).collect();
        assert_eq!(all.len(), kept.len(), "{len}");
        assert_eq!(end.end, kept.last().copied().unwrap_or(FIRST));
        let reason = if end.end == len { EndReason::Clean } else { EndReason::Torn };
        assert_eq!(end.reason, reason);
    }
}

#[test]
fn log_cut_before_its_known_end_is_damaged() {
    let mut log = Log::new();
    log.small(5);
    log.transaction(2);
    let (known, whole) = (log.end(), log.ends[0]);
    for len in [whole, whole + 8, known - 1] {
        log.bytes.truncate(usize::try_from(len).unwrap());
        log.bytes.resize(usize::try_from(len).unwrap(), 0);
        let (all, end) = log.scan(ScanLimits { known_end: Some(known), ..NEWEST });
        assert_eq!(met(&all), [Met::Seqs(vec![1]), Met::Damage(whole..known)]);
        assert_eq!((end.end, end.last_seq, end.reason), (whole, 1, EndReason::Damaged));
        log.bytes.resize(usize::try_from(known).unwrap(), 0);
    }
}

#[test]
fn bytes_after_the_known_end_do_not_count() {
    let mut log = Log::new();
    log.small(5);
    let known = log.end();
    log.small(6);
    let (all, end) = log.scan(ScanLimits { known_end: Some(known), ..NEWEST });
    assert_eq!((met(&all), end.reason), (vec![Met::Seqs(vec![1])], EndReason::Clean));
}

#[test]
fn record_across_the_known_end_is_damage() {
    let mut log = Log::new();
    log.small(5);
    let (start, known) = (log.end(), log.end() + 88);
    log.small(50);
    let (all, end) = log.scan(ScanLimits { known_end: Some(known), ..NEWEST });
    assert_eq!(met(&all), [Met::Seqs(vec![1]), Met::Damage(start..known)]);
    assert_eq!((end.end, end.reason), (start, EndReason::Damaged));
}

#[test]
fn transaction_open_at_the_known_end_is_damage() {
    let mut log = Log::new();
    log.small(5);
    let offset = log.put(&Record::Mark, true);
    let known_end = Some(log.end());
    let (all, end) = log.scan(ScanLimits { known_end, ..NEWEST });
    assert_eq!(met(&all), [Met::Seqs(vec![1]), Met::Damage(offset..log.end())]);
    assert_eq!((end.end, end.reason), (offset, EndReason::Damaged));
}

#[test]
fn damage_takes_its_transaction_and_no_other() {
    let mut log = Log::new();
    log.small(5);
    let hit = log.transaction(3);
    let next = log.transaction(2);
    log.sync();
    log.small(6);
    for byte in hit..next {
        let mut damaged =
            Log { bytes: log.bytes.clone(), ends: Vec::new(), header: log.header.clone(), ..log };
        damaged.bytes[usize::try_from(byte).unwrap()] ^= 1;
        let (all, end) = damaged.scan(NEWEST);
        if (byte - hit) % 88 >= 84 {
            continue; // padding
        }
        let Scanned::Damage(Damage { range, first_seq: 2, next_seq: Some(seq) }) = &all[1] else {
            panic!("{all:?}")
        };
        // What follows in the same transaction is handed on, marked as what may be half of one.
        let resumed = hit + (byte - hit) / 88 * 88 + 88;
        assert_eq!((range.clone(), *seq), (hit..resumed, 2 + (resumed - hit) / 88));
        let Scanned::Transaction(after) = &all[2] else { panic!("{all:?}") };
        assert!(after.follows_damage);
        let Some(Scanned::Transaction(last)) = all.last() else { panic!("{all:?}") };
        assert_eq!((last.records[0].header.seq, last.follows_damage), (7, false));
        assert_eq!((end.end, end.last_seq, end.reason), (log.end(), 7, EndReason::Clean));
    }
}

#[test]
fn group_that_nothing_vouches_for_is_torn_with_all_after_it() {
    let mut log = Log::new();
    log.small(5);
    log.sync();
    let torn = log.small(5);
    log.small(6); // of the same group, and landed
    log.bytes[usize::try_from(torn).unwrap() + 82] ^= 1;
    let (all, end) = log.scan(NEWEST);
    assert_eq!(met(&all), [Met::Seqs(vec![1])]);
    assert_eq!((end.end, end.last_seq, end.reason), (torn, 1, EndReason::Torn));
}

#[test]
fn seq_behind_the_checkpoint_cannot_be_torn() {
    let mut log = Log::new();
    log.small(5);
    let torn = log.small(5);
    log.bytes[usize::try_from(torn).unwrap()] ^= 1;
    let (_, end) = log.scan(ScanLimits { checkpoint_seq: 1, ..NEWEST });
    assert_eq!(end.reason, EndReason::Torn);
    let (all, end) = log.scan(ScanLimits { checkpoint_seq: 2, ..NEWEST });
    assert_eq!(met(&all), [Met::Seqs(vec![1]), Met::Damage(torn..log.end())]);
    assert_eq!((end.end, end.reason), (torn, EndReason::Damaged));
}

#[test]
fn record_far_behind_damage_is_found() {
    // The damaged record is longer than the window, and the next one starts around where windows meet.
    for shift in [0, 40, 72, 80, 88, 160] {
        let mut log = Log::new();
        let hit = log.put(&Record::Small { hash: Hash::EMPTY, data: &[], outboard: &[] }, false);
        let hit_len = (2 << 20) - shift - 80;
        log.bytes.truncate(usize::try_from(hit).unwrap());
        log.bytes.resize(usize::try_from(hit + hit_len).unwrap(), 0xee);
        log.sync();
        let next = log.transaction(1);
        let (all, _) = log.scan(NEWEST);
        assert_eq!(met(&all), [Met::Damage(hit..next), Met::Seqs(vec![2])], "{shift}");
    }
}

#[test]
fn records_inside_of_blobs_are_not_read() {
    let mut log = Log::new();
    let mut forged = Log::new();
    forged.durable_seq = 100;
    forged.seq = 3;
    // The position is right as well: only the key of the segment is not known to strangers.
    forged.header.key = [3; 32];
    forged.bytes.resize(usize::try_from(FIRST + 80 + 4096).unwrap(), 0);
    forged.put(&Record::Delete(&[(Hash::EMPTY, 0)]), false);
    let data = &forged.bytes[usize::try_from(FIRST + 80).unwrap()..];
    let hit = log.put(&Record::Small { hash: Hash::new(data), data, outboard: &[] }, false);
    log.bytes[usize::try_from(hit).unwrap() + 8] ^= 1;
    let (all, end) = log.scan(NEWEST);
    assert_eq!((all.len(), end.end, end.reason), (0, FIRST, EndReason::Torn));
    // The same bytes with the key count, which shows that they are in the right place.
    let mut known = Log { header: forged.header.clone(), ..log };
    known.scan_from(ScanFrom { offset: FIRST, next_seq: 3 }, NEWEST).unwrap();
    known.seq = 3;
    assert!(matches!(known.scan(NEWEST).0[..], [Scanned::Damage(_), Scanned::Transaction(_)]));
}

#[test]
fn record_of_a_newer_version_stops_the_scan() {
    let mut log = Log::new();
    log.small(5);
    let offset = log.transaction(1);
    let place = Place { key: &log.header.key, segment: 1, offset };
    let header = log.header_at(offset);
    let newer = encode_header(place, &Header { kind: 100, ..header });
    log.bytes[usize::try_from(offset).unwrap()..][..80].copy_from_slice(&newer);
    let refused = log.scan_from(ScanFrom { offset: FIRST, next_seq: 1 }, NEWEST);
    assert!(matches!(
        refused,
        Err(ScanError::Unsupported { offset: at, cause: BadHeader::UnknownKind(100) }) if at == offset
    ));
}

#[test]
fn payload_that_means_nothing_is_damage_even_at_the_end() {
    let mut log = Log::new();
    let record = Record::Large { hash: Hash::EMPTY, size: 1, no: FileNo(1), came_from: CameFrom::Temp };
    let offset = log.put(&record, false);
    let place = Place { key: &log.header.key, segment: 1, offset };
    let mut header = log.header_at(offset);
    let start = usize::try_from(offset).unwrap();
    log.bytes[start + 96] = 9; // came from nowhere
    header.payload_crc = crc32c::crc32c(&log.bytes[start + 80..start + 97]);
    let head = encode_header(place, &header);
    log.bytes[start..start + 80].copy_from_slice(&head);
    let (all, end) = log.scan(NEWEST);
    assert_eq!((met(&all), end.reason), (vec![Met::Damage(offset..log.end())], EndReason::Damaged));
}

#[test]
fn gap_in_the_seqs_is_legal_in_packed_segments_alone() {
    let mut log = Log::new();
    log.small(1);
    log.seq = 5;
    let gap = log.small(2);
    let known_end = Some(log.end());
    let packed = ScanLimits { seqs: SeqRule::Ascending, known_end, ..NEWEST };
    assert_eq!(met(&log.scan(packed).0), [Met::Seqs(vec![1]), Met::Seqs(vec![5])]);
    let in_log = ScanLimits { known_end, ..NEWEST };
    assert_eq!(met(&log.scan(in_log).0), [Met::Seqs(vec![1]), Met::Damage(gap..gap), Met::Seqs(vec![5])]);
    log.seq = 5; // once more
    let again = log.small(3);
    let packed = ScanLimits { known_end: Some(log.end()), ..packed };
    assert_eq!(
        met(&log.scan(packed).0),
        [Met::Seqs(vec![1]), Met::Seqs(vec![5]), Met::Damage(again..log.end())]
    );
}

#[test]
fn transaction_longer_than_the_limit_is_not_held_in_memory() {
    let mut log = Log::new();
    let data = vec![1; 16 << 10];
    let record = Record::Small { hash: Hash::EMPTY, data: &data, outboard: &[] };
    for _ in 0..1025 {
        log.put(&record, true);
    }
    log.transaction(1);
    let (all, _) = log.scan(ScanLimits { known_end: Some(log.end()), ..NEWEST });
    assert!(matches!(
        all[..],
        [Scanned::Damage(_), Scanned::Transaction(Transaction { follows_damage: true, .. })]
    ));
}

#[test]
fn longest_record_comes_back() {
    let mut log = Log::new();
    let data_len = (16 << 20) - 1023 * 64;
    let (data, outboard) = (vec![1; data_len], vec![2; (data_len.div_ceil(16 << 10) - 1) * 64]);
    log.put(&Record::Small { hash: Hash::EMPTY, data: &data, outboard: &outboard }, false);
    log.small(1);
    let (all, end) = log.scan(NEWEST);
    let Scanned::Transaction(first) = &all[0] else { panic!() };
    assert!(first.records[0].payload == [data, outboard].concat());
    assert_eq!((all.len(), end.reason), (2, EndReason::Clean));
}

#[test]
fn skipped_payloads_are_not_looked_at() {
    let mut log = Log::new();
    let offset = log.small(100);
    log.transaction(1);
    log.bytes[usize::try_from(offset).unwrap() + 100] ^= 1;
    let skip = ScanLimits { small: SmallPayloads::Skip, ..NEWEST };
    assert_eq!(met(&log.scan(skip).0), [Met::Seqs(vec![1]), Met::Seqs(vec![2])]);
    assert!(log.scan(NEWEST).0.is_empty());
}

#[test]
fn hostile_starting_points_end_the_scan() {
    let mut log = Log::new();
    log.small(5);
    for offset in [0, 4097, 4099, log.end() + 1, u64::MAX - 8, u64::MAX - 7, u64::MAX] {
        for (known_end, next_seq) in [(None, 1), (Some(log.end()), u64::MAX), (Some(u64::MAX), 0)] {
            let limits = ScanLimits { known_end, ..NEWEST };
            let (_, end) = log.scan_from(ScanFrom { offset, next_seq }, limits).unwrap();
            assert!(end.n_damaged <= 2);
        }
    }
}

#[test]
fn failing_visitor_ends_the_scan() {
    let mut log = Log::new();
    log.small(5);
    log.small(6);
    let mut n_visits = 0;
    let from = ScanFrom { offset: FIRST, next_seq: 1 };
    let failed = scan(&MemFile(Mutex::new(log.bytes)), &log.header, from, NEWEST, &mut |_| {
        n_visits += 1;
        Err::<(), _>(ScanError::Io(io::ErrorKind::StorageFull.into()))
    });
    assert!(matches!(failed, Err(ScanError::Io(e)) if e.kind() == io::ErrorKind::StorageFull));
    assert_eq!(n_visits, 1);
}

proptest! {
    #[test]
    fn nothing_is_read_that_was_not_written(
        sizes in prop::collection::vec((1..4_usize, any::<bool>()), 1..10),
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1..30_usize), 0..4),
        cut in any::<Option<prop::sample::Index>>(),
        (known, checkpoint_seq) in (any::<bool>(), 0..20_u64),
    ) {
        let mut log = Log::new();
        for (n, sync) in sizes {
            log.transaction(n);
            if sync {
                log.sync();
            }
        }
        let (written, _) = log.scan(NEWEST);
        let known_end = known.then_some(log.end());
        for (at, byte, n) in patches {
            let from = 4096 + at.index(log.bytes.len() - 4096);
            let to = log.bytes.len().min(from + n);
            log.bytes[from..to].fill(byte);
        }
        if let Some(cut) = cut {
            log.bytes.truncate(4096 + cut.index(log.bytes.len() - 4096));
        }
        let (read, end) = log.scan(ScanLimits { known_end, checkpoint_seq, ..NEWEST });
        let records = |all: &[Scanned]| -> Vec<ScannedRecord> {
            all.iter().flat_map(|s| match s {
                Scanned::Transaction(t) => t.records.clone(),
                Scanned::Damage(_) => Vec::new(),
            }).collect()
        };
        let (written_records, read_records) = (records(&written), records(&read));
        prop_assert!(read_records.iter().all(|r| written_records.contains(r)));
        prop_assert!(read_records.is_sorted_by(|a, b| a.header.seq < b.header.seq));
        // Everything between start and end is accounted for: transactions and damage lie side by side.
        let mut at = FIRST;
        for scanned in &read {
            match scanned {
                Scanned::Transaction(t) => {
                    prop_assert_eq!(t.records[0].offset, at);
                    prop_assert!(t.follows_damage || written.contains(scanned));
                    at = t.end;
                }
                Scanned::Damage(damage) => {
                    prop_assert_eq!(damage.range.start, at);
                    at = damage.range.end;
                }
            }
        }
        match end.reason {
            EndReason::Clean => prop_assert_eq!(at, known_end.unwrap_or(log.end())),
            EndReason::Torn => prop_assert!(!known && end.last_seq >= checkpoint_seq),
            EndReason::Damaged => prop_assert!(at >= known_end.unwrap_or(log.end())),
        }
    }
}
