use rustix::io::Errno;

use super::*;
use crate::vfs::RealVfs;

const ENOSPC: i32 = Errno::NOSPC.raw_os_error();
const EIO: i32 = Errno::IO.raw_os_error();

struct Setup {
    _dir: tempfile::TempDir,
    path: PathBuf,
    vfs: FaultVfs,
    file: FileRef,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let vfs = FaultVfs::new(Arc::new(RealVfs::default()));
    let file = vfs.create_new(&path).unwrap();
    Setup { _dir: dir, path, vfs, file }
}

fn fault(at: u64, repeat: Repeat, kind: FaultKind, only: Ops) -> Fault {
    Fault { at, repeat, kind, only }
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|e| e.raw_os_error())
}

#[test]
fn operation_that_was_chosen_fails_and_no_other() {
    let setup = setup();
    let Setup { path, vfs, file, .. } = &setup;
    vfs.arm(fault(2, Repeat::Once, FaultKind::Error(ENOSPC), Ops::Writes));
    file.stat().unwrap();
    file.write_at(b"a", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(vfs.fired(), None);
    assert_eq!(errno(file.set_len(9)), Some(ENOSPC));
    file.set_len(3).unwrap();
    assert_eq!(vfs.fired(), Some(Operation { op: Op::SetLen, path: path.clone() }));
    assert_eq!((vfs.matched(), vfs.count()), (3, 6));
    assert_eq!(vfs.operations().first(), Some(&Operation { op: Op::CreateNew, path: path.clone() }));
}

#[test]
fn sticky_fault_lasts_until_disarmed() {
    let setup = setup();
    let Setup { path, vfs, file, .. } = &setup;
    vfs.arm(fault(1, Repeat::Sticky, FaultKind::Error(EIO), Ops::Writes));
    for _ in 0..3 {
        assert_eq!(errno(file.write_at(b"a", 0)), Some(EIO));
    }
    assert_eq!(errno(file.set_len(1)), Some(EIO));
    vfs.stat(path).unwrap();
    vfs.disarm();
    file.write_at(b"a", 0).unwrap();
    assert_eq!(vfs.fired().map(|operation| operation.op), Some(Op::WriteAt));
}

#[test]
fn failed_sync_is_reported_once() {
    let setup = setup();
    let Setup { vfs, file, .. } = &setup;
    vfs.arm(fault(1, Repeat::Sticky, FaultKind::Error(EIO), Ops::Syncs));
    assert_eq!(errno(file.sync_data()), Some(EIO));
    file.sync_data().unwrap();
    file.write_at(b"a", 0).unwrap();
    assert_eq!(errno(file.sync_data()), Some(EIO));
}

#[test]
fn short_writes_write_what_they_say() {
    let setup = setup();
    let Setup { vfs, file, path, .. } = &setup;
    vfs.arm(fault(1, Repeat::Once, FaultKind::ShortWrite, Ops::Any));
    file.stat().unwrap(); // does not match: it is no write
    assert_eq!(file.write_at(b"0123456789", 0).unwrap(), 5);
    assert_eq!(std::fs::read(path).unwrap(), b"01234");
    vfs.arm(fault(1, Repeat::Once, FaultKind::TornWrite(ENOSPC), Ops::Any));
    assert_eq!(errno(file.write_all_at(b"abcd", 5)), Some(ENOSPC));
    assert_eq!(std::fs::read(path).unwrap(), b"01234ab");
}

#[test]
fn done_error_has_been_done() {
    let setup = setup();
    let Setup { vfs, path, file, .. } = &setup;
    vfs.arm(fault(1, Repeat::Sticky, FaultKind::DoneError(EIO), Ops::Any));
    assert_eq!(errno(file.write_at(b"ab", 0)), Some(EIO));
    assert_eq!(std::fs::read(path).unwrap(), b"ab");
    assert_eq!(errno(vfs.remove_file(path)), Some(EIO));
    assert!(!path.exists());
}

#[test]
fn sets_do_not_overlap() {
    for op in [Op::SyncDir, Op::SyncData] {
        assert!(Ops::Syncs.contains(op) && !Ops::Writes.contains(op) && Ops::Any.contains(op));
    }
    for op in [Op::Rename, Op::WriteAt, Op::CreateNew, Op::RemoveFile] {
        assert!(Ops::Writes.contains(op) && !Ops::Syncs.contains(op));
    }
    for op in [Op::ReadAt, Op::Stat, Op::Open, Op::TryLock] {
        assert!(!Ops::Writes.contains(op) && !Ops::Syncs.contains(op) && Ops::Just(op).contains(op));
    }
}
