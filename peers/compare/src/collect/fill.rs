//! Fills a store with what is to be collected.

use std::path::Path;

use anyhow::{Context, Result};

use super::{CHILDREN, ONE_OF, Set, collector::Collecting};
use crate::{disk, run::import_all};

/// Fills and closes a store, and returns what it takes on the disk then.
pub(super) async fn fill<S: Collecting>(dir: &Path, set: Set) -> Result<u64> {
    let store = S::open(dir, S::DEFAULTS).await?;
    let kept = import_all(&store, set.workload, ONE_OF).await?;
    for children in kept.chunks(CHILDREN) {
        let sequence: Vec<u8> = children.iter().flat_map(|(_, hash)| S::hash_bytes(hash)).collect();
        store.keep(sequence).await.context("keeping a sequence")?;
    }
    if set.absent > 0 {
        store.keep(absent(set.absent)).await.context("keeping what is not there")?;
    }
    store.sync().await.context("syncing")?;
    store.shutdown().await.context("shutting down")?;
    Ok(disk::usage(dir)?.allocated)
}

/// A sequence of blobs that nobody has.
fn absent(n: u64) -> Vec<u8> {
    (0..n).flat_map(|number| *blob_traits::Hash::new(number.to_le_bytes()).as_bytes()).collect()
}
