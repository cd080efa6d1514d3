//! Objects of the seed whose futures are not `Send`: each lives on a thread of its own.

use std::{io, panic::resume_unwind, sync::mpsc as blocking, thread};

use futures_lite::future::{block_on, or};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

use crate::limit::{PATIENCE, hung, within_patience};

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// An object on its thread, which takes calls of type `C`.
///
/// It behaves as if it were here: it keeps its state between calls, a call that is dropped is dropped there, a panic
/// comes out of the call, and dropping this returns when the object is gone.
#[derive(Debug)]
pub(crate) struct Served<C> {
    calls: Option<mpsc::UnboundedSender<C>>,
    thread: Option<thread::JoinHandle<()>>,
    gone: blocking::Receiver<()>,
}

impl<C: Send + 'static> Served<C> {
    /// Starts a thread, inside the runtime of the caller, that opens an object, tells how that went, and takes calls.
    pub(crate) async fn open<T, Serve, Fut>(serve: Serve) -> io::Result<(Self, T)>
    where
        T: Send + 'static,
        Serve: FnOnce(Reply<io::Result<T>>, mpsc::UnboundedReceiver<C>) -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let (opened, is_open) = oneshot::channel();
        let (calls, receiver) = mpsc::unbounded_channel();
        let (alive, gone) = blocking::channel::<()>();
        let runtime = Handle::try_current().ok();
        let thread = thread::Builder::new().name("seed".into()).spawn(move || {
            let _alive = alive;
            let _context = runtime.as_ref().map(Handle::enter);
            block_on(serve(opened, receiver));
        })?;
        let mut served = Self { calls: Some(calls), thread: Some(thread), gone };
        let opened = served.answer_to(is_open).await??;
        Ok((served, opened))
    }

    /// Makes a call and waits for its answer.
    pub(crate) async fn call<T>(&mut self, call: impl FnOnce(Reply<io::Result<T>>) -> C) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        if let Some(calls) = &self.calls {
            // A thread that has ended drops the call, which the answer shows.
            let _ = calls.send(call(reply));
        }
        self.answer_to(answer).await?
    }

    async fn answer_to<T>(&mut self, answer: oneshot::Receiver<T>) -> io::Result<T> {
        match within_patience(answer).await? {
            Ok(answer) => Ok(answer),
            Err(_) => Err(self.why_ended()),
        }
    }

    /// A thread ends before it is told to only by a panic.
    fn why_ended(&mut self) -> io::Error {
        if let Some(Err(panic)) = self.thread.take().map(thread::JoinHandle::join) {
            resume_unwind(panic);
        }
        io::Error::other("the seed panicked in an earlier call")
    }
}

impl<C> Drop for Served<C> {
    fn drop(&mut self) {
        self.calls = None;
        if self.gone.recv_timeout(PATIENCE) == Err(blocking::RecvTimeoutError::Timeout) {
            eprintln!("{}", hung());
        }
    }
}

/// Does the work of a call, on the thread, as long as somebody waits for it.
pub(crate) async fn answer<T>(mut reply: Reply<T>, work: impl Future<Output = T>) {
    let done = async { Some(work.await) };
    let given_up = async {
        reply.closed().await;
        None
    };
    // The work first: a call that was begun and dropped at once was begun.
    if let Some(answer) = or(done, given_up).await {
        let _ = reply.send(answer);
    }
}
