//! What blobs and tags are called: hashes, hashes with formats, tags; as text and in postcard.

use std::time::{Duration, SystemTime};

use blob_traits::{BlobFormat, Hash, HashAndFormat, Tag};
use iroh_blobs::api::Tag as PeerTag;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    party::{Party, to_peer},
    sample::{self, Numbers, SIZES},
};

const N_HASHES: u64 = 200;

fn hashes() -> impl Iterator<Item = (u64, Hash)> {
    (0..N_HASHES).map(|seed| (seed, Hash::new(sample::bytes(seed, 9))))
}

/// Both values have the same bytes in postcard, and each side reads those of the other.
fn assert_same_postcard<A, B>(ours: &A, theirs: &B, case: &str)
where
    A: Serialize + DeserializeOwned + PartialEq,
    B: Serialize + DeserializeOwned + PartialEq,
{
    let (a, b) = (postcard::to_stdvec(ours).unwrap(), postcard::to_stdvec(theirs).unwrap());
    assert_eq!(a, b, "{case}");
    assert!(postcard::from_bytes::<A>(&b).unwrap() == *ours, "{case}");
    assert!(postcard::from_bytes::<B>(&a).unwrap() == *theirs, "{case}");
}

#[tokio::test]
async fn all_stores_give_a_blob_the_same_name() {
    let parties = Party::all().await;
    for (size, seed) in SIZES.into_iter().zip(0..) {
        let blob = sample::bytes(seed, size);
        let theirs = iroh_blobs::Hash::new(&blob);
        assert_eq!(Hash::new(&blob).as_bytes(), theirs.as_bytes(), "size {size}");
        for party in &parties {
            assert_eq!(party.add(blob.clone()).await, Hash::new(&blob), "{}, size {size}", party.name);
            assert_eq!(party.read(Hash::new(&blob)).await, blob, "{}, size {size}", party.name);
        }
    }
}

#[test]
fn hashes_have_the_same_text() {
    for (seed, ours) in hashes() {
        let theirs = to_peer(ours);
        assert_eq!(ours.to_string(), theirs.to_string(), "seed {seed}");
        assert_eq!(ours.fmt_short(), theirs.fmt_short().to_string(), "seed {seed}");
        assert_eq!(theirs.to_string().parse(), Ok(ours), "seed {seed}");
        assert_eq!(ours.to_string().parse::<iroh_blobs::Hash>().unwrap(), theirs, "seed {seed}");
        let json = serde_json::to_string(&ours).unwrap();
        assert_eq!(json, serde_json::to_string(&theirs).unwrap(), "seed {seed}");
        assert_eq!(serde_json::from_str::<iroh_blobs::Hash>(&json).unwrap(), theirs, "seed {seed}");
    }
}

#[test]
fn hashes_in_base32_are_read_as_the_same() {
    for (seed, hash) in hashes() {
        let text = base32(hash);
        for text in [text.to_ascii_uppercase(), text] {
            assert_eq!(text.parse(), Ok(hash), "seed {seed}");
            assert_eq!(text.parse::<iroh_blobs::Hash>().unwrap(), to_peer(hash), "seed {seed}");
        }
    }
}

/// Theirs reads a hash in lower case alone; nobody writes another.
#[test]
fn hex_in_upper_case_is_read_by_ours_alone() {
    let text = Hash::EMPTY.to_string().to_ascii_uppercase();
    assert_eq!(text.parse(), Ok(Hash::EMPTY));
    assert!(text.parse::<iroh_blobs::Hash>().is_err());
}

#[test]
fn texts_that_name_nothing_are_refused_by_both() {
    let hex = Hash::EMPTY.to_string();
    for text in ["", "a", &hex[1..], &format!("{hex}0"), &format!("g{}", &hex[1..]), &"1".repeat(52)] {
        assert!(text.parse::<Hash>().is_err() && text.parse::<iroh_blobs::Hash>().is_err(), "{text}");
        assert!(text.parse::<HashAndFormat>().is_err(), "{text}");
        assert!(text.parse::<iroh_blobs::HashAndFormat>().is_err(), "{text}");
    }
}

#[test]
fn hashes_with_formats_have_the_same_text() {
    for (seed, hash) in hashes() {
        for (ours, theirs) in both_formats(hash) {
            assert_eq!(ours.to_string(), theirs.to_string(), "seed {seed}");
            for text in [ours.to_string(), ours.to_string().to_ascii_uppercase()] {
                assert_eq!(text.parse(), Ok(ours), "seed {seed}");
                assert_eq!(text.parse::<iroh_blobs::HashAndFormat>().unwrap(), theirs, "seed {seed}");
            }
            let json = serde_json::to_string(&ours).unwrap();
            assert_eq!(json, serde_json::to_string(&theirs).unwrap(), "seed {seed}");
        }
    }
}

#[test]
fn names_have_the_same_bytes_in_postcard() {
    for (seed, hash) in hashes() {
        assert_same_postcard(&hash, &to_peer(hash), &format!("seed {seed}"));
        for (ours, theirs) in both_formats(hash) {
            assert_same_postcard(&ours, &theirs, &format!("seed {seed}"));
        }
    }
    assert_same_postcard(&BlobFormat::Raw, &iroh_blobs::BlobFormat::Raw, "raw");
    assert_same_postcard(&BlobFormat::HashSeq, &iroh_blobs::BlobFormat::HashSeq, "hash sequence");
}

#[test]
fn tags_have_the_same_bytes_and_neighbours() {
    for seed in 0..N_HASHES {
        let mut numbers = Numbers::of_seed(seed);
        let len = usize::try_from(numbers.below(40)).unwrap();
        let name = sample::bytes(seed, len);
        let (ours, theirs) = (Tag::from(&name[..]), PeerTag::from(&name[..]));
        assert_same_postcard(&ours, &theirs, &format!("seed {seed}"));
        let json = serde_json::to_string(&ours).unwrap();
        assert_eq!(json, serde_json::to_string(&theirs).unwrap(), "seed {seed}");
        assert_eq!(ours.successor().0, theirs.successor().0, "seed {seed}");
        if !name.ends_with(b"\xff") {
            let neighbours = (ours.next_prefix(), theirs.next_prefix());
            assert_eq!(neighbours.0.map(|tag| tag.0), neighbours.1.map(|tag| tag.0), "seed {seed}");
        }
    }
}

/// Theirs counts up in place, so that its range of a prefix takes in a tag without that prefix.
#[test]
fn prefixes_that_end_in_ff_have_other_neighbours() {
    let name = b"a\xff".as_slice();
    assert_eq!(Tag::from(name).next_prefix(), Some(Tag::from("b")));
    assert_eq!(PeerTag::from(name).next_prefix(), Some(PeerTag::from("b\0")));
}

#[test]
fn automatic_tags_have_the_same_form() {
    for seed in 0..N_HASHES {
        let mut numbers = Numbers::of_seed(seed);
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(numbers.below(1 << 52));
        let n_taken = numbers.below(3);
        let taken = |name: &[u8]| (0..n_taken).any(|n| name.ends_with(suffix(n).as_bytes()));
        let ours = Tag::auto(time, |tag| taken(tag.as_ref()));
        assert_eq!(ours.0, PeerTag::auto(time, taken).0, "seed {seed}");
    }
}

/// How the n-th automatic tag for one moment ends.
fn suffix(n: u64) -> String {
    if n == 0 { "Z".to_owned() } else { format!("Z-{n}") }
}

fn both_formats(hash: Hash) -> [(HashAndFormat, iroh_blobs::HashAndFormat); 2] {
    let peer = to_peer(hash);
    [
        (HashAndFormat::raw(hash), iroh_blobs::HashAndFormat::raw(peer)),
        (HashAndFormat::hash_seq(hash), iroh_blobs::HashAndFormat::hash_seq(peer)),
    ]
}

/// RFC 4648 without padding, in lower case: written here, since neither side writes it.
fn base32(hash: Hash) -> String {
    let bits: Vec<u8> =
        hash.as_bytes().iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)).collect();
    let digits = bits.chunks(5).map(|five| {
        let digit = (0..5).fold(0, |digit, i| digit << 1 | five.get(i).copied().unwrap_or(0));
        char::from(if digit < 26 { b'a' + digit } else { b'2' + digit - 26 })
    });
    digits.collect()
}
