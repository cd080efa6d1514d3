//! What a verb works on: a hash or a tag, with ranges of bytes.

use std::ffi::OsStr;

use blob_traits::{BlobFormat, Hash, MAX_TAG_LEN, ParseHashError, Tag};

use crate::range::{ByteRange, RangeError};

/// A blob by its hash, or a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// 64 hex digits, with an `s` before them where the hash sequence is meant, or 52 digits of base32.
    Hash(Hash, Option<BlobFormat>),
    /// Everything else.
    Tag(Tag),
}

/// A name, and the ranges behind it where there are any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: Name,
    ranges: Option<Vec<ByteRange>>,
}

/// Says what is wrong with a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("a hash or the name of a tag is expected, not an empty text")]
    Empty,
    #[error("the name of a tag has at most {MAX_TAG_LEN} bytes, this has {0}")]
    TooLong(usize),
    #[error(transparent)]
    Range(#[from] RangeError),
}

impl Name {
    /// Parses a name that stands alone.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, TargetError> {
        Self::from_bytes(text.as_encoded_bytes())
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, TargetError> {
        Ok(parse_hash(bytes).map_or(Self::Tag(tag(bytes)?), |(hash, format)| Self::Hash(hash, format)))
    }
}

impl Target {
    /// Parses `NAME` or `NAME:RANGES`.
    ///
    /// Behind a hash a colon begins ranges. A tag may have colons in its name: what is behind the last one counts as
    /// ranges only where it looks like some, as in `12..34`, `..34` or `12+34`.
    pub(crate) fn parse(text: &OsStr) -> Result<Self, TargetError> {
        let bytes = text.as_encoded_bytes();
        if let Some((name, ranges)) = split_at(bytes, bytes.iter().position(|b| *b == b':'))
            && let Some((hash, format)) = parse_hash(name)
        {
            let ranges = ByteRange::parse_list(&String::from_utf8_lossy(ranges))?;
            return Ok(Self { name: Name::Hash(hash, format), ranges: Some(ranges) });
        }
        if let Some((name, ranges)) = split_at(bytes, bytes.iter().rposition(|b| *b == b':'))
            && let Ok(ranges) = str::from_utf8(ranges)
            && ByteRange::is_meant_by(ranges)
        {
            return Ok(Self { name: Name::from_bytes(name)?, ranges: Some(ByteRange::parse_list(ranges)?) });
        }
        Ok(Self { name: Name::from_bytes(bytes)?, ranges: None })
    }

    /// The ranges in the order in which they were given; all of the blob where there were none.
    pub(crate) fn ranges(&self) -> &[ByteRange] {
        self.ranges.as_deref().unwrap_or(&[ByteRange::ALL])
    }
}

/// Parses the name of a tag, also where it looks like a hash.
pub(crate) fn parse_tag(text: &OsStr) -> Result<Tag, TargetError> {
    tag(text.as_encoded_bytes())
}

/// Says why a tag that does not exist was perhaps meant as a hash.
pub(crate) fn meant_as_hash(tag: &Tag) -> Option<ParseHashError> {
    let text = str::from_utf8(&tag.0).ok()?;
    let is_hex = text.chars().all(|c| c.is_ascii_hexdigit());
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
    let looks = (is_hex && text.len() >= 32) || (is_word && matches!(text.len(), 52 | 64));
    if looks { text.parse::<Hash>().err() } else { None }
}

fn parse_hash(bytes: &[u8]) -> Option<(Hash, Option<BlobFormat>)> {
    let text = str::from_utf8(bytes).ok()?;
    if text.len() == 65 {
        let hash = text.strip_prefix('s')?.parse().ok()?;
        return Some((hash, Some(BlobFormat::HashSeq)));
    }
    Some((text.parse().ok()?, None))
}

fn tag(bytes: &[u8]) -> Result<Tag, TargetError> {
    match bytes.len() {
        0 => Err(TargetError::Empty),
        n if n > MAX_TAG_LEN => Err(TargetError::TooLong(n)),
        _ => Ok(Tag::from(bytes)),
    }
}

fn split_at(bytes: &[u8], colon: Option<usize>) -> Option<(&[u8], &[u8])> {
    let (name, rest) = bytes.split_at_checked(colon?)?;
    Some((name, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<Target, TargetError> {
        Target::parse(OsStr::new(text))
    }

    fn tag_target(name: &str, ranges: Option<&str>) -> Target {
        let ranges = ranges.map(|text| ByteRange::parse_list(text).unwrap());
        Target { name: Name::Tag(name.into()), ranges }
    }

    #[test]
    fn colons_belong_to_a_tag_unless_a_range_follows() {
        for (text, name, ranges) in [
            ("photos", "photos", None),
            ("a:b:c", "a:b:c", None),
            ("auto-2026-01-02T03:04:05.678Z", "auto-2026-01-02T03:04:05.678Z", None),
            ("auto-2026-01-02T03:04:05.678Z:0..5", "auto-2026-01-02T03:04:05.678Z", Some("0..5")),
            ("v1:2", "v1:2", None),
            ("v1:a..b", "v1:a..b", None),
            ("v1:1+2:..", "v1:1+2", Some("..")),
            ("x:0..4,8..", "x", Some("0..4,8..")),
            ("x:", "x:", None),
        ] {
            assert_eq!(parse(text), Ok(tag_target(name, ranges)), "{text}");
        }
    }

    #[test]
    fn what_follows_a_hash_is_a_range_or_wrong() {
        let hash = Hash::new(b"x");
        let target = parse(&format!("{hash}:1..2")).unwrap();
        assert_eq!(target.name, Name::Hash(hash, None));
        assert_eq!(target.ranges(), ["1..2".parse().unwrap()]);
        for wrong in ["", "x", "1", "1..2..3", "5..1", "1..2,", ":"] {
            let error = parse(&format!("{hash}:{wrong}")).unwrap_err();
            assert!(matches!(error, TargetError::Range(_)), "{wrong}");
        }
    }

    #[test]
    fn malformed_range_behind_a_tag_is_wrong_where_it_looks_like_one() {
        for wrong in ["tag:9..1", "tag:1..x", "tag:1+", "tag:0..1,2"] {
            assert!(matches!(parse(wrong), Err(TargetError::Range(_))), "{wrong}");
        }
    }

    #[test]
    fn hash_sequence_is_told_by_its_letter() {
        let hash = Hash::new(b"x");
        assert_eq!(parse(&format!("s{hash}")).unwrap().name, Name::Hash(hash, Some(BlobFormat::HashSeq)));
    }

    #[test]
    fn nothing_and_too_much_are_no_tags() {
        assert_eq!(parse(""), Err(TargetError::Empty));
        assert_eq!(parse(":0..1"), Err(TargetError::Empty));
        assert_eq!(parse(&"x".repeat(4097)), Err(TargetError::TooLong(4097)));
    }

    #[test]
    fn what_is_nearly_a_hash_is_noticed() {
        for text in ["a".repeat(63), "a".repeat(65), "g".repeat(64), format!("{}1", "a".repeat(51))] {
            assert!(meant_as_hash(&Tag::from(text.as_str())).is_some(), "{text}");
        }
        for text in ["deadbeef".to_owned(), "x".repeat(30), format!("{}.tar", "a".repeat(60))] {
            assert!(meant_as_hash(&Tag::from(text.as_str())).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "[a-z0-9:.+,]{0,70}|.{0,70}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_hash_takes_any_range(bytes: [u8; 32], start: u32, len: u32) {
            let hash = Hash::from_bytes(bytes);
            let target = parse(&format!("{hash}:{start}+{len}")).unwrap();
            prop_assert_eq!(target.name, Name::Hash(hash, None));
        }

        #[test]
        fn whole_range_behind_it_makes_any_text_a_tag(name in ".{1,40}") {
            let target = parse(&format!("{name}:..")).unwrap();
            prop_assert_eq!(target.name, Name::Tag(name.as_str().into()));
        }
    }
}
