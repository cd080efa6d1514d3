//! Who is compared, and what a store must be able to do for that.

use std::{future::Future, path::Path};

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// blob-fs, each acknowledgement durable
    OursImmediate,
    /// blob-fs, acknowledged when written, one sync at the end
    OursRelaxed,
    /// iroh-blobs' file store as it is: acknowledged before its transaction is committed
    Peer,
    /// One file, the same bytes, a sync after each group of as many blobs as are in flight
    AppendGroups,
    /// One file, the same bytes, one sync at the end
    AppendOnce,
}

impl Contender {
    pub(crate) const ALL: [Self; 5] =
        [Self::OursImmediate, Self::OursRelaxed, Self::Peer, Self::AppendGroups, Self::AppendOnce];

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn is_store(self) -> bool {
        matches!(self, Self::OursImmediate | Self::OursRelaxed | Self::Peer)
    }
}

/// A store, as far as the workload uses one.
pub(crate) trait BlobStore: Clone + Send + Sync + Sized + 'static {
    type Hash: Clone + Send + Sync + 'static;
    type Options: Copy;

    fn open(dir: &Path, options: Self::Options) -> impl Future<Output = Result<Self>>;
    /// Imports a blob, waits for the acknowledgement, and lets go of what keeps it alive.
    fn import(&self, blob: Bytes) -> impl Future<Output = Result<Self::Hash>> + Send;
    /// Makes durable what was acknowledged.
    fn sync(&self) -> impl Future<Output = Result<()>>;
    fn read(&self, hash: Self::Hash) -> impl Future<Output = Result<Bytes>>;
    /// Returns when the directory can be opened again.
    fn shutdown(self) -> impl Future<Output = Result<()>>;
}
