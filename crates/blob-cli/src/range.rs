//! Ranges of bytes as they are written on the command line.

use std::{fmt, ops::Range, str::FromStr};

/// A range of bytes: `a..b`, `a..`, `..b`, `..` or `a+length`.
///
/// Numbers are decimal, in bytes, or with `KiB`, `MiB`, `GiB`, `TiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    start: u64,
    /// Open where there is none.
    end: Option<u64>,
}

/// Ranges in the order in which they were given.
pub(crate) type Ranges = Vec<ByteRange>;

/// Says what is wrong with the text of a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RangeError {
    #[error("\"{0}\" is no range: write FROM..TO, FROM.., ..TO or FROM+LENGTH")]
    NoRange(String),
    #[error("\"{0}\" is no number of bytes: write decimal digits, with KiB, MiB, GiB or TiB where wanted")]
    Number(String),
    #[error("\"{0}\" is too large a number")]
    TooLarge(String),
    #[error("the range {start}..{end} ends before it begins")]
    Reversed { start: u64, end: u64 },
}

/// Says that a range begins behind the end of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the range begins at byte {start}, but the blob has {size} bytes")]
pub(crate) struct BeyondEnd {
    pub(crate) start: u64,
    pub(crate) size: u64,
}

impl ByteRange {
    /// The whole blob.
    pub(crate) const ALL: Self = Self { start: 0, end: None };

    /// Cuts the range off at the end of a blob.
    pub(crate) fn within(self, size: u64) -> Result<Range<u64>, BeyondEnd> {
        if self.start > size {
            return Err(BeyondEnd { start: self.start, size });
        }
        Ok(self.start..self.end.map_or(size, |end| end.min(size)))
    }

    /// Parses several ranges with commas between them.
    pub(crate) fn parse_list(text: &str) -> Result<Ranges, RangeError> {
        text.split(',').map(str::parse).collect()
    }

    /// Tells whether a text is meant as a range or a list of them, well-formed or not.
    pub(crate) fn is_meant_by(text: &str) -> bool {
        let begins = text.starts_with("..") || text.starts_with(|c: char| c.is_ascii_digit());
        begins && (text.contains("..") || text.contains('+'))
    }
}

impl FromStr for ByteRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        if let Some((start, end)) = text.split_once("..") {
            let start = if start.is_empty() { 0 } else { number(start)? };
            let end = if end.is_empty() { None } else { Some(number(end)?) };
            return match end {
                Some(end) if end < start => Err(RangeError::Reversed { start, end }),
                _ => Ok(Self { start, end }),
            };
        }
        let (start, length) = text.split_once('+').ok_or_else(|| RangeError::NoRange(text.to_owned()))?;
        let (start, length) = (number(start)?, number(length)?);
        let end = start.checked_add(length).ok_or_else(|| RangeError::TooLarge(text.to_owned()))?;
        Ok(Self { start, end: Some(end) })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "{}..{end}", self.start),
            None => write!(f, "{}..", self.start),
        }
    }
}

/// Parses a number of bytes.
pub(crate) fn number(text: &str) -> Result<u64, RangeError> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(RangeError::Number(text.to_owned())),
    };
    if digits.is_empty() || digits.contains(|c: char| !c.is_ascii_digit()) {
        return Err(RangeError::Number(text.to_owned()));
    }
    let too_large = || RangeError::TooLarge(text.to_owned());
    digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: Option<u64>) -> ByteRange {
        ByteRange { start, end }
    }

    #[test]
    fn every_form_is_read() {
        for (text, expected) in [
            ("0..10", range(0, Some(10))),
            ("7..", range(7, None)),
            ("..9", range(0, Some(9))),
            ("..", range(0, None)),
            ("5+3", range(5, Some(8))),
            ("4..4", range(4, Some(4))),
            ("16KiB..1MiB", range(16 << 10, Some(1 << 20))),
            ("1GiB+2TiB", range(1 << 30, Some((1 << 30) + (2 << 40)))),
            ("3B..", range(3, None)),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_forms_are_told_apart() {
        let number = |text: &str| Err(RangeError::Number(text.to_owned()));
        let no_range = |text: &str| Err(RangeError::NoRange(text.to_owned()));
        let too_large = |text: &str| Err(RangeError::TooLarge(text.to_owned()));
        for (text, expected) in [
            ("", no_range("")),
            ("12", no_range("12")),
            ("a-b", no_range("a-b")),
            ("1..x", number("x")),
            ("x..1", number("x")),
            ("1..=2", number("=2")),
            ("1...2", number(".2")),
            ("1..2kb", number("2kb")),
            ("1..KiB", number("KiB")),
            ("1 ..2", number("1 ")),
            ("+5", number("")),
            ("5+", number("")),
            ("1..-2", number("-2")),
            ("9..3", Err(RangeError::Reversed { start: 9, end: 3 })),
            ("0..18446744073709551616", too_large("18446744073709551616")),
            ("0..17179869184GiB", too_large("17179869184GiB")),
            ("1+18446744073709551615", too_large("1+18446744073709551615")),
        ] {
            assert_eq!(text.parse::<ByteRange>(), expected, "{text}");
        }
    }

    #[test]
    fn a_range_is_cut_off_at_the_end_but_begins_inside() {
        let range: ByteRange = "5..100".parse().unwrap();
        assert_eq!(range.within(10), Ok(5..10));
        assert_eq!(range.within(5), Ok(5..5));
        assert_eq!(range.within(4), Err(BeyondEnd { start: 5, size: 4 }));
        assert_eq!(ByteRange::ALL.within(0), Ok(0..0));
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_printing_is_its_inverse(text in "[0-9.+KMGTiB ]{0,12}|.{0,12}") {
            if let Ok(range) = text.parse::<ByteRange>() {
                prop_assert_eq!(range.to_string().parse(), Ok(range));
                prop_assert!(ByteRange::is_meant_by(&text), "{}", text);
            }
        }

        #[test]
        fn a_range_within_a_blob_is_in_order(start: u64, len in 0..100_u64, size: u64) {
            let range = ByteRange { start, end: Some(start.saturating_add(len)) };
            if let Ok(cut) = range.within(size) {
                prop_assert!(cut.start <= cut.end && cut.end <= size);
            }
        }
    }
}
