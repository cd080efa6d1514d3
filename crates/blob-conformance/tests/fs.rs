//! The store on disk, in the configurations that differ most in what they do with a blob.

use std::{fs, io, path::Path, process::ExitCode, sync::Arc};

use blob_conformance::{Fault, Faults, Harness, Home, Lasts, Operations, Suite};
use blob_fs::{
    Durability, FsStore, Options,
    vfs::{FaultKind, FaultVfs, Ops, RealVfs, Repeat},
};

fn main() -> ExitCode {
    let inlined = |inline_max| move |options: &mut Options| options.inline_max = inline_max;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fs.manifest");
    Harness::new()
        .manifest(manifest)
        .suite(suite("fs", |_| {}))
        .suite(suite("fs-inline-all", inlined(8 << 20)))
        .suite(suite("fs-inline-none", inlined(0)))
        .suite(suite("fs-relaxed", |options| options.durability = Durability::Relaxed))
        .main()
}

fn suite(name: &str, change: impl Fn(&mut Options) + Send + Sync + 'static) -> Suite<FsStore> {
    let mut options = Options::new("");
    change(&mut options);
    let thresholds = [options.inline_max, options.partial_memory_max];
    let open = move |home: Home| {
        let vfs = home.keep(|| Faulty(FaultVfs::new(Arc::new(RealVfs::default()))));
        let mut options = Options::new(home.dir());
        change(&mut options);
        options.max_blob_size = home.max_blob_size().unwrap_or(options.max_blob_size);
        options.vfs = Arc::new(vfs.0.clone());
        home.set_faults(vfs);
        FsStore::open(options)
    };
    Suite::new(name, open).thresholds(thresholds).leftovers(temporary_files)
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
            Operations::Reads => Ops::Just(blob_fs::vfs::Op::ReadAt),
        };
        let repeat = match fault.lasts {
            Lasts::Once => Repeat::Once,
            Lasts::UntilDisarmed => Repeat::Sticky,
        };
        self.0.arm(blob_fs::vfs::Fault { at: fault.at, repeat, kind: FaultKind::Error(fault.errno), only });
    }

    fn disarm(&self) {
        self.0.disarm();
    }

    fn has_fired(&self) -> bool {
        self.0.fired().is_some()
    }
}
