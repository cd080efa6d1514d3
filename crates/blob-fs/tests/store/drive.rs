//! Driving futures by hand, and runtimes to do it on.

use std::{
    pin::pin,
    process::Command,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

use tokio::runtime::{Builder, Runtime};

/// No step of any test takes so long.
const LONG: Duration = Duration::from_secs(20);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future up to `n` times, each time it asks for it, then drops it; `None`: it was not done by then.
pub(crate) fn poll_times<T>(n: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    for i in 0..n {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        if i + 1 < n {
            std::thread::park_timeout(LONG);
        }
    }
    None
}

/// Waits until something has become true.
#[track_caller]
pub(crate) fn eventually(mut what: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < LONG, "it never came");
        std::thread::yield_now();
    }
}

/// Runtimes of all kinds, the narrowest among them.
pub(crate) fn runtimes() -> [Runtime; 3] {
    [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap(),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    ]
}

/// Whether this process runs one test alone. Otherwise that test has been run, by its full name, in another process:
/// for what cannot be done to a process in which other tests run.
pub(crate) fn alone(name: &str) -> bool {
    const ALONE: &str = "BLOB_FS_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut test = Command::new(std::env::current_exe().unwrap());
    let output = test.args(["--exact", name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "there is no test {name}");
    false
}
