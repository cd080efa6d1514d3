//! One store, one owner (E72).

use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use crate::{
    layout::Layout,
    vfs::{Access, FileRef, Stat, Vfs},
};

/// No more of the text in the lock file is read.
const MAX_HINT: usize = 4096;

/// The lock files that this process holds, by device and inode.
///
/// The lock of the file does not keep out a second opener in the same process where it belongs to the process (NFS).
static HELD: Mutex<Option<HashSet<FileId>>> = Mutex::new(None);

type FileId = (u64, u64);

/// The right to use a store, until dropped.
#[derive(Debug)]
pub(crate) struct StoreLock {
    // Dropped in this order: the lock is gone before the process may take it again.
    file: FileRef,
    _registered: Registered,
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked when it is closed.
        let _ = self.file.unlock();
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody else uses it.
    #[error("the store is in use: {} is held by {}", path.display(), Holder(holder.as_deref()))]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Who, as far as can be told.
        holder: Option<String>,
    },
    /// The system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done to the lock file.
        doing: &'static str,
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

struct Holder<'a>(Option<&'a str>);

impl fmt::Display for Holder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.unwrap_or("another process"))
    }
}

impl StoreLock {
    /// Takes the lock of a store whose directory exists, or says who has it. Never waits for it.
    pub(crate) fn acquire(vfs: &dyn Vfs, layout: &Layout) -> Result<Self, LockError> {
        let path = layout.lock();
        let failed = |doing| {
            let path = path.clone();
            move |source| LockError::Io { doing, path, source }
        };
        // The process looks at its own list before it opens the file: on NFS, closing it again could end the lock.
        let id = find_or_create(vfs, &path).map_err(failed("create"))?;
        let Some(registered) = Registered::new(id) else {
            return Err(LockError::Held { path, holder: Some("this process".into()) });
        };
        let file = vfs.open(&path, Access::ReadWrite).map_err(failed("open"))?;
        let stat = file.stat().map_err(failed("open"))?;
        if file_id(&stat) != id {
            let source = io::Error::other("it was replaced in the same moment");
            return Err(failed("open")(source));
        }
        if !file.try_lock().map_err(failed("lock"))? {
            let holder = read_hint(&file);
            return Err(LockError::Held { path, holder });
        }
        // A file that has other names may be anybody's.
        if stat.n_links == 1 {
            write_hint(vfs, &file);
        }
        Ok(Self { file, _registered: registered })
    }
}

fn find_or_create(vfs: &dyn Vfs, path: &Path) -> io::Result<FileId> {
    match vfs.stat(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found.map(|stat| file_id(&stat)),
    }
    match vfs.create_new(path) {
        // Another process was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => vfs.stat(path).map(|stat| file_id(&stat)),
        created => created?.stat().map(|stat| file_id(&stat)),
    }
}

fn file_id(stat: &Stat) -> FileId {
    (stat.dev, stat.ino)
}

/// The text that tells others who has the lock. It means nothing else, and does without room on the disk.
fn write_hint(vfs: &dyn Vfs, file: &FileRef) {
    let host = rustix::system::uname();
    let host = host.nodename().to_string_lossy();
    let since = vfs.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let hint = format!("pid {} host {host} started {since}\n", std::process::id());
    if file.set_len(0).is_ok() {
        drop(file.write_all_at(hint.as_bytes(), 0));
    }
}

/// Reads the text. It may be anything: it is cut off and escaped.
fn read_hint(file: &FileRef) -> Option<String> {
    let mut bytes = vec![0; MAX_HINT];
    let n = file.read_at(&mut bytes, 0).ok()?;
    bytes.truncate(n);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    (!text.is_empty()).then(|| text.escape_debug().to_string())
}

/// An entry in [`HELD`].
#[derive(Debug)]
struct Registered(FileId);

impl Registered {
    /// Registers a file, unless it is registered.
    fn new(id: FileId) -> Option<Self> {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert_default().insert(id).then(|| Self(id))
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert_default().remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::vfs::RealVfs;

    fn acquire(root: &Path) -> Result<StoreLock, LockError> {
        StoreLock::acquire(&RealVfs::default(), &Layout::new(root.into()))
    }

    /// By the process's own list, as opposed to the lock of the file.
    fn refused_by_this_process(acquired: Result<StoreLock, LockError>) -> bool {
        matches!(acquired, Err(LockError::Held { holder: Some(holder), .. }) if holder == "this process")
    }

    #[test]
    fn second_open_in_the_process_is_refused_until_the_first_ends() {
        let dir = tempfile::tempdir().unwrap();
        let lock = acquire(dir.path()).unwrap();
        assert!(refused_by_this_process(acquire(dir.path())));
        drop(lock);
        acquire(dir.path()).unwrap();
    }

    #[test]
    fn second_open_through_a_symlink_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        symlink("store", dir.path().join("alias")).unwrap();
        let _lock = acquire(&dir.path().join("store")).unwrap();
        assert!(refused_by_this_process(acquire(&dir.path().join("alias"))));
    }

    #[test]
    fn refusal_by_another_handle_names_the_holder_escaped_and_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        fs::write(&path, format!("pid 7 \u{1b}[31m{}", "x".repeat(2 * MAX_HINT))).unwrap();
        let other = fs::File::open(&path).unwrap();
        other.lock().unwrap();
        let Err(LockError::Held { holder: Some(holder), .. }) = acquire(dir.path()) else { panic!() };
        assert!(holder.starts_with("pid 7 \\u{1b}[31mxxx"), "{holder}");
        assert!(holder.len() < MAX_HINT + 16);
        drop(other);
        acquire(dir.path()).unwrap();
    }

    #[test]
    fn holder_is_written_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("LOCK"), "x".repeat(1000)).unwrap();
        drop(acquire(dir.path()).unwrap());
        let hint = fs::read_to_string(dir.path().join("LOCK")).unwrap();
        assert!(hint.starts_with(&format!("pid {} host ", std::process::id())), "{hint}");
        assert!(hint.len() < 1000 && hint.ends_with('\n'));
    }

    #[test]
    fn link_instead_of_a_lock_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("elsewhere"), "").unwrap();
        symlink("elsewhere", dir.path().join("LOCK")).unwrap();
        assert!(matches!(acquire(dir.path()), Err(LockError::Io { doing: "open", .. })));
    }

    #[test]
    fn file_that_has_other_names_is_locked_and_not_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("elsewhere"), "precious").unwrap();
        fs::hard_link(dir.path().join("elsewhere"), dir.path().join("LOCK")).unwrap();
        let _lock = acquire(dir.path()).unwrap();
        assert!(refused_by_this_process(acquire(dir.path())));
        assert_eq!(fs::read(dir.path().join("elsewhere")).unwrap(), b"precious");
    }

    #[test]
    fn failed_acquire_leaves_no_registration() {
        let dir = tempfile::tempdir().unwrap();
        let other = fs::File::create(dir.path().join("LOCK")).unwrap();
        other.lock().unwrap();
        assert!(matches!(acquire(dir.path()), Err(LockError::Held { holder: None, .. })));
        drop(other);
        acquire(dir.path()).unwrap();
    }
}
