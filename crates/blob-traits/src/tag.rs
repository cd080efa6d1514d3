//! Names that keep blobs alive, and ranges of them.

use std::{
    borrow::Borrow,
    fmt,
    ops::{Bound, RangeBounds},
    time::SystemTime,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The longest tag that a store takes, in bytes.
pub const MAX_TAG_LEN: usize = 4096;

/// Names something that is to be kept: any byte string, ordered by bytes.
///
/// Prints as text where it is UTF-8 without control characters, otherwise with everything else escaped as in a
/// byte string literal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub Bytes);

impl Tag {
    /// Returns the smallest tag greater than this one.
    #[must_use]
    pub fn successor(&self) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + 1);
        bytes.extend_from_slice(&self.0);
        bytes.push(0);
        Self(bytes.into())
    }

    /// Returns the smallest tag that is greater than every tag with this prefix, or `None` where there is none: for
    /// the empty prefix and one that is all `0xff`.
    pub fn next_prefix(&self) -> Option<Self> {
        let last = self.0.iter().rposition(|byte| *byte != 0xff)?;
        let mut bytes = self.0.get(..=last)?.to_vec();
        *bytes.last_mut()? += 1;
        Some(Self(bytes.into()))
    }

    /// Makes up a tag that does not exist yet: `auto-`, the time in UTC down to the millisecond and, where that
    /// name is taken, `-1`, `-2` and so on.
    pub fn auto(time: SystemTime, exists: impl Fn(&Self) -> bool) -> Self {
        let limit = if time < SystemTime::UNIX_EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        let time = Timestamp::try_from(time).unwrap_or(limit);
        let name = format!("auto-{time:.3}");
        let mut tag = Self::from(name.as_str());
        let mut n = 0_u64;
        while exists(&tag) {
            n += 1;
            tag = Self::from(format!("{name}-{n}"));
        }
        tag
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(char::is_control) => f.write_str(text),
            _ => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({self})")
    }
}

impl AsRef<[u8]> for Tag {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Tag {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Tag {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Tag {
    fn from(bytes: &[u8]) -> Self {
        Self(Bytes::copy_from_slice(bytes))
    }
}

impl From<String> for Tag {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Tag {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

/// Tells some tags from the others by an interval of their order.
///
/// Any pair of bounds will do: where the lower is above the upper the range is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagRange {
    start: Bound<Tag>,
    end: Bound<Tag>,
}

impl TagRange {
    /// Takes every tag.
    pub const fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Takes the tags that begin with `prefix`, that tag itself among them.
    pub fn prefix(prefix: impl Into<Tag>) -> Self {
        let prefix = prefix.into();
        let end = prefix.next_prefix().map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(prefix), end }
    }

    /// Takes one tag.
    pub fn one(tag: impl Into<Tag>) -> Self {
        let tag = tag.into();
        Self { start: Bound::Included(tag.clone()), end: Bound::Included(tag) }
    }

    /// Returns whether a tag is in the range.
    pub fn contains(&self, tag: &Tag) -> bool {
        (self.start.as_ref(), self.end.as_ref()).contains(tag)
    }

    /// Returns whether no tag at all can be in the range.
    pub fn is_empty(&self) -> bool {
        let first = match &self.start {
            Bound::Unbounded => Tag(Bytes::new()),
            Bound::Included(tag) => tag.clone(),
            Bound::Excluded(tag) => tag.successor(),
        };
        match &self.end {
            Bound::Unbounded => false,
            Bound::Included(tag) => *tag < first,
            Bound::Excluded(tag) => *tag <= first,
        }
    }

    /// Returns the lower and the upper bound, or `None` where the range is empty: what a map that panics on
    /// inverted bounds can be asked for.
    pub fn bounds(&self) -> Option<(Bound<&Tag>, Bound<&Tag>)> {
        (!self.is_empty()).then_some((self.start.as_ref(), self.end.as_ref()))
    }
}

impl<R: RangeBounds<Tag>> From<R> for TagRange {
    fn from(range: R) -> Self {
        Self { start: range.start_bound().cloned(), end: range.end_bound().cloned() }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeSet, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn tag(bytes: &[u8]) -> Tag {
        bytes.into()
    }

    /// Few different bytes, so that prefixes and neighbours are met often.
    fn short_tag() -> impl Strategy<Value = Tag> {
        let byte = prop::sample::select(vec![0, 1, b'a', 0xfe, 0xff]);
        prop::collection::vec(byte, 0..4).prop_map(|bytes| Tag(bytes.into()))
    }

    fn bound() -> impl Strategy<Value = Bound<Tag>> {
        prop_oneof![
            Just(Bound::Unbounded),
            short_tag().prop_map(Bound::Included),
            short_tag().prop_map(Bound::Excluded),
        ]
    }

    #[test]
    fn text_prints_as_text() {
        for text in ["", "a tag", "größe/日本", "auto-2026-01-02T03:04:05.678Z"] {
            assert_eq!(Tag::from(text).to_string(), text);
            assert_eq!(format!("{:?}", Tag::from(text)), format!("Tag({text})"));
        }
    }

    #[test]
    fn what_is_no_plain_text_prints_escaped() {
        for (bytes, printed) in [
            (&b"\xff\x00a"[..], r"\xff\x00a"),
            (b"line\nbreak", r"line\nbreak"),
            (b"\x1b[31mred", r"\x1b[31mred"),
            ("\u{9b}31m".as_bytes(), r"\xc2\x9b31m"),
        ] {
            assert_eq!(tag(bytes).to_string(), printed);
        }
    }

    #[test]
    fn serde_form_is_the_bytes() {
        let tag = Tag::from("ab");
        assert_eq!(postcard::to_stdvec(&tag).unwrap(), [2, b'a', b'b']);
        assert_eq!(serde_json::to_string(&tag).unwrap(), "[97,98]");
        assert_eq!(serde_json::from_str::<Tag>("[97,98]").unwrap(), tag);
    }

    #[test]
    fn next_prefix_knows_0xff() {
        assert_eq!(tag(b"a").next_prefix(), Some(tag(b"b")));
        assert_eq!(tag(b"a\xff").next_prefix(), Some(tag(b"b")));
        assert_eq!(tag(b"a\xff\xff").next_prefix(), Some(tag(b"b")));
        assert_eq!(tag(b"\xfe").next_prefix(), Some(tag(b"\xff")));
        assert_eq!(tag(b"").next_prefix(), None);
        assert_eq!(tag(b"\xff\xff").next_prefix(), None);
    }

    /// Counting up in place turned the end of the prefix `a 0xff` into `b 0x00`, and took the tag `b` along.
    #[test]
    fn prefix_that_ends_in_0xff_takes_no_tag_outside() {
        let range = TagRange::prefix(tag(b"a\xff"));
        assert!(range.contains(&tag(b"a\xff")) && range.contains(&tag(b"a\xff\xff\xff")));
        assert!(
            !range.contains(&tag(b"b")) && !range.contains(&tag(b"a")) && !range.contains(&tag(b"a\xfe"))
        );
        let range = TagRange::prefix(tag(b"\xff\xff"));
        assert!(range.contains(&tag(b"\xff\xff\x00")) && !range.contains(&tag(b"\xff\xfe")));
    }

    #[test]
    fn auto_tag_is_the_time_in_utc() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_323_045_678_999);
        assert_eq!(Tag::auto(time, |_| false), Tag::from("auto-2026-01-02T03:04:05.678Z"));
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(Tag::auto(whole, |_| false), Tag::from("auto-2026-01-02T03:04:05.000Z"));
    }

    #[test]
    fn auto_tag_counts_on_where_a_name_is_taken() {
        let taken = Cell::new(0);
        let tag = Tag::auto(SystemTime::UNIX_EPOCH, |_| taken.replace(taken.get() + 1) < 2);
        assert_eq!(tag, Tag::from("auto-1970-01-01T00:00:00.000Z-2"));
    }

    #[test]
    fn auto_tag_takes_any_clock() {
        let ages = Duration::from_secs(u64::from(u32::MAX) * 1000);
        for time in [SystemTime::UNIX_EPOCH.checked_sub(ages), SystemTime::UNIX_EPOCH.checked_add(ages)] {
            assert!(Tag::auto(time.unwrap(), |_| false).to_string().starts_with("auto-"));
        }
    }

    #[test]
    fn inverted_bounds_are_an_empty_range() {
        let range = TagRange::from(Tag::from("b")..Tag::from("a"));
        assert!(range.is_empty() && range.bounds().is_none() && !range.contains(&Tag::from("a")));
        assert!(!TagRange::all().is_empty());
        assert_eq!(TagRange::from(..), TagRange::all());
    }

    proptest! {
        #[test]
        fn nothing_lies_between_a_tag_and_its_successor(a in short_tag(), b in short_tag()) {
            prop_assert!(a < a.successor());
            prop_assert!(b <= a || b >= a.successor());
        }

        #[test]
        fn prefix_range_is_the_tags_with_that_prefix(prefix in short_tag(), tag in short_tag()) {
            let range = TagRange::prefix(prefix.clone());
            prop_assert_eq!(range.contains(&tag), tag.0.starts_with(&prefix.0));
            prop_assert!(range.contains(&prefix));
        }

        #[test]
        fn range_of_one_is_that_tag(a in short_tag(), b in short_tag()) {
            prop_assert_eq!(TagRange::one(a.clone()).contains(&b), a == b);
        }

        #[test]
        fn bounds_select_from_a_map_what_contains_says(
            start in bound(),
            end in bound(),
            tags in prop::collection::btree_set(short_tag(), 0..20),
        ) {
            let range = TagRange::from((start, end));
            let expected: Vec<_> = tags.iter().filter(|tag| range.contains(tag)).collect();
            let found: Vec<_> = match range.bounds() {
                Some(bounds) => BTreeSet::range::<Tag, _>(&tags, bounds).collect(),
                None => Vec::new(),
            };
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn empty_range_contains_nothing_and_others_something(start in bound(), end in bound()) {
            let range = TagRange::from((start.clone(), end));
            let first = match start {
                Bound::Unbounded => Tag(Bytes::new()),
                Bound::Included(tag) => tag,
                Bound::Excluded(tag) => tag.successor(),
            };
            prop_assert_eq!(range.contains(&first), !range.is_empty());
        }

        #[test]
        fn printed_tag_has_no_control_characters(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let printed = tag(&bytes).to_string();
            prop_assert!(!printed.contains(char::is_control));
        }

        #[test]
        fn tag_survives_serde(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let tag = tag(&bytes);
            prop_assert_eq!(&postcard::from_bytes::<Tag>(&postcard::to_stdvec(&tag).unwrap()).unwrap(), &tag);
            prop_assert_eq!(&serde_json::from_str::<Tag>(&serde_json::to_string(&tag).unwrap()).unwrap(), &tag);
        }
    }
}
