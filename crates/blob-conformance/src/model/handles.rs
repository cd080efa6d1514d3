//! Handles and writers that stay open while other things happen to their blob.

use blob_traits::{Error, MapEntry, MapEntryMut, ReadBlob, Store};

use super::{
    Check, done, expect,
    op::{Blob, Claim, Order, Span},
    refused,
    universe::to_usize,
    whole::place,
    world::{State, World},
};

pub(super) struct Handle<S: Store> {
    blob: Blob,
    claim: u64,
    /// The partial blob that it was opened on; `None`: it was complete.
    no: Option<u64>,
    deleted: bool,
    entry: S::EntryMut,
    writer: <S::EntryMut as MapEntryMut>::BatchWriter,
}

/// What became of the blob that a handle was opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is partial.
    Live,
    Complete,
    CompleteAndDeleted,
    /// It was deleted while it was partial.
    Deleted,
}

impl<S: Store> World<'_, S> {
    pub(super) async fn open_handle(&mut self, handle: usize, blob: Blob, claim: Claim) -> Check {
        let Some(entry) = self.get_or_create(blob, claim).await? else { return Ok(()) };
        let writer = done("batch_writer", entry.batch_writer().await.map_err(Error::from))?;
        let no = match self.state(blob) {
            State::Partial(partial) => Some(partial.no),
            _ => None,
        };
        let claim = claim.of(&self.known(blob));
        self.put(handle, Handle { blob, claim, no, deleted: false, entry, writer });
        Ok(())
    }

    fn put(&mut self, handle: usize, open: Handle<S>) {
        if let Some(place) = self.handles.get_mut(handle) {
            *place = Some(open);
        }
    }

    fn take(&mut self, handle: usize) -> Option<Handle<S>> {
        self.handles.get_mut(handle)?.take()
    }

    fn fate(&self, handle: &Handle<S>) -> Fate {
        let completed = handle.no.is_none_or(|no| self.completed.contains(&no));
        match (completed, handle.deleted) {
            (false, false) => Fate::Live,
            (false, true) => Fate::Deleted,
            (true, false) => Fate::Complete,
            (true, true) => Fate::CompleteAndDeleted,
        }
    }

    /// A blob was deleted.
    pub(super) fn handles_lose(&mut self, blob: Blob) {
        for handle in self.handles.iter_mut().flatten().filter(|handle| handle.blob == blob) {
            handle.deleted = true;
        }
    }

    pub(super) async fn write_open(&mut self, handle: usize, span: Span, order: Order, sync: bool) -> Check {
        let Some(mut open) = self.take(handle) else { return Ok(()) };
        let fate = self.fate(&open);
        let ranges = span.of(&self.known(open.blob));
        self.write_items(&mut open.writer, fate, open.blob, open.claim, (&ranges, order)).await?;
        if sync {
            self.sync_writer(&mut open.writer, fate, open.blob).await?;
        }
        self.put(handle, open);
        Ok(())
    }

    /// Bytes of what was deleted may still be read; others never are.
    pub(super) async fn read_open(&mut self, handle: usize, at: u32, len: u32) -> Check {
        let Some(open) = self.take(handle) else { return Ok(()) };
        let known = self.known(open.blob);
        let (start, end) = place(&known, at, len);
        let found = async {
            let mut reader = open.entry.data_reader().await?;
            Ok(reader.read_range(start, to_usize(end - start)).await?)
        };
        let found = found.await;
        if open.deleted {
            if let Ok(bytes) = found {
                expect("bytes of a deleted blob", &bytes, &known.slice(start, start + bytes.len() as u64))?;
            }
        } else {
            self.check_read(open.blob, start..end, false, found)?;
        }
        self.put(handle, open);
        Ok(())
    }

    pub(super) async fn insert_open(&mut self, handle: usize) -> Check {
        let Some(open) = self.take(handle) else { return Ok(()) };
        let inserted = self.store()?.insert_complete(open.entry.clone()).await;
        // What is complete again by now is as good as what was asked for.
        if !open.deleted || (inserted.is_ok() && self.is_complete(open.blob)) {
            self.check_inserted(open.blob, inserted).await?;
        } else {
            refused("insert_complete of a deleted blob", inserted, &["not-found"])?;
            self.look(open.blob).await?;
        }
        self.put(handle, open);
        Ok(())
    }
}
