//! What is known about a blob: its size, and how much of it is there.

use serde::{Deserialize, Serialize};

/// Tells the size of a blob in bytes, and whether it is proved.
///
/// A size is proved once the last chunk has been checked against the root: no other chunk gives a wrong size away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BaoBlobSize {
    /// Somebody claimed this size; it may be wrong.
    Unverified(u64),
    /// The last chunk is there and proves this size.
    Verified(u64),
}

impl BaoBlobSize {
    /// Pairs a size with whether it is proved.
    pub const fn new(size: u64, verified: bool) -> Self {
        if verified { Self::Verified(size) } else { Self::Unverified(size) }
    }

    /// Returns the size, proved or not.
    pub const fn value(&self) -> u64 {
        match self {
            Self::Unverified(size) | Self::Verified(size) => *size,
        }
    }

    /// Returns whether the size is proved.
    pub const fn is_verified(&self) -> bool {
        matches!(self, Self::Verified(_))
    }
}

/// Says how much of a blob a store has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryStatus {
    /// All of it.
    Complete,
    /// Some of it, or nothing yet but a claim of its size.
    Partial,
    /// Nothing.
    NotFound,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_value_and_verification_agree() {
        for size in [0, 1, u64::MAX] {
            assert_eq!(BaoBlobSize::new(size, true), BaoBlobSize::Verified(size));
            assert_eq!(BaoBlobSize::new(size, false), BaoBlobSize::Unverified(size));
            for verified in [true, false] {
                let claim = BaoBlobSize::new(size, verified);
                assert_eq!((claim.value(), claim.is_verified()), (size, verified));
            }
        }
    }

    #[test]
    fn serde_forms_carry_the_variant() {
        assert_eq!(postcard::to_stdvec(&BaoBlobSize::Unverified(5)).unwrap(), [0, 5]);
        assert_eq!(postcard::to_stdvec(&BaoBlobSize::Verified(300)).unwrap(), [1, 0xac, 2]);
        assert_eq!(serde_json::to_string(&BaoBlobSize::Verified(7)).unwrap(), r#"{"Verified":7}"#);
    }
}
