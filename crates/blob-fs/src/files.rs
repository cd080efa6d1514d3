//! Open files, no more than a bound (E71), and reading from them without blocking the caller's thread (E70).

use std::{
    io,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use blob_traits::blocking::unblock;
use bytes::Bytes;
use lru::LruCache;
use rustix::process::{Resource, getrlimit};

use crate::{
    layout::FileNo,
    vfs::{Access, FileRef, Vfs},
};

/// What an open file is found by. A number is in one file name only, wherever that lies at the moment (E7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FileKey {
    /// A segment, by id.
    Segment(u32),
    /// The bytes of a blob.
    Data(FileNo),
    /// The outboard of a blob.
    Outboard(FileNo),
    /// The pairs of a partial blob.
    Pairs(FileNo),
}

/// Files that are open for reading; those used longest ago are closed first. They are never more than a quarter of
/// what the process may have open.
#[derive(Debug)]
pub(crate) struct FileCache {
    vfs: Arc<dyn Vfs>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    files: LruCache<FileKey, FileRef>,
    /// How often something was forgotten: what was opened before must not be kept after.
    n_forgotten: u64,
}

impl FileCache {
    /// Makes a cache for at most `capacity` files, at least one.
    pub(crate) fn new(vfs: Arc<dyn Vfs>, capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self { vfs, open: Mutex::new(Open { files: LruCache::new(capacity), n_forgotten: 0 }) }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the file if it is open.
    pub(crate) fn cached(&self, key: FileKey) -> Option<FileRef> {
        self.lock().files.get(&key).cloned()
    }

    /// Returns the file, and opens it for reading at `path` if it is not open. May block.
    pub(crate) fn get(&self, key: FileKey, path: impl FnOnce() -> PathBuf) -> io::Result<FileRef> {
        let before = {
            let mut open = self.lock();
            if let Some(file) = open.files.get(&key) {
                return Ok(Arc::clone(file));
            }
            open.n_forgotten
        };
        let file = self.vfs.open(&path(), Access::Read)?;
        let mut open = self.lock();
        if open.n_forgotten != before {
            // It may be this one that was forgotten, because it is being removed. Kept open it would keep its space.
            return Ok(file);
        }
        if let Some(faster) = open.files.get(&key) {
            return Ok(Arc::clone(faster));
        }
        let mut closed = Vec::new();
        let at_most = share_of_limit();
        while open.files.len() >= at_most {
            closed.extend(open.files.pop_lru());
        }
        closed.extend(open.files.push(key, Arc::clone(&file)));
        drop(open);
        drop(closed);
        Ok(file)
    }

    /// Closes all files, each as soon as nobody uses it.
    pub(crate) fn forget_all(&self) {
        let closed = {
            let mut open = self.lock();
            open.n_forgotten += 1;
            let capacity = open.files.cap();
            std::mem::replace(&mut open.files, LruCache::new(capacity))
        };
        drop(closed);
    }

    /// Closes the file as soon as nobody uses it; the next [`get`](Self::get) opens it anew.
    pub(crate) fn forget(&self, key: FileKey) {
        let closed = {
            let mut open = self.lock();
            open.n_forgotten += 1;
            open.files.pop(&key)
        };
        drop(closed);
    }
}

/// A quarter of the files that this process may have open, at least one. Asked each time: a process may change it.
fn share_of_limit() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 4).unwrap_or(usize::MAX).max(1)
}

/// Reads exactly `len` bytes.
///
/// What is in the page cache is read here and now, the rest on the blocking pool of the tokio runtime (E70), or,
/// outside of one, here too. Dropping the future leaves a read that has begun to itself.
///
/// # Errors
///
/// [`io::ErrorKind::UnexpectedEof`] where the file is shorter.
pub(crate) async fn read_range(file: FileRef, offset: u64, len: usize) -> io::Result<Bytes> {
    let mut buf = vec![0; len];
    let done = file.read_at_nowait(&mut buf, offset)?.unwrap_or(0);
    if done >= len {
        return Ok(buf.into());
    }
    let rest = move || -> io::Result<Bytes> {
        let missing = buf.get_mut(done..).unwrap_or_default();
        file.read_exact_at(missing, offset.saturating_add(done as u64))?;
        Ok(buf.into())
    };
    Ok(unblock(move || Ok(rest()?)).await?)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;
    use crate::vfs::{Fault, FaultKind, FaultVfs, Op, Ops, RealVfs, Repeat, Stat, VfsFile};

    fn setup(capacity: usize) -> (tempfile::TempDir, FaultVfs, FileCache) {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1", "2", "3"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
        let cache = FileCache::new(Arc::new(vfs.clone()), capacity);
        (dir, vfs, cache)
    }

    #[test]
    fn open_file_is_not_opened_again_until_others_push_it_out() {
        let (dir, vfs, cache) = setup(2);
        let get = |id: u32| cache.get(FileKey::Segment(id), || dir.path().join(id.to_string())).unwrap();
        let n_opened = || vfs.operations().iter().filter(|o| o.op == Op::Open).count();
        let one = get(1);
        get(2);
        assert!(Arc::ptr_eq(&one, &get(1)));
        get(3); // closes 2, which was used longest ago
        assert!(Arc::ptr_eq(&one, &get(1)));
        assert_eq!(n_opened(), 3);
        assert!(cache.cached(FileKey::Segment(2)).is_none());
        get(2);
        assert_eq!(n_opened(), 4);
    }

    #[test]
    fn keys_of_different_kinds_do_not_meet() {
        let (dir, _, cache) = setup(0);
        let get = |key, name: &str| cache.get(key, || dir.path().join(name)).unwrap().stat().unwrap().ino;
        let data = get(FileKey::Data(FileNo(1)), "1");
        assert_ne!(get(FileKey::Outboard(FileNo(1)), "2"), data);
    }

    #[test]
    fn forgotten_file_is_closed_and_failures_are_not_kept() {
        let (dir, vfs, cache) = setup(4);
        let key = FileKey::Segment(1);
        let get = || cache.get(key, || dir.path().join("1"));
        let (at, repeat, kind) = (1, Repeat::Once, FaultKind::Error(5));
        vfs.arm(Fault { at, repeat, kind, only: Ops::Just(Op::Open) });
        assert_eq!(get().unwrap_err().raw_os_error(), Some(5));
        let weak = Arc::downgrade(&get().unwrap());
        assert!(weak.upgrade().is_some());
        cache.forget(key);
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn file_forgotten_while_it_is_opened_is_not_kept() {
        let (dir, _, cache) = setup(4);
        let key = FileKey::Segment(1);
        let file = cache.get(key, || {
            cache.forget(key); // by another thread, in this moment
            dir.path().join("1")
        });
        assert!(file.is_ok() && cache.cached(key).is_none());
    }

    #[test]
    fn two_who_open_at_once_share_the_file_of_the_faster() {
        let (dir, _, cache) = setup(4);
        let key = FileKey::Segment(1);
        let mut faster = None;
        let slower = cache.get(key, || {
            faster = Some(cache.get(key, || dir.path().join("1")).unwrap());
            dir.path().join("1")
        });
        assert!(Arc::ptr_eq(&slower.unwrap(), &faster.unwrap()));
    }

    /// A file of which only so many bytes are at hand. It can be read, and nothing else.
    #[derive(Debug)]
    struct Cold {
        bytes: Vec<u8>,
        at_hand: Option<usize>,
        n_blocking: AtomicU64,
        readers: Mutex<Vec<std::thread::ThreadId>>,
    }

    impl VfsFile for Cold {
        fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
            self.n_blocking.fetch_add(1, Ordering::Relaxed);
            self.readers.lock().unwrap().push(std::thread::current().id());
            let rest = &self.bytes[usize::try_from(offset).unwrap().min(self.bytes.len())..];
            let n = rest.len().min(buf.len()).min(3); // the system feels like it
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }

        fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
            let Some(n) = self.at_hand else { return Ok(None) };
            let n = n.min(buf.len());
            buf[..n].copy_from_slice(&self.bytes[usize::try_from(offset).unwrap()..][..n]);
            Ok(Some(n))
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn stat(&self) -> io::Result<Stat> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn drop_cached(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn try_lock(&self) -> io::Result<bool> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn unlock(&self) -> io::Result<()> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    fn cold(at_hand: Option<usize>) -> Arc<Cold> {
        let (n_blocking, readers) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Cold { bytes: (0..100).collect(), at_hand, n_blocking, readers })
    }

    #[tokio::test]
    async fn what_is_at_hand_is_not_read_twice_and_the_rest_elsewhere() {
        for at_hand in [None, Some(1), Some(9), Some(10), Some(50)] {
            let file = cold(at_hand);
            let read = read_range(file.clone(), 5, 10).await.unwrap();
            assert_eq!(read, (5..15).collect::<Vec<u8>>(), "{at_hand:?}");
            let missing = 10_u64.saturating_sub(at_hand.unwrap_or(0) as u64);
            assert_eq!(file.n_blocking.load(Ordering::Relaxed), missing.div_ceil(3));
            assert!(!file.readers.lock().unwrap().contains(&std::thread::current().id()));
        }
    }

    #[tokio::test]
    async fn end_of_the_file_is_an_error() {
        let error = read_range(cold(Some(2)), 95, 6).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn outside_of_a_runtime_all_is_read_here() {
        let read = futures_lite::future::block_on(read_range(cold(None), 0, 100)).unwrap();
        assert_eq!(read.len(), 100);
    }
}
