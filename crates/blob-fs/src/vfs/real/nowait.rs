//! Reading what is in the page cache, and only that (E70).

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

/// What is known about the devices that files were opened on.
#[derive(Debug, Default)]
pub(super) struct Devices(Mutex<HashMap<u64, Arc<Device>>>);

impl Devices {
    pub(super) fn get(&self, dev: u64) -> Arc<Device> {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(devices.entry(dev).or_default())
    }
}

/// How files of one device are read without waiting; one of the constants below.
#[derive(Debug, Default)]
pub(super) struct Device(AtomicU8);

/// Ask the system; also the state before anything is known.
const ASK: u8 = 0;
/// The system cannot say, but nothing there waits for a device: plain reads.
const MEMORY: u8 = 1;
/// The system cannot say: nothing is at hand.
const BLOCKING: u8 = 2;

impl Device {
    pub(super) fn read_at_nowait(
        &self,
        file: &File,
        buf: &mut [u8],
        offset: u64,
    ) -> io::Result<Option<usize>> {
        if self.0.load(Ordering::Relaxed) == ASK
            && let Some(answer) = self.ask(file, buf, offset)?
        {
            return Ok(some_bytes(answer));
        }
        match self.0.load(Ordering::Relaxed) {
            MEMORY => file.read_at(buf, offset).map(some_bytes),
            _ => Ok(None),
        }
    }

    /// Reads with `RWF_NOWAIT`; `None`: the device cannot do that, and is now known for it.
    #[cfg(target_os = "linux")]
    fn ask(&self, file: &File, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, IoSliceMut, ReadWriteFlags, preadv2};

        if i64::try_from(offset).is_err() {
            return Ok(Some(0)); // -1 would read where the cursor is, and EINVAL must not be blamed on the device
        }
        match preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(Some(n)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(Some(0)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => {
                self.0.store(if lies_in_memory(file) { MEMORY } else { BLOCKING }, Ordering::Relaxed);
                Ok(None)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn ask(&self, _file: &File, _buf: &mut [u8], _offset: u64) -> io::Result<Option<usize>> {
        self.0.store(BLOCKING, Ordering::Relaxed);
        Ok(None)
    }
}

/// Nothing read says nothing: neither that the file ends nor that more would come.
fn some_bytes(n: usize) -> Option<usize> {
    (n > 0).then_some(n)
}

#[cfg(target_os = "linux")]
fn lies_in_memory(file: &File) -> bool {
    const TMPFS: [u8; 4] = 0x0102_1994_u32.to_le_bytes();
    const RAMFS: [u8; 4] = 0x8584_58f6_u32.to_le_bytes();
    // The type of the field differs between architectures, its low 32 bits do not.
    rustix::fs::fstatfs(file)
        .is_ok_and(|stat| matches!(stat.f_type.to_le_bytes().first_chunk(), Some(&(TMPFS | RAMFS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(state: u8) -> Device {
        Device(AtomicU8::new(state))
    }

    fn file(dir: &std::path::Path) -> File {
        std::fs::write(dir.join("file"), b"0123456789").unwrap();
        File::open(dir.join("file")).unwrap()
    }

    #[test]
    fn nothing_read_is_never_taken_for_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        for state in [ASK, MEMORY, BLOCKING] {
            let mut buf = [0; 4];
            assert_eq!(device(state).read_at_nowait(&file, &mut buf, 10).unwrap(), None, "{state}");
            assert_eq!(device(state).read_at_nowait(&file, &mut [], 0).unwrap(), None, "{state}");
        }
    }

    #[test]
    fn what_is_at_hand_is_read_as_the_device_allows() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        let mut buf = [0; 4];
        assert_eq!(device(MEMORY).read_at_nowait(&file, &mut buf, 8).unwrap(), Some(2));
        assert_eq!(&buf[..2], b"89");
        assert_eq!(device(BLOCKING).read_at_nowait(&file, &mut buf, 0).unwrap(), None);
        // Just written, so in the page cache, unless the file system cannot tell; then it is known for it.
        let asked = device(ASK);
        match asked.read_at_nowait(&file, &mut buf, 0).unwrap() {
            Some(n) => assert_eq!(&buf[..n], &b"0123"[..n]),
            None => assert!(asked.0.load(Ordering::Relaxed) == BLOCKING || cfg!(target_os = "linux")),
        }
    }

    /// The system takes the offset -1 for the place where a cursor is, and others for a mistake.
    #[test]
    fn offset_out_of_range_reads_nothing_and_is_not_blamed_on_the_device() {
        let dir = tempfile::tempdir().unwrap();
        let file = file(dir.path());
        for offset in [u64::MAX, 1 << 63] {
            let asked = device(ASK);
            assert_eq!(asked.read_at_nowait(&file, &mut [0; 4], offset).unwrap(), None);
            assert_eq!(asked.0.load(Ordering::Relaxed) == ASK, cfg!(target_os = "linux"));
        }
    }

    /// Files in /proc know no `RWF_NOWAIT`.
    #[cfg(target_os = "linux")]
    #[test]
    fn device_that_cannot_tell_is_remembered() {
        let devices = Devices::default();
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(devices.get(1).read_at_nowait(&file, &mut [0; 4], 0).unwrap(), None);
        assert_eq!(devices.get(1).0.load(Ordering::Relaxed), BLOCKING);
        assert_eq!(devices.get(2).0.load(Ordering::Relaxed), ASK);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_file_systems_are_known() {
        assert!(!lies_in_memory(&File::open("/proc/self/status").unwrap()));
        if let Ok(dir) = tempfile::tempdir_in("/dev/shm") {
            assert!(lies_in_memory(&file(dir.path())));
        }
    }
}
