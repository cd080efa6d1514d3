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
        let [a, b, c, d, e, ..] = self.0;
        data_encoding::HEXLOWER.encode(&[a, b, c, d, e])
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
