//! The formats of both projects, side by side: what one writes, the other reads, byte for byte.
//!
//! One module for each subject. Everything random comes from a seed, which a failure prints as a part of its case.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod case;
mod party;
mod sample;

mod malformed;
mod names;
mod outboards;
mod partials;
mod range_specs;
mod sequences;
mod streams;
