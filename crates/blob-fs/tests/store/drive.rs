//! Driving futures by hand, and runtimes to do it on.

use std::{
    pin::pin,
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
