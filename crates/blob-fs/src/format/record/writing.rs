//! What is to be recorded, and the payload it makes.

use blob_traits::Hash;

use super::{
    CameFrom, FileIdentity, MAX_TAG_DELETES, Unfit, kind, outboard_len,
    parts::{MAX_PATHS, path_fits, write_short},
};
use crate::{
    format::{MAX_PAYLOAD, MAX_TAG},
    layout::FileNo,
};

/// What is to be recorded. The payloads are described at [`Body`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Small { hash: Hash, data: &'a [u8], outboard: &'a [u8] },
    Large { hash: Hash, size: u64, no: FileNo, came_from: CameFrom },
    Referenced { hash: Hash, size: u64, no: FileNo, paths: &'a [FileIdentity] },
    PartialBegin { hash: Hash, no: FileNo, came_from: CameFrom },
    Delete(&'a [(Hash, u32)]),
    TagSet { target: Hash, format: u8, name: &'a [u8] },
    TagDelete(&'a [(u32, &'a [u8])]),
    PackEnd { count: u64, crc: u32 },
    Mark,
}

impl Record<'_> {
    pub(super) const fn kind(&self) -> u8 {
        match self {
            Self::Small { .. } => kind::SMALL,
            Self::Large { .. } => kind::LARGE,
            Self::Referenced { .. } => kind::REFERENCED,
            Self::PartialBegin { .. } => kind::PARTIAL_BEGIN,
            Self::Delete(_) => kind::DELETE,
            Self::TagSet { .. } => kind::TAG_SET,
            Self::TagDelete(_) => kind::TAG_DELETE,
            Self::PackEnd { .. } => kind::PACK_END,
            Self::Mark => kind::MARK,
        }
    }

    /// The hash that goes into the header.
    pub(super) const fn hash(&self) -> Hash {
        match self {
            Self::Small { hash, .. }
            | Self::Large { hash, .. }
            | Self::Referenced { hash, .. }
            | Self::PartialBegin { hash, .. }
            | Self::TagSet { target: hash, .. } => *hash,
            Self::Delete(_) | Self::TagDelete(_) | Self::PackEnd { .. } | Self::Mark => {
                Hash::from_bytes([0; 32])
            }
        }
    }

    pub(super) fn data_len(&self) -> u32 {
        match self {
            Self::Small { data, .. } => u32::try_from(data.len()).unwrap_or(u32::MAX),
            _ => 0,
        }
    }

    /// The length of the payload, once everything in it is within its limit.
    pub(crate) fn payload_len(&self) -> Result<u32, Unfit> {
        let limits = match self {
            Self::Small { data, outboard, .. } => outboard.len() as u64 == outboard_len(data.len() as u64),
            Self::Referenced { paths, .. } => {
                (1..=MAX_PATHS).contains(&paths.len()) && paths.iter().all(|file| path_fits(file.bytes()))
            }
            Self::TagSet { name, .. } => name.len() <= MAX_TAG,
            Self::TagDelete(tags) => {
                tags.len() <= MAX_TAG_DELETES && tags.iter().all(|(_, name)| name.len() <= MAX_TAG)
            }
            _ => true,
        };
        let len = match self {
            Self::Small { data, outboard, .. } => data.len() + outboard.len(),
            Self::Large { .. } => 17,
            Self::Referenced { paths, .. } => 17 + paths.iter().map(|f| 43 + f.bytes().len()).sum::<usize>(),
            Self::PartialBegin { .. } => 9,
            Self::Delete(entries) => entries.len().saturating_mul(36),
            Self::TagSet { name, .. } => 1 + name.len(),
            Self::TagDelete(tags) => tags.iter().map(|(_, name)| 6 + name.len()).sum(),
            Self::PackEnd { .. } => 12,
            Self::Mark => 0,
        };
        u32::try_from(len).ok().filter(|len| limits && *len <= MAX_PAYLOAD).ok_or(Unfit("a payload"))
    }

    /// Appends the payload, which [`payload_len`](Self::payload_len) has found within the limits.
    pub(super) fn write_payload(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Small { data, outboard, .. } => {
                out.extend_from_slice(data);
                out.extend_from_slice(outboard);
            }
            Self::Large { size, no, came_from, .. } => {
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&no.0.to_le_bytes());
                out.push(came_from.to_byte());
            }
            Self::Referenced { size, no, paths, .. } => {
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(&no.0.to_le_bytes());
                out.push(u8::try_from(paths.len()).unwrap_or(u8::MAX));
                for file in paths {
                    file.write(out);
                }
            }
            Self::PartialBegin { no, came_from, .. } => {
                out.extend_from_slice(&no.0.to_le_bytes());
                out.push(came_from.to_byte());
            }
            Self::Delete(entries) => {
                for (hash, kills) in entries {
                    out.extend_from_slice(hash.as_bytes());
                    out.extend_from_slice(&kills.to_le_bytes());
                }
            }
            Self::TagSet { format, name, .. } => {
                out.push(format);
                out.extend_from_slice(name);
            }
            Self::TagDelete(tags) => {
                for (kills, name) in tags {
                    out.extend_from_slice(&kills.to_le_bytes());
                    write_short(name, out);
                }
            }
            Self::PackEnd { count, crc } => {
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(&crc.to_le_bytes());
            }
            Self::Mark => {}
        }
    }
}
