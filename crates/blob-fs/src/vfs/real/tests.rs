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
    match vfs.reflink(&path("from"), &path("to"), Whose::Store) {
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
    assert_eq!(
        kind_of(vfs.reflink(&path("from"), &path("taken"), Whose::Store)),
        io::ErrorKind::AlreadyExists
    );
    assert_eq!(fs::read(path("taken")).unwrap(), b"taken");
    assert_eq!(kind_of(vfs.reflink(&path("none"), &path("new"), Whose::Store)), io::ErrorKind::NotFound);
    assert_eq!(kind_of(vfs.reflink(dir.path(), &path("new"), Whose::Store)), io::ErrorKind::IsADirectory);
    assert!(!path("new").exists());
}

#[test]
fn reflink_across_file_systems_is_unsupported_and_a_full_disk_is_not() {
    for (errno, kind) in [
        (Errno::XDEV, io::ErrorKind::Unsupported),
        (Errno::INVAL, io::ErrorKind::Unsupported),
        (Errno::NOTTY, io::ErrorKind::Unsupported),
        (Errno::NOSPC, io::ErrorKind::StorageFull),
    ] {
        assert_eq!(cannot_share(errno.into()).kind(), kind);
    }
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
