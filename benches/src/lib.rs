//! What the benches share: stores by name and blobs that are all different.

use std::{future::Future, path::Path};

use blob_fs::{Durability, FsStore, Options};
use blob_mem::MemStore;
use blob_traits::{FullStore, Hash, Result, Store, prelude::*};
use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

/// Compiles and runs the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// A runtime like that of a small server.
///
/// # Errors
/// Those of the system.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// A blob of pseudo-random bytes that no other `seed` gives.
pub fn blob(seed: u64, len: usize) -> Bytes {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

/// Code that runs over any store.
pub trait Bench {
    /// Is called once for each backend, with its name.
    fn over<S: FullStore>(&mut self, name: &str, runtime: &Runtime, store: S);
}

/// Runs a bench over each backend. Files lie below `dir`.
///
/// # Errors
/// Those of opening and shutting down the stores.
pub fn each_backend(dir: &Path, runtime: &Runtime, bench: &mut impl Bench) -> Result<()> {
    bench.over("mem", runtime, MemStore::new());
    for (name, durability) in [("fs", Durability::Immediate), ("fs-relaxed", Durability::Relaxed)] {
        let mut options = Options::new(dir.join(name));
        options.durability = durability;
        let store = runtime.block_on(FsStore::open(options))?;
        bench.over(name, runtime, store.clone());
        runtime.block_on(store.shutdown())?;
    }
    Ok(())
}

/// Imports a blob and keeps it.
///
/// # Errors
/// Those of the store.
pub fn put<S: Store>(store: &S, bytes: Bytes) -> impl Future<Output = Result<Hash>> + Send {
    async move {
        let pinned = store.import_bytes(bytes, blob_traits::BlobFormat::Raw).await?;
        Ok(pinned.hash())
    }
}
