//! Taking note of segments that are lost, so that the log is whole without them (E67).

use std::{ops::RangeInclusive, path::Path};

use blob_traits::{Error, Result};

use super::{Flaw, Wrong};
use crate::{
    format::{
        header::{SegmentHeader, SegmentRole},
        record::{self, Place, Record, Stamp},
    },
    layout::{FileNo, Layout},
    vfs::Vfs,
};

/// Takes out of the log what cannot be read, and gives segments that are too short their length: what is missing is
/// damage inside of them from then on.
pub(crate) fn mend(
    vfs: &dyn Vfs,
    layout: &Layout,
    flaws: &[Flaw],
    put_aside: &mut dyn FnMut(&Path) -> Result<()>,
) -> Result<()> {
    for flaw in flaws {
        match flaw.wrong {
            Wrong::Unreadable(_) => put_aside(&flaw.path)?,
            Wrong::Short { id, end } => {
                let file = super::open(vfs, layout, id)?;
                let extended = file.set_len(end).and_then(|()| file.sync_data());
                extended.map_err(|e| Error::io("extend", layout.segment(id), e))?;
            }
            Wrong::Missing { .. } | Wrong::NoNewest => {}
        }
    }
    Ok(())
}

/// Writes a packed segment that has nothing in it and accounts for others: they count as compacted away. Durable when it
/// returns.
pub(crate) fn account_for(
    vfs: &dyn Vfs,
    layout: &Layout,
    id: u32,
    store_id: [u8; 16],
    lost: &[RangeInclusive<u32>],
) -> Result<()> {
    let mut key = [0; 32];
    vfs.random(&mut key);
    let role = SegmentRole::Packed { built_at: 0, replaces: Vec::new(), history: merged(lost) };
    let header = SegmentHeader { store_id, segment: id, key, base_seq: 1, role };
    let unfit = |e| Error::io("encode", layout.segment(id), std::io::Error::other(e));
    let mut bytes = header.encode().map_err(unfit)?;
    let place = Place { key: &key, segment: id, offset: bytes.len() as u64 };
    let crc = crc32c::crc32c(&[]);
    let stamp = Stamp { seq: 1, ..Stamp::default() };
    record::encode(&mut bytes, place, &Record::PackEnd { count: 0, crc }, stamp).map_err(unfit)?;
    let mut no = [0; 8];
    vfs.random(&mut no);
    let temp = layout.temp(FileNo(u64::from_le_bytes(no)), "seg");
    let placed = write(vfs, &temp, &bytes).and_then(|()| vfs.rename(&temp, &layout.segment(id)));
    if let Err(e) = placed {
        let _ = vfs.remove_file(&temp);
        return Err(Error::io("write", layout.segment(id), e));
    }
    vfs.sync_dir(&layout.log_dir()).map_err(|e| Error::io("sync", layout.log_dir(), e))
}

fn write(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = vfs.create_new(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

/// The same ids in ranges that are apart from each other, ascending (E10).
pub(crate) fn merged(ids: &[RangeInclusive<u32>]) -> Vec<RangeInclusive<u32>> {
    let mut ids = ids.to_vec();
    ids.sort_unstable_by_key(|ids| *ids.start());
    let mut merged: Vec<RangeInclusive<u32>> = Vec::new();
    for ids in ids {
        match merged.last_mut() {
            Some(last) if *ids.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(ids.end());
            }
            _ => merged.push(ids),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{segments, vfs::RealVfs};

    #[test]
    fn segment_that_accounts_for_others_is_whole_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().to_owned());
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs::default());
        for sub in [layout.log_dir(), layout.temp_dir()] {
            vfs.create_dir(&sub).unwrap();
        }
        account_for(&*vfs, &layout, 9, [7; 16], &[4..=5, 2..=2, 6..=6]).unwrap();
        let (segments, _) = segments::inspect(&*vfs, &layout).unwrap();
        let [packed] = segments.packed.as_slice() else { panic!("{segments:?}") };
        assert!(packed.is_whole && packed.replaces.is_empty());
        assert_eq!(packed.history, [2..=2, 4..=6]);
        assert!(segments.is_known(5) && !segments.is_known(3));
    }
}
