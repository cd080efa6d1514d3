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
use super::{Access, FileRef, Kind, Stat, Vfs, VfsFile, Whose};

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
        let file = create_for_user(path)?;
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

    fn reflink(&self, from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
        share_blocks(from, to, whose).map_err(cannot_share)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn available(&self, path: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
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

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn allocate(&self, len: u64) -> io::Result<()> {
        let flags = rustix::fs::FallocateFlags::empty();
        let allocated = rustix::io::retry_on_intr(|| rustix::fs::fallocate(&self.file, flags, 0, len));
        allocated.map_err(|e| match e {
            Errno::OPNOTSUPP | Errno::NOSYS => io::Error::new(io::ErrorKind::Unsupported, e),
            e => e.into(),
        })
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

    fn unlock(&self) -> io::Result<()> {
        self.file.unlock()
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
        n_links: metadata.nlink(),
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

/// Creates a file with the mode that the umask leaves.
fn create_for_user(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create_new(true).open(path)
}

/// Gives one kind to all the ways in which systems say that these two files cannot share blocks.
fn cannot_share(e: io::Error) -> io::Error {
    match e.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS) => {
            io::Error::new(io::ErrorKind::Unsupported, e)
        }
        _ => e,
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn share_blocks(from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
    require_regular(&fs::metadata(from)?)?;
    let (from, _) = open_regular(from, OFlags::RDONLY)?;
    let target = match whose {
        Whose::Store => create_private(to)?,
        Whose::User => create_for_user(to)?,
    };
    reflink_copy::reflink_file(&from, &target).inspect_err(|_| drop(fs::remove_file(to)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn share_blocks(from: &Path, to: &Path, whose: Whose) -> io::Result<()> {
    require_regular(&fs::metadata(from)?)?;
    reflink_copy::reflink(from, to)?;
    match whose {
        Whose::User => Ok(()),
        Whose::Store => fs::set_permissions(to, fs::Permissions::from_mode(0o600))
            .inspect_err(|_| drop(fs::remove_file(to))),
    }
}

#[cfg(test)]
mod tests;
