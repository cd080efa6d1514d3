//! Looking blobs up, and beginning and promoting partial ones.

use std::sync::Arc;

use bao_tree::ChunkRanges;
use blob_traits::{
    BlobStatus, EntryStatus, Error, Hash, Map, MapEntry, MapMut, PartialTree, Result, blocking::unblock,
};
use smallvec::{SmallVec, smallvec};

use crate::{
    engine::{Decision, Keys},
    entry::{Content, Entry},
    layout::FileNo,
    op::Killed,
    partial::Partial,
    row::{BlobState, Origin},
    store::FsStore,
};

impl FsStore {
    pub(crate) fn partial_entry(&self, partial: Arc<Partial>) -> Entry {
        Entry { engine: self.engine.clone(), hash: partial.hash(), content: Content::Partial(partial) }
    }

    fn empty_entry(&self) -> Entry {
        Entry { engine: self.engine.clone(), hash: Hash::EMPTY, content: Content::Empty }
    }

    /// `None`: by now the blob is something else.
    pub(crate) async fn load_partial(&self, hash: Hash, no: FileNo) -> Result<Option<Arc<Partial>>> {
        let engine = self.engine.clone();
        let loaded = unblock(move || Partial::load_from_disk(&engine, hash, no)).await;
        if matches!(loaded, Err(Error::Damaged { .. }))
            && !self.engine.blob(&hash)?.is_some_and(|row| row.state.is_partial_in(no))
        {
            // Its files are gone because it was completed or deleted in between.
            return Ok(None);
        }
        loaded
    }

    /// Checks that a blob that was complete has not been deleted since.
    async fn still_complete(&self, hash: Hash) -> Result<()> {
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        let look = self.engine.transact(&keys, 0, |state, looked| match state.pending_blob(&hash, looked) {
            Some((old, killed)) if old.complete_size().is_some() => Ok(match killed {
                Killed::Queued => Decision::Join(hash, ()),
                _ => Decision::Nothing(()),
            }),
            _ => Err(Error::NotFound { hash }),
        });
        look.await
    }

    async fn entry(&self, hash: Hash) -> Result<Option<Entry>> {
        if hash == Hash::EMPTY {
            self.engine.state().check_readable()?;
            return Ok(Some(self.empty_entry()));
        }
        loop {
            let row = self.engine.blob(&hash)?;
            match row.map(|row| row.state) {
                None => {
                    if let Some(partial) = self.engine.state().partials.get(&hash) {
                        return Ok(Some(self.partial_entry(partial)));
                    }
                    // It may have got its row in between.
                    if self.engine.blob(&hash)?.is_none() {
                        return Ok(None);
                    }
                }
                Some(BlobState::Partial { no, .. }) => {
                    if let Some(partial) = self.load_partial(hash, no).await? {
                        return Ok(Some(self.partial_entry(partial)));
                    }
                }
                Some(_) => {
                    let entry = row.and_then(|row| Entry::complete(&self.engine, hash, &row));
                    // The files that a row names are pinned only now: it has to be the row still.
                    if self.engine.blob(&hash)? == row {
                        return Ok(entry);
                    }
                }
            }
        }
    }
}

impl Map for FsStore {
    type Entry = Entry;

    async fn get(&self, hash: &Hash) -> Result<Option<Entry>> {
        self.entry(*hash).await
    }
}

impl BlobStatus for FsStore {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        self.entry_status_sync(hash)
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        if *hash == Hash::EMPTY {
            self.engine.state().check_readable()?;
            return Ok(EntryStatus::Complete);
        }
        let mut row = self.engine.blob(hash)?;
        if row.is_none() {
            if self.engine.state().partials.get(hash).is_some() {
                return Ok(EntryStatus::Partial);
            }
            // It may have got its row in between.
            row = self.engine.blob(hash)?;
        }
        Ok(match row {
            Some(row) if row.state.complete_size().is_some() => EntryStatus::Complete,
            Some(_) => EntryStatus::Partial,
            None => EntryStatus::NotFound,
        })
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        let Some(entry) = self.entry(*hash).await? else { return Ok(None) };
        Ok(Some(match &entry.content {
            Content::Partial(partial) if !partial.is_complete() => partial.present_ranges(),
            _ => PartialTree::all_ranges(entry.size().value()),
        }))
    }

    async fn was_demoted(&self, hash: &Hash) -> Result<bool> {
        let state = self.engine.blob(hash)?.map(|row| row.state);
        Ok(matches!(state, Some(BlobState::Partial { origin: Origin::Demoted, .. })))
    }
}

/// What `get_or_create` found.
enum Found {
    Complete,
    OnDisk(FileNo),
    Live(Arc<Partial>),
}

impl MapMut for FsStore {
    type EntryMut = Entry;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<Entry>> {
        self.entry(*hash).await
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<Entry> {
        if hash == Hash::EMPTY {
            self.engine.state().check_writable()?;
            return Ok(self.empty_entry());
        }
        let limit = self.engine.options.max_blob_size;
        if size > limit {
            let complete = self.entry(hash).await?.filter(MapEntry::is_complete);
            return complete.ok_or(Error::TooLarge { size, limit });
        }
        let pins = &self.engine.pins;
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        loop {
            let (found, _pin) = self
                .engine
                .transact(&keys, 0, |state, looked| {
                    let pin = pins.get_or_create(state, hash);
                    Ok(match state.pending_blob(&hash, looked) {
                        Some((old, Killed::Queued)) if old.complete_size().is_some() => {
                            Decision::Join(hash, (Found::Complete, pin))
                        }
                        Some((BlobState::Partial { no, .. }, killed)) => match state.partials.get(&hash) {
                            Some(partial) => Decision::Nothing((Found::Live(partial), pin)),
                            // It is being demoted, which may fail.
                            None if killed == Killed::Queued => {
                                Decision::Join(hash, (Found::OnDisk(no), pin))
                            }
                            None => Decision::Nothing((Found::OnDisk(no), pin)),
                        },
                        Some(_) => Decision::Nothing((Found::Complete, pin)),
                        None => {
                            Decision::Nothing((Found::Live(state.partials.get_or_begin(hash, size)), pin))
                        }
                    })
                })
                .await?;
            let partial = match found {
                Found::Live(partial) => partial,
                Found::OnDisk(no) => match self.load_partial(hash, no).await? {
                    Some(partial) => partial,
                    None => continue,
                },
                Found::Complete => match self.entry(hash).await? {
                    Some(entry) => return Ok(entry),
                    // Deleted in between.
                    None => continue,
                },
            };
            partial.claim(size)?;
            return Ok(self.partial_entry(partial));
        }
    }

    async fn insert_complete(&self, entry: Entry) -> Result<()> {
        self.engine.state().check_writable()?;
        match entry.content {
            Content::Empty => Ok(()),
            Content::Partial(partial) if !partial.is_complete() => {
                let engine = self.engine.clone();
                unblock(move || partial.insert_complete(&engine)).await
            }
            _ => self.still_complete(entry.hash).await,
        }
    }
}
