//! What belongs to redb and is dropped without its panics.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
};

/// A value of redb. Dropping it closes files and ends transactions, which goes wrong where the file has gone bad; nobody
/// who lets go of it may be torn down by that. The next opening finds what is wrong.
///
/// Over a bad page redb may panic while it unwinds, which ends the process: a file that is known to be bad is not closed, but
/// [left](Self::leave).
pub(super) struct Closing<T> {
    value: Option<T>,
    is_left: AtomicBool,
}

impl<T> Closing<T> {
    pub(super) fn new(value: T) -> Self {
        Self { value: Some(value), is_left: AtomicBool::new(false) }
    }

    /// Has it stay in memory for good. Its file is closed all the same.
    pub(super) fn leave(&self) {
        self.is_left.store(true, Ordering::Relaxed);
    }
}

impl<T> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("it is there until it is dropped"))
    }
}

impl<T> Drop for Closing<T> {
    fn drop(&mut self) {
        let value = self.value.take();
        if *self.is_left.get_mut() {
            std::mem::forget(value);
        } else if catch_unwind(AssertUnwindSafe(move || drop(value))).is_err() {
            tracing::warn!("closing the index panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        index::Index,
        layout::Layout,
        vfs::{Fault, FaultKind, FaultVfs, Op, Ops, RealVfs, Repeat, Vfs},
    };

    /// The committer closes the index when it opens it anew or writes it anew, and has to go on.
    #[test]
    fn panic_while_the_index_is_closed_harms_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path().into());
        std::fs::create_dir(layout.temp_dir()).unwrap();
        let faults = FaultVfs::new(Arc::new(RealVfs::default()));
        let vfs: Arc<dyn Vfs> = Arc::new(faults.clone());
        let open = || Index::open(&vfs, &layout, Some(&[7; 16]), 1 << 20).unwrap();
        let index = open();
        let panics =
            Fault { at: 1, repeat: Repeat::Once, kind: FaultKind::Panic, only: Ops::Just(Op::WriteAt) };
        faults.arm(panics);
        drop(index);
        assert_eq!(faults.fired().map(|fired| fired.op), Some(Op::WriteAt));
        assert_eq!(open().store_id().unwrap(), [7; 16]);
    }
}
