//! From partial to complete (E48).

use std::{io, path::PathBuf, sync::Arc};

use bao_tree::BaoTree;
use blob_traits::{BLOCK_SIZE, Error, Hash, Result, StoredParent};
use smallvec::{SmallVec, smallvec};

use super::{
    Life, Partial, Storage,
    disk::{Disk, OpenFiles, sync_partial_dir},
};
use crate::{
    engine::{Decision, Engine, Keys},
    format::record::CameFrom,
    op::{Killed, Op},
    outboard::read_pair,
    vfs::VfsFile,
};

/// How much of an outboard is gathered before it is written.
const BUFFER: usize = 256 << 10;

impl Partial {
    /// Promotes the blob; durable when this returns. Idempotent. Blocks.
    ///
    /// # Errors
    /// [`Error::Incomplete`], [`Error::SizeUnverified`], [`Error::NotFound`].
    pub(crate) fn insert_complete(&self, engine: &Engine) -> Result<()> {
        let _io = self.io();
        match self.life() {
            Life::Partial => {}
            Life::Complete => return Ok(()),
            Life::Gone => return Err(Error::NotFound { hash: self.hash }),
        }
        let (size, storage) = {
            let inner = self.inner();
            inner.tree.require_complete(self.hash)?;
            (inner.tree.size().value(), inner.storage.clone())
        };
        if size <= engine.options.inline_max {
            let (data, outboard) = self.read_all(engine, size, &storage)?;
            let op = Op::Small { hash: self.hash, data: data.into(), outboard };
            self.record(engine, size, op)?;
            if let Storage::Disk(disk) = &storage {
                disk.close();
            }
            return Ok(());
        }
        if let Storage::Memory(memory) = &storage {
            self.to_disk_locked(engine, memory)?;
        }
        let storage = self.inner().storage.clone();
        let Storage::Disk(disk) = storage else {
            // Somebody else has completed or deleted it in the meantime.
            return if self.is_complete() { Ok(()) } else { Err(Error::NotFound { hash: self.hash }) };
        };
        self.write_outboard(engine, size, &disk)?;
        let op = Op::Large { hash: self.hash, size, no: disk.no, came_from: CameFrom::Partial };
        self.record(engine, 0, op)?;
        disk.close();
        Ok(())
    }

    fn record(&self, engine: &Engine, weight: u64, op: Op) -> Result<()> {
        let hash = self.hash;
        let keys = Keys { blobs: smallvec![hash], tags: SmallVec::new() };
        engine.transact_blocking(&keys, weight, |state, looked| {
            let pin = engine.pins.insert_complete(state, hash);
            let old = state.pending_blob(&hash, looked);
            Ok(match old {
                // An import was faster.
                Some((old, killed)) if old.complete_size().is_some() => match killed {
                    Killed::Queued => Decision::Join(hash, ()),
                    _ => Decision::Nothing(()),
                },
                _ if !state.partials.is_current(self) => return Err(Error::NotFound { hash }),
                _ => Decision::Write(vec![op], smallvec![pin], ()),
            })
        })
    }

    fn read_all(&self, engine: &Engine, size: u64, storage: &Storage) -> Result<(Vec<u8>, Vec<u8>)> {
        let len = usize::try_from(size).map_err(io::Error::other)?;
        let data = match storage {
            Storage::Memory(memory) => memory.read(0, len).to_vec(),
            Storage::Disk(disk) => {
                let mut data = vec![0; len];
                disk.files(engine)?.data.read_exact_at(&mut data, 0).map_err(|e| damaged(self.hash, e))?;
                data
            }
        };
        let mut outboard = Vec::new();
        for parent in pre_order(size) {
            match storage {
                Storage::Memory(memory) => outboard.extend_from_slice(&memory.pair(parent)),
                Storage::Disk(disk) => outboard.extend_from_slice(&disk.pair(engine, parent)?),
            }
        }
        Ok((data, outboard))
    }

    /// Writes the outboard in pre-order and makes both files durable.
    fn write_outboard(&self, engine: &Engine, size: u64, disk: &Arc<Disk>) -> Result<()> {
        let path = engine.layout.partial_outboard(&self.hash, disk.no);
        let failed = |doing: &'static str, path: &PathBuf, e| Error::io(doing, path, e);
        // Bytes beyond the size come from a larger claim that turned out to be a lie.
        let OpenFiles { data, pairs } = disk.files(engine)?;
        if let Err(e) = data.set_len(size).and_then(|()| data.sync_data()) {
            // What a failed sync covered is not certain (E26): the files say again what the last `.bits` said.
            engine.state().partials.forget(self);
            return Err(failed("sync", &path, e));
        }
        if size > 16 << 10 {
            // One that an earlier try left behind.
            let _ = engine.vfs.remove_file(&path);
            let file = engine.vfs.create_new(&path).map_err(|e| failed("create", &path, e))?;
            let written = write_pre_order(&*file, size, &*pairs).and_then(|()| file.sync_data());
            if let Err(e) = written {
                let _ = engine.vfs.remove_file(&path);
                return Err(failed("write", &path, e));
            }
        }
        sync_partial_dir(engine)
    }
}

fn write_pre_order(file: &dyn VfsFile, size: u64, pairs: &dyn VfsFile) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    let mut offset = 0;
    for parent in pre_order(size) {
        buffer.extend_from_slice(&read_pair(pairs, parent.number() * 64)?);
        if buffer.len() >= BUFFER {
            file.write_all_at(&buffer, offset)?;
            offset += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all_at(&buffer, offset)
}

/// The stored parents of a blob in the order of an outboard.
fn pre_order(size: u64) -> impl Iterator<Item = StoredParent> {
    let tree = BaoTree::new(size, BLOCK_SIZE);
    let stored = move |node| tree.pre_order_offset(node).and_then(|_| StoredParent::new(node));
    tree.pre_order_nodes_iter().filter_map(stored)
}

/// A file that ends too early is damage.
fn damaged(hash: Hash, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return Error::Damaged { hash, what: "its partial file is too short".to_owned() };
    }
    error.into()
}
