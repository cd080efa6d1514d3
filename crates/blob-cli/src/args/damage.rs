//! The command line of the verbs that look for damage.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use blob_traits::Tag;
use clap::{
    Args,
    builder::{OsStringValueParser, TypedValueParser},
};

use super::{name_parser, tag_parser};
use crate::{
    range::{RangeError, number},
    target::Name,
    validate::From,
};

#[derive(Args, Debug)]
pub(crate) struct ValidateArgs {
    /// Blobs by their hashes, and what tags keep [default: all blobs]
    #[arg(value_name = "HASH|TAG", value_parser = name_parser())]
    pub(crate) names: Vec<Name>,
    /// What this tag keeps, also where its name looks like a hash
    #[arg(long = "tag", value_name = "NAME", value_parser = tag_parser())]
    pub(crate) tags: Vec<Tag>,
    /// Mends what is damaged; a blob of which bytes are lost becomes partial until it has them again
    #[arg(long)]
    pub(crate) repair: bool,
    /// Where lost bytes may be found: the directory of a store, HASH=FILE for a file with bytes of the blob at their
    /// places, or bao:HASH=FILE, with ranges bao:HASH:RANGES=FILE, for what `bao encode` wrote
    #[arg(long, value_name = "SOURCE", requires = "repair")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| From::parse(&text)))]
    pub(crate) from: Vec<From>,
    /// Looks at one blob in so many, chosen by their hashes
    #[arg(long, value_name = "ONE_IN", conflicts_with_all = ["names", "tags"])]
    pub(crate) sample: Option<NonZeroU64>,
    /// Another number makes another sample
    #[arg(long, value_name = "N", requires = "sample", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Begins no further blob after so many bytes (with KiB, MiB, GiB, TiB) or so much time (with s, m, h, d)
    #[arg(long, value_name = "SIZE|TIME", value_parser = Work::parse)]
    pub(crate) budget: Option<Work>,
    /// How many blobs, or parts of large ones, are looked at side by side [default: two for each core]
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Reads at most so many bytes a second
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    pub(crate) rate: Option<NonZeroU64>,
}

#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "one for each flag of the command line")]
pub(crate) struct CheckArgs {
    /// Mends what it finds; what may be data is put into quarantine/, never removed
    #[arg(long)]
    pub(crate) repair: bool,
    /// Opens the store with what is left of it where the index or parts of the log are lost, and says what is not
    /// there any more; an index that cannot be used is put into quarantine/ and built anew from the log
    #[arg(long)]
    pub(crate) rebuild_index: bool,
    /// Removes for good what was put into quarantine/, and checks nothing
    #[arg(long, conflicts_with_all = ["repair", "rebuild_index"])]
    pub(crate) purge_quarantine: bool,
    /// Says what is being done, too
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Bytes(u64),
    Time(Duration),
}

impl Work {
    /// Parses a number of bytes, or of seconds, minutes, hours or days.
    fn parse(text: &str) -> Result<Self, RangeError> {
        let units = [("s", 1), ("m", 60), ("h", 60 * 60), ("d", 24 * 60 * 60)];
        let timed = units.iter().find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)));
        let Some((digits, seconds)) = timed else { return Ok(Self::Bytes(number(text)?)) };
        if digits.is_empty() || digits.contains(|c: char| !c.is_ascii_digit()) {
            return Err(RangeError::Number(text.to_owned()));
        }
        let n = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(seconds));
        Ok(Self::Time(Duration::from_secs(n.ok_or_else(|| RangeError::TooLarge(text.to_owned()))?)))
    }
}

fn rate(text: &str) -> Result<NonZeroU64, RangeError> {
    NonZeroU64::new(number(text)?).ok_or_else(|| RangeError::Number(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_bytes_or_time() {
        for (text, expected) in [
            ("100", Work::Bytes(100)),
            ("2MiB", Work::Bytes(2 << 20)),
            ("90s", Work::Time(Duration::from_secs(90))),
            ("5m", Work::Time(Duration::from_mins(5))),
            ("2h", Work::Time(Duration::from_hours(2))),
            ("1d", Work::Time(Duration::from_hours(24))),
        ] {
            assert_eq!(Work::parse(text), Ok(expected), "{text}");
        }
        for wrong in ["", "s", "1.5h", "-1s", "5w", "1 m"] {
            assert!(matches!(Work::parse(wrong), Err(RangeError::Number(_))), "{wrong}");
        }
        assert!(matches!(Work::parse("18446744073709551615d"), Err(RangeError::TooLarge(_))));
        assert!(rate("0").is_err());
    }
}
