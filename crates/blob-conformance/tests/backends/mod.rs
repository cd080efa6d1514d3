//! How our own backends are opened, and what they lack.

#![allow(dead_code, reason = "each target needs some of it")]

use std::{
    fs,
    future::{Ready, ready},
    io,
    path::Path,
    sync::Arc,
};

use blob_conformance::{Capability, Fault, Faults, Home, Lasts, Operations, Suite};
use blob_fs::{
    FsStore, Options,
    vfs::{self, FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};
use blob_mem::{MemOptions, MemStore};
use blob_traits::{Result, Store, Sweep};

/// The path of a manifest.
pub(crate) fn manifest(name: &str) -> String {
    format!("{}/tests/{name}.manifest", env!("CARGO_MANIFEST_DIR"))
}

/// Opens a store in memory.
pub(crate) fn open_mem(home: &Home) -> Ready<Result<MemStore>> {
    let max_blob_size = home.max_blob_size().unwrap_or(1 << 48);
    ready(Ok(MemStore::with_options(MemOptions { max_blob_size })))
}

/// Says what memory lacks.
pub(crate) fn in_memory<S: Store + Sweep>(suite: Suite<S>) -> Suite<S> {
    suite
        .lacks(Capability::Persistence, "memory does not outlive its process")
        .lacks(Capability::Durability, "memory does not outlive its process")
        .lacks(Capability::Lock, "every opening makes a store of its own")
        .lacks(Capability::Files, "it has no files")
        .lacks(Capability::References, "it copies every file")
        .lacks(Capability::MovesOut, "it keeps what it exports")
        .lacks(Capability::Faults, "it does no input or output of its own")
}

/// Opens a store on disk, with options of its own.
pub(crate) async fn open_fs(home: Home, change: fn(&mut Options)) -> Result<FsStore> {
    let vfs = home.keep(|| Faulty(FaultVfs::new(Arc::new(RealVfs::default()))));
    let mut options = Options::new(home.dir());
    change(&mut options);
    options.max_blob_size = home.max_blob_size().unwrap_or(options.max_blob_size);
    options.vfs = Arc::new(vfs.0.clone());
    home.set_faults(vfs);
    FsStore::open(options).await
}

/// Says at which sizes a store on disk changes its ways, and where its temporary files would be.
pub(crate) fn on_disk<S: Store + Sweep>(suite: Suite<S>, change: fn(&mut Options)) -> Suite<S> {
    let mut options = Options::new("");
    change(&mut options);
    suite
        .thresholds([options.inline_max, options.partial_memory_max])
        .leftovers(temporary_files)
        .derived(|dir| Ok(vec![dir.join("index.redb")]))
}

fn temporary_files(dir: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(dir.join("temp")) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path().display().to_string())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

struct Faulty(FaultVfs);

impl Faults for Faulty {
    fn arm(&self, fault: Fault) {
        let only = match fault.what {
            Operations::Writes => Ops::Writes,
            Operations::Syncs => Ops::Syncs,
            Operations::Reads => Ops::Reads,
        };
        let repeat = match fault.lasts {
            Lasts::Once => Repeat::Once,
            Lasts::UntilDisarmed => Repeat::Sticky,
        };
        self.0.arm(vfs::Fault { at: fault.at, repeat, kind: FaultKind::Error(fault.errno), only });
    }

    fn disarm(&self) {
        self.0.disarm();
    }

    fn has_fired(&self) -> bool {
        self.0.fired().is_some()
    }
}
