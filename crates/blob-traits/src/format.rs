//! What a blob is read as, and the pair of hash and format that a tag points to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Hash, ParseHashError};

/// Says what a blob is read as when it is asked what else it keeps alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BlobFormat {
    /// Bytes without further meaning.
    #[default]
    Raw,
    /// A sequence of hashes, which keeps the blobs that they name alive.
    HashSeq,
}

impl BlobFormat {
    /// Returns whether the blob is bytes without further meaning.
    pub const fn is_raw(self) -> bool {
        matches!(self, Self::Raw)
    }

    /// Returns whether the blob is a sequence of hashes.
    pub const fn is_hash_seq(self) -> bool {
        matches!(self, Self::HashSeq)
    }
}

impl fmt::Display for BlobFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Names a blob and says what it is read as: what a tag points to.
///
/// Ordered by hash, then format. Printed and parsed as the hash in 64 hex digits, with an `s` before it for a hash
/// sequence. In human-readable serde formats that text, in others the pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashAndFormat {
    /// The blob.
    pub hash: Hash,
    /// What it is read as.
    pub format: BlobFormat,
}

impl HashAndFormat {
    /// Pairs a hash with a format.
    pub const fn new(hash: Hash, format: BlobFormat) -> Self {
        Self { hash, format }
    }

    /// Names a blob that is bytes without further meaning.
    pub const fn raw(hash: Hash) -> Self {
        Self::new(hash, BlobFormat::Raw)
    }

    /// Names a sequence of hashes.
    pub const fn hash_seq(hash: Hash) -> Self {
        Self::new(hash, BlobFormat::HashSeq)
    }
}

impl From<(Hash, BlobFormat)> for HashAndFormat {
    fn from((hash, format): (Hash, BlobFormat)) -> Self {
        Self { hash, format }
    }
}

impl From<Hash> for HashAndFormat {
    fn from(hash: Hash) -> Self {
        Self::raw(hash)
    }
}

impl fmt::Display for HashAndFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.format.is_hash_seq() { "s" } else { "" };
        write!(f, "{prefix}{}", self.hash)
    }
}

impl fmt::Debug for HashAndFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashAndFormat({self})")
    }
}

/// Says why a text is no hash with a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashAndFormatError {
    /// The text has neither 64 nor 65 characters.
    #[error("64 hex digits are expected, after an `s` for a hash sequence, this text has {0} characters")]
    Length(usize),
    /// The text has 65 characters, of which the first is no `s`.
    #[error("65 characters are a hash sequence only where the first is an `s`")]
    Prefix,
    /// The part that names the blob is no hash.
    #[error("the text names no blob")]
    Hash(#[from] ParseHashError),
}

impl FromStr for HashAndFormat {
    type Err = ParseHashAndFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.len() {
            64 => Ok(Self::raw(text.parse()?)),
            65 => {
                let hex = text.strip_prefix(['s', 'S']).ok_or(ParseHashAndFormatError::Prefix)?;
                Ok(Self::hash_seq(hex.parse()?))
            }
            n => Err(ParseHashAndFormatError::Length(n)),
        }
    }
}

impl Serialize for HashAndFormat {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.hash, self.format).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for HashAndFormat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            <(Hash, BlobFormat)>::deserialize(deserializer).map(Self::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn arbitrary() -> impl Strategy<Value = HashAndFormat> {
        (any::<[u8; 32]>(), any::<bool>()).prop_map(|(bytes, seq)| {
            let hash = Hash::from_bytes(bytes);
            if seq { HashAndFormat::hash_seq(hash) } else { HashAndFormat::raw(hash) }
        })
    }

    #[test]
    fn raw_is_the_default() {
        assert_eq!(BlobFormat::default(), BlobFormat::Raw);
        assert!(BlobFormat::Raw.is_raw() && !BlobFormat::Raw.is_hash_seq());
        assert!(BlobFormat::HashSeq.is_hash_seq() && !BlobFormat::HashSeq.is_raw());
    }

    #[test]
    fn formats_print_their_names() {
        assert_eq!(BlobFormat::Raw.to_string(), "Raw");
        assert_eq!(BlobFormat::HashSeq.to_string(), "HashSeq");
    }

    #[test]
    fn formats_are_one_byte_in_postcard() {
        assert_eq!(postcard::to_stdvec(&BlobFormat::Raw).unwrap(), [0]);
        assert_eq!(postcard::to_stdvec(&BlobFormat::HashSeq).unwrap(), [1]);
        assert!(postcard::from_bytes::<BlobFormat>(&[2]).is_err());
    }

    #[test]
    fn pair_is_hash_then_format_in_postcard() {
        let hash = Hash::from_bytes([0xab; 32]);
        for (pair, last) in [(HashAndFormat::raw(hash), 0), (HashAndFormat::hash_seq(hash), 1)] {
            let mut expected = vec![0xab; 32];
            expected.push(last);
            assert_eq!(postcard::to_stdvec(&pair).unwrap(), expected);
        }
    }

    #[test]
    fn pair_prints_as_hex_and_sequence_with_an_s() {
        let hash = Hash::from_bytes([0x5c; 32]);
        assert_eq!(HashAndFormat::raw(hash).to_string(), "5c".repeat(32));
        assert_eq!(HashAndFormat::hash_seq(hash).to_string(), format!("s{}", "5c".repeat(32)));
    }

    #[test]
    fn pair_is_a_string_in_json() {
        let pair = HashAndFormat::hash_seq(Hash::from_bytes([1; 32]));
        let json = serde_json::to_string(&pair).unwrap();
        assert_eq!(json, format!("\"s{}\"", "01".repeat(32)));
        assert_eq!(serde_json::from_str::<HashAndFormat>(&json).unwrap(), pair);
    }

    #[test]
    fn wrong_texts_are_told_apart() {
        let hex = "0".repeat(64);
        let parse = |text: &str| text.parse::<HashAndFormat>().unwrap_err();
        assert_eq!(parse(""), ParseHashAndFormatError::Length(0));
        assert_eq!(parse("s"), ParseHashAndFormatError::Length(1));
        assert_eq!(parse(&format!("x{hex}")), ParseHashAndFormatError::Prefix);
        assert_eq!(parse(&"g".repeat(64)), ParseHashAndFormatError::Hash(ParseHashError::Digit(0)));
        assert_eq!(parse(&format!("sg{}", &hex[1..])), ParseHashError::Digit(0).into());
        // 65 bytes whose first is the beginning of a longer character
        assert_eq!(parse(&format!("é{}", &hex[1..])), ParseHashAndFormatError::Prefix);
    }

    proptest! {
        #[test]
        fn pair_survives_text_json_and_postcard(pair in arbitrary()) {
            prop_assert_eq!(pair.to_string().parse::<HashAndFormat>(), Ok(pair));
            prop_assert_eq!(pair.to_string().to_uppercase().parse::<HashAndFormat>(), Ok(pair));
            let json = serde_json::to_string(&pair).unwrap();
            prop_assert_eq!(serde_json::from_str::<HashAndFormat>(&json).unwrap(), pair);
            let bytes = postcard::to_stdvec(&pair).unwrap();
            prop_assert_eq!(bytes.len(), 33);
            prop_assert_eq!(postcard::from_bytes::<HashAndFormat>(&bytes).unwrap(), pair);
        }

        #[test]
        fn parsing_never_panics(text in ".{0,70}", bytes in prop::collection::vec(any::<u8>(), 0..70)) {
            let _ = text.parse::<HashAndFormat>();
            let _ = postcard::from_bytes::<HashAndFormat>(&bytes);
        }

        #[test]
        fn pairs_are_ordered_by_hash_first(a in arbitrary(), b in arbitrary()) {
            prop_assert_eq!(a.cmp(&b), a.hash.cmp(&b.hash).then(a.format.cmp(&b.format)));
        }
    }
}
