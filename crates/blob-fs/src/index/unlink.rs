//! The files that are still to be removed (E29, E51).

use blob_traits::{Hash, Result};
use redb::{ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::{Index, contained};
use crate::{
    format::record::Fields,
    layout::FileNo,
    op::{Orphan, OrphanKind},
};

pub(super) const UNLINK: TableDefinition<'_, &[u8], ()> = TableDefinition::new("unlink");

/// What a step changes in the list of files that are to be removed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unlink<'a> {
    /// These are all.
    Only(&'a [Orphan]),
    /// These come to it.
    Add(&'a [Orphan]),
    /// These have been removed.
    Done(&'a [Orphan]),
}

impl Unlink<'_> {
    pub(super) fn apply(self, table: &mut Table<'_, &'static [u8], ()>) -> Result<(), redb::Error> {
        if let Self::Only(_) = self {
            table.retain(|_, ()| false)?;
        }
        match self {
            Self::Only(orphans) | Self::Add(orphans) => {
                for orphan in orphans {
                    table.insert(encode_orphan(orphan).as_slice(), ())?;
                }
            }
            Self::Done(orphans) => {
                for orphan in orphans {
                    table.remove(encode_orphan(orphan).as_slice())?;
                }
            }
        }
        Ok(())
    }
}

impl Index {
    /// So many of the files that were still to be removed at the last commit.
    pub(crate) fn unlink(&self, n_files: usize) -> Result<Vec<Orphan>> {
        let read = || {
            let table = self.db.begin_read()?.open_table(UNLINK)?;
            let mut orphans = Vec::new();
            for entry in table.iter()? {
                orphans.extend(decode_orphan(entry?.0.value()));
                if orphans.len() >= n_files {
                    break;
                }
            }
            Ok::<_, redb::Error>(orphans)
        };
        contained("read", &self.path, read)
    }
}

/// Kind, hash, number.
fn encode_orphan(orphan: &Orphan) -> [u8; 41] {
    let mut bytes = [0; 41];
    let kind = match orphan.what {
        OrphanKind::All => 1,
        OrphanKind::Bits => 2,
    };
    let fields = [kind].into_iter().chain(*orphan.hash.as_bytes()).chain(orphan.no.0.to_le_bytes());
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    bytes
}

fn decode_orphan(bytes: &[u8]) -> Option<Orphan> {
    let mut fields = Fields(bytes);
    let what = match fields.u8()? {
        1 => OrphanKind::All,
        2 => OrphanKind::Bits,
        _ => return None,
    };
    Some(Orphan { what, hash: Hash::from_bytes(fields.array()?), no: FileNo(fields.u64()?) })
}
