//! How asynchronous code gets blocking work done.

use std::{cell::Cell, future::Future};

use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    task::spawn_blocking,
};

use crate::{Error, Progress, Result};

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Runs blocking work: on the blocking pool, or right here where the thread belongs to it already, or to no runtime.
///
/// The second half keeps a runtime with a single blocking thread from waiting for itself. Dropping the future does
/// not stop work that has begun.
///
/// # Errors
/// [`Error::Io`] when the work panicked or the runtime is shutting down.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if MAY_BLOCK.get() || Handle::try_current().is_err() {
        return work();
    }
    spawn_blocking(move || {
        let _mark = MayBlock::enter();
        work()
    })
    .await
    .map_err(|e| Error::io("run blocking work", "", e.into()))?
}

/// Lives in a future, and with it: lets work on the blocking pool notice that nobody waits for it any more.
#[derive(Debug, Default)]
pub struct Alive(watch::Sender<()>);

/// Goes to the work.
#[derive(Clone, Debug)]
pub struct Watch(watch::Receiver<()>);

impl Alive {
    /// What the work looks at.
    pub fn watch(&self) -> Watch {
        Watch(self.0.subscribe())
    }
}

impl Watch {
    /// Fails with [`Error::Cancelled`] once the future is gone.
    pub fn check(&self) -> Result<()> {
        self.0.has_changed().map(drop).map_err(|_| Error::Cancelled)
    }

    /// Reports an event from a thread that may block; waits for room, but no longer than the future lives.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn send<E: Send + 'static>(&self, progress: &Progress<E>, event: E) -> Result<()> {
        let mut alive = self.0.clone();
        let gone = async {
            while alive.changed().await.is_ok() {}
            Err(Error::Cancelled)
        };
        futures_lite::future::block_on(futures_lite::future::or(progress.send(event), gone))
    }
}

/// Marks the thread; a thread of the pool may serve as one of the runtime's workers later.
struct MayBlock;

impl MayBlock {
    fn enter() -> Self {
        MAY_BLOCK.set(true);
        Self
    }
}

impl Drop for MayBlock {
    fn drop(&mut self) {
        MAY_BLOCK.set(false);
    }
}

/// Drives a whole operation whose future is not `Send` (bao-tree's encoders and decoders) on the blocking pool.
///
/// Dropping the returned future ends the operation at its next await that does not return at once.
///
/// # Errors
/// Those of the operation, and [`Error::Io`] when it panicked.
pub async fn on_blocking_pool<T, Fut>(operation: impl FnOnce() -> Fut + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    Fut: Future<Output = Result<T>>,
{
    // Dropped with this future, which is what the other side waits for.
    let (_alive, dropped) = oneshot::channel::<()>();
    let cancelled = async move {
        let _ = dropped.await;
        Err(Error::Cancelled)
    };
    // Not the runtime's own `block_on`, which refuses to be nested; the thread is inside the runtime's context anyway.
    unblock(move || futures_lite::future::block_on(futures_lite::future::or(cancelled, operation()))).await
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use super::*;

    #[test]
    fn one_blocking_thread_is_enough() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let sum = runtime.block_on(on_blocking_pool(|| async {
            let a = unblock(|| Ok(1)).await?;
            let b = unblock(|| Ok(2)).await?;
            Ok(a + b)
        }));
        assert_eq!(sum.unwrap(), 3);
    }

    #[test]
    fn sender_waits_for_room_no_longer_than_the_future_lives() {
        let (progress, mut receiver) = Progress::channel(1);
        let alive = Alive::default();
        let watch = alive.watch();
        watch.check().unwrap();
        watch.send(&progress, 1).unwrap();
        let sending = std::thread::spawn(move || watch.send(&progress, 2));
        drop(alive);
        assert!(matches!(sending.join().unwrap(), Err(Error::Cancelled)));
        assert_eq!(receiver.try_recv(), Ok(1));
        assert!(receiver.try_recv().is_err());
    }

    #[tokio::test]
    async fn dropping_the_future_ends_the_operation() {
        struct SetOnDrop(Arc<AtomicBool>);
        impl Drop for SetOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ended = Arc::new(AtomicBool::new(false));
        let guard = SetOnDrop(ended.clone());
        let operation = on_blocking_pool(move || async move {
            let _guard = guard;
            std::future::pending::<()>().await;
            Ok(())
        });
        let _ = tokio::time::timeout(Duration::from_millis(10), operation).await;
        while !ended.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    }
}
