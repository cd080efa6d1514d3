//! Looking blobs up, and writing partial ones.

use std::{
    panic::resume_unwind,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
};

use blob_traits::{
    BlobStatus, EntryStatus, Error, Hash, Map, MapEntry, MapMut, PartialTree, Result,
    bao_tree::{ChunkNum, ChunkRanges, io::fsm::valid_ranges},
    blocking::on_blocking_pool,
};
use futures_lite::StreamExt;
use iroh_blobs::store::Store;

use crate::{
    convert::{hash_to_theirs, status_to_ours},
    entry::SeedEntry,
    failure::About,
    limit::{PATIENCE, hung},
    store::{Promotion, Seed},
};

impl<S: Store> Seed<S> {
    fn wrap<E>(&self, entry: E) -> SeedEntry<E> {
        SeedEntry { entry, max_leaf_end: self.max_leaf_end() }
    }
}

impl<S: Store> Map for Seed<S> {
    type Entry = SeedEntry<S::Entry>;

    async fn get(&self, hash: &Hash) -> Result<Option<Self::Entry>> {
        let found = self.call(About::Blob(*hash), self.store().get(&hash_to_theirs(*hash))).await?;
        Ok(found.map(|entry| self.wrap(entry)))
    }
}

impl<S: Store> BlobStatus for Seed<S> {
    async fn entry_status(&self, hash: &Hash) -> Result<EntryStatus> {
        let theirs = hash_to_theirs(*hash);
        let status = self.call(About::Blob(*hash), self.store().entry_status(&theirs)).await?;
        Ok(status_to_ours(&status))
    }

    fn entry_status_sync(&self, hash: &Hash) -> Result<EntryStatus> {
        self.pins().release();
        let (store, theirs) = (self.store().clone(), hash_to_theirs(*hash));
        let (answer, status) = channel();
        // On a thread because it may block for ever.
        let asking = thread::spawn(move || drop(answer.send(store.entry_status_sync(&theirs))));
        let status = match status.recv_timeout(PATIENCE) {
            Ok(status) => status,
            Err(RecvTimeoutError::Timeout) => Err(hung()),
            Err(RecvTimeoutError::Disconnected) => match asking.join() {
                Ok(()) => Err(hung()),
                Err(panic) => resume_unwind(panic),
            },
        };
        status.map(|status| status_to_ours(&status)).map_err(|e| self.translate(e, About::Blob(*hash)))
    }

    async fn present_ranges(&self, hash: &Hash) -> Result<Option<ChunkRanges>> {
        let Some(entry) = self.get(hash).await? else { return Ok(None) };
        if entry.is_complete() {
            return Ok(Some(PartialTree::all_ranges(entry.size().value())));
        }
        valid_chunks(entry).await.map(Some)
    }

    /// The seed cannot take back what it has.
    async fn was_demoted(&self, _: &Hash) -> Result<bool> {
        Ok(false)
    }
}

impl<S: Store> MapMut for Seed<S> {
    type EntryMut = SeedEntry<S::EntryMut>;

    async fn get_mut(&self, hash: &Hash) -> Result<Option<Self::EntryMut>> {
        let found = self.call(About::Blob(*hash), self.store().get_mut(&hash_to_theirs(*hash))).await?;
        Ok(found.map(|entry| self.wrap(entry)))
    }

    async fn get_or_create(&self, hash: Hash, size: u64) -> Result<Self::EntryMut> {
        let entry =
            self.call(About::Blob(hash), self.store().get_or_create(hash_to_theirs(hash), size)).await?;
        Ok(self.wrap(entry))
    }

    async fn insert_complete(&self, entry: Self::EntryMut) -> Result<()> {
        if self.promotion() == Promotion::WhenValid && !entry.is_complete() {
            check_whole(&entry).await?;
        }
        self.call(About::Blob(entry.hash()), self.store().insert_complete(entry.entry)).await
    }
}

/// Hashes what there is of a partial blob.
async fn valid_chunks<E: MapEntry>(entry: E) -> Result<ChunkRanges> {
    on_blocking_pool(move || async move {
        let (outboard, data) = (entry.outboard().await?, entry.data_reader().await?);
        let all = ChunkRanges::all();
        let mut valid = ChunkRanges::empty();
        let mut found = std::pin::pin!(valid_ranges(outboard, data, &all));
        while let Some(range) = found.next().await {
            valid |= ChunkRanges::from(range?);
        }
        Ok(valid)
    })
    .await
}

/// Refuses a partial blob of which chunks do not verify.
async fn check_whole<E: MapEntry>(entry: &E) -> Result<()> {
    let (hash, size) = (entry.hash(), entry.size().value());
    if size == 0 && hash == Hash::EMPTY {
        return Ok(());
    }
    // Where nothing was written the seed has no size yet.
    let n_chunks = size.div_ceil(1024).max(1);
    let valid = if size == 0 { ChunkRanges::empty() } else { valid_chunks(entry.clone()).await? };
    let missing = !valid & ChunkRanges::from(ChunkNum(0)..ChunkNum(n_chunks));
    let Some(first) = missing.boundaries().first() else { return Ok(()) };
    let lengths = missing.boundaries().chunks_exact(2).map(|run| match run {
        [start, end] => end.0 - start.0,
        _ => 0,
    });
    Err(Error::Incomplete { hash, first_missing: first.to_bytes(), n_missing: lengths.sum(), n_chunks })
}
