//! Writing to a partial blob.

use std::io;

use blob_traits::{BaoBatchWriter, bao_tree::io::BaoContentItem};
use iroh_blobs::{
    IROH_BLOCK_SIZE,
    store::{
        BaoBatchWriter as _, MapEntryMut,
        bao_tree::{BaoTree, io::fsm::BaoContentItem as TheirItem},
    },
};

use crate::{
    convert::item_to_theirs,
    limit::{MAX_IN_MEMORY, too_much},
    served::{Reply, Served, answer},
};

/// The seed's batch writer, which checks nothing, with a guard of the process's memory before it.
#[derive(Debug)]
pub struct SeedWriter {
    max_leaf_end: u64,
    served: Served<Call>,
}

#[derive(Debug)]
enum Call {
    WriteBatch { size: u64, batch: Vec<TheirItem>, reply: Reply<io::Result<()>> },
    Sync { reply: Reply<io::Result<()>> },
}

impl SeedWriter {
    pub(crate) async fn open<E: MapEntryMut>(entry: E, max_leaf_end: u64) -> io::Result<Self> {
        let (served, ()) = Served::open(async move |opened: Reply<io::Result<()>>, mut calls| {
            let mut writer = match entry.batch_writer().await {
                Ok(writer) => writer,
                Err(e) => return drop(opened.send(Err(e))),
            };
            let _ = opened.send(Ok(()));
            while let Some(call) = calls.recv().await {
                match call {
                    Call::WriteBatch { size, batch, reply } => {
                        answer(reply, writer.write_batch(size, batch)).await;
                    }
                    Call::Sync { reply } => answer(reply, writer.sync()).await,
                }
            }
        })
        .await?;
        Ok(Self { max_leaf_end, served })
    }

    /// Refuses what would make the seed allocate, and clear, more memory than there is.
    fn check(&self, size: u64, batch: &[TheirItem]) -> io::Result<()> {
        let tree = BaoTree::new(size, IROH_BLOCK_SIZE);
        let is_too_far = |item: &TheirItem| match item {
            TheirItem::Leaf(leaf) => leaf.offset.saturating_add(leaf.data.len() as u64) > self.max_leaf_end,
            TheirItem::Parent(parent) => {
                tree.pre_order_offset(parent.node).is_some_and(|position| position > MAX_IN_MEMORY / 64)
            }
        };
        if batch.iter().any(is_too_far) { Err(too_much()) } else { Ok(()) }
    }
}

impl BaoBatchWriter for SeedWriter {
    async fn write_batch(&mut self, size: u64, batch: Vec<BaoContentItem>) -> io::Result<()> {
        let batch: Vec<_> = batch.into_iter().map(item_to_theirs).collect();
        self.check(size, &batch)?;
        self.served.call(|reply| Call::WriteBatch { size, batch, reply }).await
    }

    async fn sync(&mut self) -> io::Result<()> {
        self.served.call(|reply| Call::Sync { reply }).await
    }
}
