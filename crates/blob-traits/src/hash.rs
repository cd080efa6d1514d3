//! The name of a blob.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Names a blob: the root of its BLAKE3 hash tree, 32 bytes.
///
/// Ordered by bytes. Printed as 64 lower-case hex digits; parsed from hex of either case, or from 52 digits of
/// unpadded base32 (RFC 4648). In human-readable serde formats a string, in others the 32 bytes without a length.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash of the empty blob.
    pub const EMPTY: Self = Self([
        0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49, 0x9b,
        0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
    ]);

    /// Hashes `bytes`.
    pub fn new(bytes: impl AsRef<[u8]>) -> Self {
        blake3::hash(bytes.as_ref()).into()
    }

    /// Takes 32 bytes as a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns 64 lower-case hex digits.
    pub fn to_hex(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    /// Returns the first five bytes in hex, for messages.
    pub fn fmt_short(&self) -> String {
        self.to_hex().chars().take(10).collect()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// Says why a text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseHashError {
    /// The text has neither 64 nor 52 characters.
    #[error("a hash has 64 hex digits (or 52 of base32), this text has {0} characters")]
    Length(usize),
    /// The text has the right length and a character that is no digit.
    #[error("a hash is written in hex (or base32), this text has another character at position {0}")]
    Digit(usize),
}

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        let encoding = match text.len() {
            64 => data_encoding::HEXLOWER_PERMISSIVE,
            52 => data_encoding::BASE32_NOPAD_NOCASE,
            n => return Err(ParseHashError::Length(n)),
        };
        encoding
            .decode_mut(text.as_bytes(), &mut bytes)
            .map_err(|partial| ParseHashError::Digit(partial.error.position))?;
        Ok(Self(bytes))
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for Hash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Hash> for [u8; 32] {
    fn from(hash: Hash) -> Self {
        hash.0
    }
}

impl From<blake3::Hash> for Hash {
    fn from(hash: blake3::Hash) -> Self {
        Self(hash.into())
    }
}

impl From<Hash> for blake3::Hash {
    fn from(hash: Hash) -> Self {
        Self::from_bytes(hash.0)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            self.0.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            text.parse().map_err(de::Error::custom)
        } else {
            Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_is_the_hash_of_nothing() {
        assert_eq!(Hash::EMPTY, Hash::new(b""));
        assert_eq!(Hash::EMPTY, blake3::hash(b"").into());
        assert_eq!(Hash::EMPTY.to_hex(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    }

    #[test]
    fn debug_and_short_form_are_hex() {
        let hash = Hash::from_bytes([0xa5; 32]);
        assert_eq!(format!("{hash:?}"), format!("Hash({})", "a5".repeat(32)));
        assert_eq!(hash.fmt_short(), "a5".repeat(5));
    }

    #[test]
    fn base32_is_read_in_either_case() {
        let text = data_encoding::BASE32_NOPAD.encode(Hash::EMPTY.as_bytes());
        assert_eq!(text.len(), 52);
        assert_eq!(text.parse(), Ok(Hash::EMPTY));
        assert_eq!(text.to_ascii_lowercase().parse(), Ok(Hash::EMPTY));
    }

    #[test]
    fn wrong_texts_are_told_apart() {
        for len in [0, 1, 51, 53, 56, 63, 65] {
            assert_eq!("a".repeat(len).parse::<Hash>(), Err(ParseHashError::Length(len)));
        }
        assert_eq!("g".repeat(64).parse::<Hash>(), Err(ParseHashError::Digit(0)));
        assert_eq!(format!("{}1", "a".repeat(51)).parse::<Hash>(), Err(ParseHashError::Digit(51)));
        assert_eq!(format!("{}-0", "0".repeat(62)).parse::<Hash>(), Err(ParseHashError::Digit(62)));
    }

    #[test]
    fn base32_with_bits_left_over_is_refused() {
        // 52 digits hold 260 bits; the last four must be zero, else two texts would name one hash
        assert!(format!("{}b", "a".repeat(51)).parse::<Hash>().is_err());
    }

    proptest! {
        #[test]
        fn hash_survives_text_json_and_postcard(bytes: [u8; 32]) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(<[u8; 32]>::from(hash), bytes);
            prop_assert_eq!(Hash::from(blake3::Hash::from(hash)), hash);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(hash.to_string().to_uppercase().parse(), Ok(hash));
            let json = serde_json::to_string(&hash).unwrap();
            prop_assert_eq!(&json, &format!("\"{hash}\""));
            prop_assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
            prop_assert_eq!(postcard::to_stdvec(&hash).unwrap(), bytes);
            prop_assert_eq!(postcard::from_bytes::<Hash>(&bytes).unwrap(), hash);
        }

        #[test]
        fn hashes_are_ordered_by_bytes(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(Hash::from_bytes(a).cmp(&Hash::from_bytes(b)), a.cmp(&b));
            let texts = (Hash::from_bytes(a).to_string(), Hash::from_bytes(b).to_string());
            prop_assert_eq!(a.cmp(&b), texts.0.cmp(&texts.1));
        }

        #[test]
        fn parsing_never_panics(text in "[0-9a-zA-Z]{52}|[0-9a-gA-G]{64}|.{0,70}") {
            if let Ok(hash) = text.parse::<Hash>() {
                prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            }
        }
    }
}
