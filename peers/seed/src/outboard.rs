//! The hash tree of a blob.

use std::io;

use blob_traits::bao_tree::{BaoTree, TreeNode, blake3, io::fsm};
use iroh_blobs::store::{MapEntry, bao_tree::io::fsm::Outboard as _};

use crate::{
    convert::{node_to_theirs, tree_to_ours},
    served::{Reply, Served, answer},
};

/// The two hashes of a parent.
type Pair = (blake3::Hash, blake3::Hash);

/// The seed's outboard, with the size that it was opened with.
#[derive(Debug)]
pub struct SeedOutboard {
    root: blake3::Hash,
    tree: BaoTree,
    served: Served<Load>,
}

#[derive(Debug)]
struct Load {
    node: TreeNode,
    reply: Reply<io::Result<Option<Pair>>>,
}

impl SeedOutboard {
    pub(crate) async fn open<E: MapEntry>(entry: E) -> io::Result<Self> {
        let (served, (root, tree)) = Served::open(async move |opened: Reply<io::Result<_>>, mut calls| {
            let mut outboard = match entry.outboard().await {
                Ok(outboard) => outboard,
                Err(e) => return drop(opened.send(Err(e))),
            };
            let _ = opened.send(Ok((outboard.root(), tree_to_ours(outboard.tree()))));
            while let Some(Load { node, reply }) = calls.recv().await {
                answer(reply, outboard.load(node_to_theirs(node))).await;
            }
        })
        .await?;
        Ok(Self { root, tree, served })
    }
}

impl fsm::Outboard for SeedOutboard {
    fn root(&self) -> blake3::Hash {
        self.root
    }

    fn tree(&self) -> BaoTree {
        self.tree
    }

    async fn load(&mut self, node: TreeNode) -> io::Result<Option<Pair>> {
        self.served.call(|reply| Load { node, reply }).await
    }
}
