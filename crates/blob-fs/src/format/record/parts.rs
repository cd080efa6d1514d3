//! What payloads are made of, and its limits.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::PathBuf};

use super::Fields;

/// A referenced blob names at most this many files (E13).
pub(super) const MAX_PATHS: usize = 8;
/// No path in a record is longer.
pub(crate) const MAX_PATH: usize = 4096;
/// A `TagDelete` names at most this many tags, so that reading one needs little memory (E15).
pub(crate) const MAX_TAG_DELETES: usize = 65_536;
/// The bytes of a chunk group, over which outboards are built.
const GROUP: u64 = 16 << 10;
/// The bytes of a pair in an outboard.
const PAIR: u64 = 64;

/// The length of the outboard of so many bytes.
pub(crate) const fn outboard_len(data_len: u64) -> u64 {
    data_len.div_ceil(GROUP).saturating_sub(1).saturating_mul(PAIR)
}

/// Where the files of a record lay before they were, or will be, moved where it says (E41).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CameFrom {
    /// In `temp/`.
    Temp,
    /// In `partial/`.
    Partial,
    /// In `data/`.
    Data,
}

impl CameFrom {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Temp => 1,
            Self::Partial => 2,
            Self::Data => 3,
        }
    }

    pub(super) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Temp),
            2 => Some(Self::Partial),
            3 => Some(Self::Data),
            _ => None,
        }
    }
}

/// A user's file, as it was when it was hashed (E49).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileIdentity {
    pub(crate) path: PathBuf,
    pub(crate) dev: u64,
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) mtime_ns: i64,
    pub(crate) ctime_ns: i64,
    /// It had changed so recently that a later change could leave the same times.
    pub(crate) racy: bool,
}

impl FileIdentity {
    pub(super) fn bytes(&self) -> &[u8] {
        self.path.as_os_str().as_bytes()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.dev.to_le_bytes());
        out.extend_from_slice(&self.ino.to_le_bytes());
        out.extend_from_slice(&self.size.to_le_bytes());
        out.extend_from_slice(&self.mtime_ns.to_le_bytes());
        out.extend_from_slice(&self.ctime_ns.to_le_bytes());
        out.push(u8::from(self.racy));
        write_short(self.bytes(), out);
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let (dev, ino, size) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let (mtime_ns, ctime_ns) = (fields.i64()?, fields.i64()?);
        let racy = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let path = read_short(fields).filter(|path| path_fits(path))?;
        Some(Self { path: OsStr::from_bytes(path).into(), dev, ino, size, mtime_ns, ctime_ns, racy })
    }
}

/// Whether bytes can be the name of a file.
pub(super) fn path_fits(path: &[u8]) -> bool {
    !path.is_empty() && path.len() <= MAX_PATH && !path.contains(&0)
}

/// Writes length u16 and bytes, which have been found to fit.
pub(super) fn write_short(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn read_short<'a>(fields: &mut Fields<'a>) -> Option<&'a [u8]> {
    let len = fields.u16()?;
    fields.take(len.into())
}
