//! Vocabulary and traits of a verified blob store.
mod hash;

pub use hash::{Hash, ParseHashError};
