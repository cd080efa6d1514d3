//! The bytes of the log: pure encoders and total decoders, no I/O.
//!
//! `docs/on-disk-format.md` specifies what these modules read and write.

pub(crate) mod bits;
pub(crate) mod header;
pub(crate) mod record;
pub(crate) mod scan;

/// Everything that is appended starts and ends at a multiple of this.
pub(crate) const ALIGN: u64 = 8;
/// No payload of a record is longer.
pub(crate) const MAX_PAYLOAD: u32 = 16 << 20;
/// No transaction is longer.
pub(crate) const MAX_TXN: u64 = 16 << 20;
/// No tag name is longer.
pub(crate) const MAX_TAG: usize = 4096;
/// The length of a record's header.
pub(crate) const RECORD_HEADER: u64 = 80;
