//! Range specifications: the same bytes in postcard, alone and as parts of a request for a sequence.

use blob_traits::{
    RangeSpec,
    bao_tree::{ChunkNum, ChunkRanges},
};
use iroh_blobs::protocol::{ChunkRangesSeq, RangeSpec as PeerSpec};

use crate::sample::Numbers;

const N_RANDOM: u64 = 500;

/// Sets with boundaries close together, far apart, and at the very end.
fn random_ranges(seed: u64) -> ChunkRanges {
    let mut numbers = Numbers::of_seed(seed);
    let limit = [8, 1000, 1 << 40, u64::MAX];
    let limit = limit.into_iter().nth(usize::try_from(seed % 4).unwrap()).unwrap();
    numbers.ranges_below(limit)
}

fn special_ranges() -> [ChunkRanges; 5] {
    [
        ChunkRanges::empty(),
        ChunkRanges::all(),
        ChunkRanges::from(ChunkNum(7)..),
        ChunkRanges::from(ChunkNum(u64::MAX)..),
        ChunkRanges::from(ChunkNum(0)..ChunkNum(u64::MAX)),
    ]
}

fn assert_same(ranges: &ChunkRanges, case: &str) {
    let (ours, theirs) = (RangeSpec::new(ranges), PeerSpec::new(ranges));
    let bytes = postcard::to_stdvec(&ours).unwrap();
    assert_eq!(bytes, postcard::to_stdvec(&theirs).unwrap(), "{case}");
    assert_eq!(postcard::from_bytes::<RangeSpec>(&bytes).unwrap().to_chunk_ranges(), *ranges, "{case}");
    assert_eq!(postcard::from_bytes::<PeerSpec>(&bytes).unwrap().to_chunk_ranges(), *ranges, "{case}");
}

#[test]
fn range_specs_have_the_same_bytes() {
    for seed in 0..N_RANDOM {
        assert_same(&random_ranges(seed), &format!("seed {seed}"));
    }
    for ranges in special_ranges() {
        assert_same(&ranges, &format!("{ranges:?}"));
    }
}

#[test]
fn constants_are_the_same() {
    for (ours, theirs) in [
        (RangeSpec::EMPTY, PeerSpec::EMPTY),
        (RangeSpec::all(), PeerSpec::all()),
        (RangeSpec::new(ChunkRanges::from(ChunkNum(u64::MAX)..)), PeerSpec::verified_size()),
    ] {
        assert_eq!(postcard::to_stdvec(&ours).unwrap(), postcard::to_stdvec(&theirs).unwrap());
    }
}

/// We have no requests, but what theirs are made of is ours: pairs of a step and a range spec.
#[test]
fn requests_for_sequences_consist_of_our_range_specs() {
    for seed in 0..N_RANDOM {
        let all = (0..4).map(|i| random_ranges(seed * 4 + i));
        let request = ChunkRangesSeq::from_ranges(all.collect::<Vec<_>>());
        let bytes = postcard::to_stdvec(&request).unwrap();
        let parts: Vec<(u64, RangeSpec)> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(postcard::to_stdvec(&parts).unwrap(), bytes, "seed {seed}");
        let mut offset = 0;
        for (step, spec) in parts {
            offset += step;
            assert_eq!(spec.to_chunk_ranges(), request[offset], "seed {seed}");
        }
    }
}

/// Lists of widths, most of them malformed: both read them or both refuse them.
#[test]
fn malformed_range_specs_are_refused_by_both() {
    let mut n_refused = 0;
    for seed in 0..N_RANDOM {
        let mut numbers = Numbers::of_seed(seed);
        let widths: Vec<u64> = (0..numbers.below(5))
            .map(|_| if numbers.below(4) == 0 { u64::MAX - numbers.below(3) } else { numbers.below(3) })
            .collect();
        let mut bytes = postcard::to_stdvec(&widths).unwrap();
        if numbers.below(4) == 0 {
            bytes.pop();
        }
        let ours = postcard::from_bytes::<RangeSpec>(&bytes).map(|spec| spec.to_chunk_ranges());
        let theirs = postcard::from_bytes::<PeerSpec>(&bytes).map(|spec| spec.to_chunk_ranges());
        n_refused += u64::from(ours.is_err());
        assert_eq!(ours.ok(), theirs.ok(), "seed {seed}: {widths:?}");
    }
    assert!((N_RANDOM / 10..N_RANDOM * 9 / 10).contains(&n_refused), "{n_refused}");
}
