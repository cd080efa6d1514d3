//! The file system, clock and randomness of the machine, by way of std and rustix.

mod nowait;

use std::{
    ffi::OsString,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};

use self::nowait::{Device, Devices};
use super::{Access, FileRef, Kind, Stat, Vfs, VfsFile};

/// The real file system.
///
/// Clones share what was learned about which file systems can read without waiting (E70).
#[derive(Clone, Debug, Default)]
pub struct RealVfs {
    devices: Arc<Devices>,
}

impl RealVfs {
    fn file(&self, file: File, dev: u64) -> RealFile {
        RealFile { device: self.devices.get(dev), file }
    }
}

impl Vfs for RealVfs {
    fn create_new(&self, path: &Path) -> io::Result<FileRef> {
        let file = create_private(path)?;
        let dev = file.metadata()?.dev();
        Ok(Arc::new(self.file(file, dev)))
    }

    fn create_user(&self, path: &Path) -> io::Result<FileRef> {
        let file = File::options().read(true).write(true).create_new(true).open(path)?;
        let dev = file.metadata()?.dev();
        Ok(Arc::new(self.file(file, dev)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<FileRef> {
        let mode = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadWrite => OFlags::RDWR,
        };
        let (file, dev) = open_regular(path, mode | OFlags::NOFOLLOW)?;
        Ok(Arc::new(self.file(file, dev)))
    }

    fn open_user(&self, path: &Path) -> io::Result<FileRef> {
        // Merely opening a device can have effects, so look first. What is opened then is looked at again.
        require_regular(&fs::metadata(path)?)?;
        let (file, dev) = open_regular(path, OFlags::RDONLY)?;
        Ok(Arc::new(self.file(file, dev)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        rustix::fs::mkdir(path, Mode::RWXU)?;
        let made_private = || {
            // Not through a descriptor: under a umask like 0777 the directory cannot be opened yet.
            if fs::symlink_metadata(path)?.mode() & 0o777 != 0o700 {
                fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
            }
            Ok(())
        };
        made_private().inspect_err(|_| drop(fs::remove_dir(path)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(stat_from(&fs::symlink_metadata(path)?))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match rename_noreplace(from, to) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_and_unlink(from, to),
            other => Ok(other?),
        }
    }

    fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn reflink(&self, from: &Path, to: &Path) -> io::Result<()> {
        share_blocks(from, to).map_err(|e| match e.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
                io::Error::new(io::ErrorKind::Unsupported, e)
            }
            _ => e,
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?;
        File::from(dir).sync_all()
    }

    fn canonicalize(&self, path: &Path) -> io::Result<PathBuf> {
        fs::canonicalize(path)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn random(&self, buf: &mut [u8]) {
        let from_system = File::open("/dev/urandom").and_then(|mut source| source.read_exact(buf));
        if from_system.is_err() {
            // No /dev in a bare chroot. The keys of std's hash maps come from the system as well.
            let mut hasher = blake3::Hasher::new();
            for word in 0..8_u64 {
                hasher.update(&RandomState::new().hash_one(word).to_le_bytes());
            }
            hasher.finalize_xof().fill(buf);
        }
    }
}

/// A file of the real file system.
#[derive(Debug)]
struct RealFile {
    file: File,
    device: Arc<Device>,
}

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.device.read_at_nowait(&self.file, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_from(&self.file.metadata()?))
    }

    fn drop_cached(&self) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
        rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed)?;
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

/// Creates a file that only its owner can read and write.
fn create_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let private = Mode::RUSR | Mode::WUSR;
    let file = File::from(rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, private))?);
    let made_private = || {
        if file.metadata()?.mode() & 0o777 != 0o600 {
            rustix::fs::fchmod(&file, private)?;
        }
        Ok(())
    };
    match made_private() {
        Ok(()) => Ok(file),
        Err(e) => {
            drop(fs::remove_file(path));
            Err(e)
        }
    }
}

/// Opens a regular file and says on which device it lies.
fn open_regular(path: &Path, flags: OFlags) -> io::Result<(File, u64)> {
    // NONBLOCK: a fifo that took the place of the file must not hold us up. It means nothing on regular files.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = rustix::io::retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()));
    let file = File::from(opened.map_err(|errno| match errno {
        // Sockets, and devices that nothing drives.
        Errno::NXIO | Errno::NODEV => io::Error::new(io::ErrorKind::InvalidInput, errno),
        errno => errno.into(),
    })?);
    let metadata = file.metadata()?;
    require_regular(&metadata)?;
    Ok((file, metadata.dev()))
}

fn require_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_file() {
        Ok(())
    } else if metadata.is_dir() {
        Err(io::ErrorKind::IsADirectory.into())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn stat_from(metadata: &fs::Metadata) -> Stat {
    let file_type = metadata.file_type();
    let kind = if file_type.is_file() {
        Kind::File
    } else if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        Kind::Symlink
    } else {
        Kind::Other
    };
    Stat {
        kind,
        dev: metadata.dev(),
        ino: metadata.ino(),
        size: metadata.size(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        uid: metadata.uid(),
        mode: metadata.mode() & 0o7777,
    }
}

/// Times beyond the years 1678 to 2262 do not fit and become the nearest that does.
fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_noreplace(from: &Path, to: &Path) -> Result<(), Errno> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_noreplace(_from: &Path, _to: &Path) -> Result<(), Errno> {
    Err(Errno::NOSYS)
}

/// Renames where the system cannot rename without replacing. A crash in between leaves both names.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from).inspect_err(|_| drop(fs::remove_file(to)))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn share_blocks(from: &Path, to: &Path) -> io::Result<()> {
    require_regular(&fs::metadata(from)?)?;
    let (from, _) = open_regular(from, OFlags::RDONLY)?;
    let target = create_private(to)?;
    reflink_copy::reflink_file(&from, &target).inspect_err(|_| drop(fs::remove_file(to)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share_blocks(from: &Path, to: &Path) -> io::Result<()> {
    require_regular(&fs::metadata(from)?)?;
    reflink_copy::reflink(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).inspect_err(|_| drop(fs::remove_file(to)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use rustix::fs::FileType;

    use super::*;

    fn setup() -> (tempfile::TempDir, RealVfs) {
        (tempfile::tempdir().unwrap(), RealVfs::default())
    }

    fn kind_of(result: io::Result<impl Sized>) -> io::ErrorKind {
        result.err().unwrap().kind()
    }

    fn fifo(path: &Path) {
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(fs::symlink_metadata(path).unwrap().file_type().is_fifo());
    }

    #[test]
    fn created_file_is_new_and_private() {
        let (dir, vfs) = setup();
        let path = dir.path().join("file");
        let file = vfs.create_new(&path).unwrap();
        assert_eq!((file.stat().unwrap().mode, file.stat().unwrap().kind), (0o600, Kind::File));
        assert_eq!(kind_of(vfs.create_new(&path)), io::ErrorKind::AlreadyExists);
        symlink("nowhere", dir.path().join("link")).unwrap();
        assert_eq!(kind_of(vfs.create_new(&dir.path().join("link"))), io::ErrorKind::AlreadyExists);
        assert!(!dir.path().join("nowhere").exists());
        vfs.create_dir(&dir.path().join("dir")).unwrap();
        assert_eq!(vfs.stat(&dir.path().join("dir")).unwrap().mode, 0o700);
        assert_eq!(kind_of(vfs.create_dir(&dir.path().join("dir"))), io::ErrorKind::AlreadyExists);
    }

    /// The umask belongs to the process, so this test starts itself again under others.
    #[test]
    fn umask_neither_widens_nor_narrows_what_is_created() {
        const DIR: &str = "BLOB_FS_TEST_UMASK_DIR";
        if let Some(dir) = std::env::var_os(DIR) {
            let (dir, vfs) = (PathBuf::from(dir), RealVfs::default());
            assert_eq!(vfs.create_new(&dir.join("file")).unwrap().stat().unwrap().mode, 0o600);
            vfs.create_dir(&dir.join("dir")).unwrap();
            assert_eq!(vfs.stat(&dir.join("dir")).unwrap().mode, 0o700);
            return;
        }
        for umask in ["0000", "0777"] {
            let (dir, _) = setup();
            let status = std::process::Command::new("sh")
                .args(["-c", &format!("umask {umask} && exec \"$0\" \"$@\"")])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "vfs::real::tests::umask_neither_widens_nor_narrows_what_is_created"])
                .env(DIR, dir.path())
                .status();
            assert!(status.unwrap().success(), "{umask}");
            assert!(dir.path().join("dir").exists(), "the test has another name now");
        }
    }

    #[test]
    fn file_of_the_store_is_regular_and_no_link() {
        let (dir, vfs) = setup();
        let path = |name: &str| dir.path().join(name);
        drop(vfs.create_new(&path("file")).unwrap());
        symlink("file", path("link")).unwrap();
        fifo(&path("fifo"));
        for access in [Access::Read, Access::ReadWrite] {
            assert!(vfs.open(&path("file"), access).is_ok());
            let refused = vfs.open(&path("link"), access).err().unwrap();
            assert_eq!(refused.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
            assert_eq!(kind_of(vfs.open(&path("fifo"), access)), io::ErrorKind::InvalidInput);
            assert_eq!(kind_of(vfs.open(dir.path(), access)), io::ErrorKind::IsADirectory);
            assert_eq!(kind_of(vfs.open(&path("none"), access)), io::ErrorKind::NotFound);
        }
        let read_only = vfs.open(&path("file"), Access::Read).unwrap();
        assert!(read_only.write_at(b"x", 0).is_err());
    }

    #[test]
    fn user_file_may_be_a_link_but_nothing_that_blocks() {
        let (dir, vfs) = setup();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), b"abc").unwrap();
        symlink("file", path("link")).unwrap();
        symlink(dir.path(), path("dirlink")).unwrap();
        fifo(&path("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        assert_eq!(vfs.open_user(&path("link")).unwrap().stat().unwrap().size, 3);
        for name in [path("fifo"), path("socket"), "/dev/null".into()] {
            assert_eq!(kind_of(vfs.open_user(&name)), io::ErrorKind::InvalidInput, "{}", name.display());
        }
        assert_eq!(kind_of(vfs.open_user(&path("dirlink"))), io::ErrorKind::IsADirectory);
        assert_eq!(kind_of(open_regular(&path("socket"), OFlags::RDONLY)), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn stat_tells_kinds_apart_and_follows_no_link() {
        let (dir, vfs) = setup();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), b"abc").unwrap();
        symlink("file", path("link")).unwrap();
        fifo(&path("fifo"));
        let kind = |name: &str| vfs.stat(&path(name)).unwrap().kind;
        assert_eq!(
            [kind("file"), kind("link"), kind("fifo"), kind("")],
            [Kind::File, Kind::Symlink, Kind::Other, Kind::Dir]
        );
        let (named, open) =
            (vfs.stat(&path("file")).unwrap(), vfs.open_user(&path("file")).unwrap().stat().unwrap());
        assert_eq!(named, open);
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        assert!(age.abs_diff(u128::try_from(named.mtime_ns).unwrap()) < 60_000_000_000);
        assert_eq!(nanoseconds(i64::MAX / 10, 5), i64::MAX);
    }

    #[test]
    fn rename_does_not_replace_and_replace_does() {
        let (dir, vfs) = setup();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("a"), b"a").unwrap();
        fs::write(path("b"), b"b").unwrap();
        assert_eq!(kind_of(vfs.rename(&path("a"), &path("b"))), io::ErrorKind::AlreadyExists);
        assert_eq!(kind_of(link_and_unlink(&path("a"), &path("b"))), io::ErrorKind::AlreadyExists);
        assert_eq!(kind_of(vfs.hard_link(&path("a"), &path("b"))), io::ErrorKind::AlreadyExists);
        vfs.rename(&path("a"), &path("c")).unwrap();
        link_and_unlink(&path("c"), &path("d")).unwrap();
        assert_eq!((fs::read(path("b")).unwrap(), fs::read(path("d")).unwrap()), (b"b".into(), b"a".into()));
        vfs.replace(&path("d"), &path("b")).unwrap();
        assert_eq!(fs::read(path("b")).unwrap(), b"a");
        assert_eq!(vfs.read_dir(dir.path()).unwrap(), ["b"]);
        vfs.sync_dir(dir.path()).unwrap();
        vfs.remove_file(&path("b")).unwrap();
        assert!(vfs.read_dir(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn reflink_makes_a_private_copy_or_leaves_nothing() {
        let (dir, vfs) = setup();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("from"), b"abc").unwrap();
        fs::set_permissions(path("from"), fs::Permissions::from_mode(0o444)).unwrap();
        match vfs.reflink(&path("from"), &path("to")) {
            Ok(()) => {
                assert_eq!(fs::read(path("to")).unwrap(), b"abc");
                assert_eq!(vfs.stat(&path("to")).unwrap().mode, 0o600);
            }
            Err(e) => {
                assert_eq!(e.kind(), io::ErrorKind::Unsupported);
                assert!(!path("to").exists());
            }
        }
        fs::write(path("taken"), b"taken").unwrap();
        assert_eq!(kind_of(vfs.reflink(&path("from"), &path("taken"))), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path("taken")).unwrap(), b"taken");
        assert_eq!(kind_of(vfs.reflink(&path("none"), &path("new"))), io::ErrorKind::NotFound);
        assert_eq!(kind_of(vfs.reflink(dir.path(), &path("new"))), io::ErrorKind::IsADirectory);
        assert!(!path("new").exists());
    }

    #[test]
    fn bytes_come_back() {
        let (dir, vfs) = setup();
        let file = vfs.create_new(&dir.path().join("file")).unwrap();
        file.write_all_at(b"0123456789", 0).unwrap();
        file.write_all_at(b"ab", 20).unwrap();
        file.set_len(21).unwrap();
        file.sync_data().unwrap();
        file.drop_cached().unwrap();
        let mut buf = [9; 21];
        file.read_exact_at(&mut buf, 0).unwrap();
        assert_eq!(&buf, b"0123456789\0\0\0\0\0\0\0\0\0\0a");
        assert_eq!(file.read_at(&mut buf, 21).unwrap(), 0);
        assert_eq!(kind_of(file.read_exact_at(&mut buf, 1)), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn lock_belongs_to_the_handle() {
        let (dir, vfs) = setup();
        let path = dir.path().join("LOCK");
        let first = vfs.create_new(&path).unwrap();
        assert!(first.try_lock().unwrap());
        let second = vfs.open(&path, Access::ReadWrite).unwrap();
        assert!(!second.try_lock().unwrap());
        drop(first);
        assert!(second.try_lock().unwrap());
    }

    #[test]
    fn random_bytes_differ() {
        let vfs = RealVfs::default();
        let (mut a, mut b) = ([0; 32], [0; 32]);
        vfs.random(&mut a);
        vfs.random(&mut b);
        assert!(a != b && a != [0; 32] && b != [0; 32]);
    }
}
