//! Partial blobs: beginning, writing, promoting.

use bao_tree::{ChunkRanges, io::BaoContentItem};
use blob_traits::{BaoBatchWriter, Error, MapEntryMut, Store};

use super::{
    Check, done,
    handles::Fate,
    op::{Blob, Claim, Order, Span},
    partial::Written,
    refused,
    world::{State, World},
};

impl<S: Store> World<'_, S> {
    /// Begins a blob, or takes it up; `None`: the claim was refused, as it had to be.
    pub(super) async fn get_or_create(&mut self, blob: Blob, claim: Claim) -> Check<Option<S::EntryMut>> {
        let known = self.known(blob);
        let claim = claim.of(&known);
        let got = self.store()?.get_or_create(known.hash, claim).await;
        let complete = self.is_complete(blob);
        let accepted = match self.state(blob) {
            _ if complete => true,
            State::Partial(partial) => partial.claim(claim),
            _ => {
                self.begin(blob, claim);
                true
            }
        };
        let entry = if accepted {
            Some(done("get_or_create", got)?)
        } else {
            refused("get_or_create", got, &["size-conflict"])?;
            None
        };
        self.look(blob).await?;
        Ok(entry)
    }

    pub(super) async fn write(
        &mut self,
        blob: Blob,
        claim: Claim,
        span: Span,
        order: Order,
        sync: bool,
    ) -> Check {
        let Some(entry) = self.get_or_create(blob, claim).await? else { return Ok(()) };
        let mut writer = done("batch_writer", entry.batch_writer().await.map_err(Error::from))?;
        let fate = if self.is_complete(blob) { Fate::Complete } else { Fate::Live };
        let known = self.known(blob);
        let (claim, ranges) = (claim.of(&known), span.of(&known));
        self.write_items(&mut writer, fate, blob, claim, (&ranges, order)).await?;
        if sync {
            self.sync_writer(&mut writer, fate, blob).await?;
        }
        Ok(())
    }

    /// Writes what a download under a claim would write.
    pub(super) async fn write_items(
        &mut self,
        writer: &mut impl BaoBatchWriter,
        fate: Fate,
        blob: Blob,
        claim: u64,
        (ranges, order): (&ChunkRanges, Order),
    ) -> Check {
        for batch in order.cut(self.known(blob).items(claim, ranges).0) {
            let part = Written::of(&batch);
            let written = writer.write_batch(claim, batch).await.map_err(Error::from);
            match (fate, self.state(blob)) {
                (Fate::Live, State::Partial(partial)) if partial.size == claim => {
                    done("write_batch", written)?;
                    partial.write(&part);
                }
                (Fate::Live, _) => refused("write_batch", written, &["size-conflict"])?,
                (Fate::Complete, _) => done("write_batch", written)?,
                (Fate::CompleteAndDeleted, _) if written.is_ok() => {}
                (Fate::CompleteAndDeleted | Fate::Deleted, _) => {
                    refused("write_batch", written, &["not-found"])?;
                }
            }
            self.look(blob).await?;
        }
        Ok(())
    }

    pub(super) async fn sync_writer(
        &mut self,
        writer: &mut impl BaoBatchWriter,
        fate: Fate,
        blob: Blob,
    ) -> Check {
        let synced = writer.sync().await.map_err(Error::from);
        match (fate, self.state(blob)) {
            (Fate::Live, State::Partial(partial)) => {
                done("sync of a writer", synced)?;
                partial.synced();
            }
            (Fate::Live | Fate::Complete, _) => done("sync of a writer", synced)?,
            // Nothing is left to be made durable.
            (Fate::Deleted | Fate::CompleteAndDeleted, _) if synced.is_ok() => {}
            (Fate::Deleted | Fate::CompleteAndDeleted, _) => {
                refused("sync of a writer", synced, &["not-found"])?;
            }
        }
        Ok(())
    }

    /// Takes in the true stream of some ranges under a claim.
    pub(super) async fn import_bao(&mut self, blob: Blob, claim: Claim, span: Span) -> Check {
        let known = self.known(blob);
        let (claim, ranges) = (claim.of(&known), span.of(&known));
        let stream = known.encode(&ranges);
        let imported = self.store()?.import_bao(known.hash, claim, ranges.clone(), stream).await;
        let imported = imported.map(drop);
        let (items, honest) = known.items(claim, &ranges);
        if self.is_complete(blob) {
            // A lie may be noticed, and need not.
            if honest {
                done("import_bao", imported)?;
            }
            return self.look(blob).await;
        }
        if let State::Absent = self.state(blob) {
            self.begin(blob, claim);
        }
        let State::Partial(partial) = self.state(blob) else { return Ok(()) };
        if !partial.claim(claim) {
            refused("import_bao", imported, &["size-conflict"])?;
            return self.look(blob).await;
        }
        partial.write(&Written::of(&items));
        partial.synced();
        let whole = partial.is_whole();
        if honest {
            done("import_bao", imported)?;
            if whole {
                self.complete(blob);
            }
        } else {
            refused("import_bao", imported, &["mismatch", "io"])?;
        }
        self.look(blob).await
    }

    pub(super) async fn insert_complete(&mut self, blob: Blob) -> Check {
        let (store, known) = (self.store()?, self.known(blob));
        let Some(entry) = done("get_mut", store.get_mut(&known.hash).await)? else {
            return self.look(blob).await;
        };
        let inserted = store.insert_complete(entry).await;
        self.check_inserted(blob, inserted).await
    }

    /// Compares what became of a promotion of what is there now.
    pub(super) async fn check_inserted(&mut self, blob: Blob, inserted: blob_traits::Result<()>) -> Check {
        match self.state(blob) {
            State::Partial(partial) if !partial.is_whole() => {
                let codes =
                    if partial.verified { &["incomplete"][..] } else { &["incomplete", "size-unverified"] };
                refused("insert_complete", inserted, codes)?;
            }
            State::Partial(_) => {
                done("insert_complete", inserted)?;
                self.complete(blob);
            }
            _ => done("insert_complete", inserted)?,
        }
        self.look(blob).await
    }
}

impl Order {
    /// Cuts items into batches.
    fn cut(self, items: Vec<BaoContentItem>) -> Vec<Vec<BaoContentItem>> {
        let mut batches: Vec<_> = match self {
            Self::AtOnce => vec![items],
            Self::OneByOne | Self::Backwards => items.into_iter().map(|item| vec![item]).collect(),
        };
        if let Self::Backwards = self {
            batches.reverse();
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }
}
